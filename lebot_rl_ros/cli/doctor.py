"""`lebot doctor`: what is installed, what is missing, how to get it."""

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import sys

PARTS = {  # extra: what it is for, and its modules
    '': ('run-time', ('numpy', 'serial', 'safetensors', 'yaml')),
    'ros': ('ROS 2 nodes', ('rclpy', 'sensor_msgs', 'nav_msgs', 'diagnostic_msgs', 'std_srvs')),
    'sim': ('simulation and view', ('mujoco', 'gymnasium', 'rich', 'matplotlib')),
    'learn': ('training', ('torch', 'tensorboard')),
    'camera': ('camera driver', ('cv2',)),
    'record': ('bags', ('mcap', 'rosbags')),
}
NEEDED = ('', 'ros', 'sim')  # for `lebot walk`


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    subparsers.add_parser('doctor', help='what is installed, what is missing, how to get it')


def run(args: argparse.Namespace) -> int:
    """Print a table; 0 if `lebot walk` has all that it needs."""
    healthy = True
    version = sys.version_info
    supported = 'ok' if (3, 10) <= version[:2] <= (3, 13) else 'needs 3.10 to 3.13'
    print(f'python     {version.major}.{version.minor}.{version.micro}   {supported}')
    for extra, (about, modules) in PARTS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        healthy = healthy and not (missing and extra in NEEDED)
        word = (
            'ok'
            if not missing
            else f"missing {', '.join(missing)}: pip install 'lebot_rl_ros[{extra}]'"
        )
        print(f'{extra or "base":<10} {about:<20} {word}')
    print(f'kernel     {"policy inference":<20} {_kernel()}')
    print(f'launch     {"ros2 launch":<20} {_launch()}')
    print(f'display    {"--no-headless":<20} {_display()}')
    discovery = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST (set by lebot)')
    domain = os.environ.get('ROS_DOMAIN_ID', '0')
    print(f'network    {"DDS discovery":<20} {discovery}, domain {domain}')
    try:
        from lebot_rl_ros.control.walker import load_walk
        from lebot_rl_ros.robot import load_robot

        walk = load_walk(load_robot(), 'walk')
        print(f'policy     {"walk":<20} ok, {walk.policy.sha256[:12]}')
    except (ValueError, OSError, ImportError) as error:
        healthy = False
        print(f'policy     {"walk":<20} {error}')
    print('ready: lebot walk' if healthy else 'not ready; `make setup` installs everything')
    return 0 if healthy else 1


def _kernel() -> str:
    try:
        from lebot_rl_ros.policy import kernel

        return kernel.describe()
    except (ValueError, ImportError) as error:
        return str(error)


def _launch() -> str:
    if shutil.which('ros2') and importlib.util.find_spec('launch_ros'):
        return f'ok, launch {importlib.metadata.version("launch")}'
    return (
        'not here (it comes with a ROS 2 install, not with the wheels); '
        '`lebot walk` starts the same graph'
    )


def _display() -> str:
    return (
        'ok'
        if os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
        else 'none: headless only'
    )
