"""`lebot doctor`: what is installed, what is missing, how to get it."""

import argparse
import getpass
import grp
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PARTS = {  # extra: what it is for, and its modules
    '': ('run-time', ('numpy', 'serial', 'safetensors', 'yaml')),
    'ros': ('ROS 2 nodes', ('rclpy', 'sensor_msgs', 'nav_msgs', 'diagnostic_msgs', 'std_srvs')),
    'sim': ('simulation and view', ('mujoco', 'gymnasium', 'rich', 'matplotlib')),
    'learn': ('training', ('torch', 'tensorboard')),
    'camera': ('camera driver', ('cv2',)),
    'record': ('bags', ('mcap', 'rosbags')),
}
NEEDED = ('', 'ros', 'sim')  # for `lebot walk`
STABLE = ('lebot-servos', 'lebot-imu', 'lebot-camera')  # links of config/udev/99-lebot.rules
REALTIME = 30  # priority that the servo driver asks for, see config/walk.yaml
RULES = ('etc/udev/rules.d', 'run/udev/rules.d', 'usr/lib/udev/rules.d', 'lib/udev/rules.d')


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
    print(f'realtime   {"SCHED_FIFO":<20} {_realtime()}')
    for about, word in hardware():
        print(f'hardware   {about:<20} {word}')
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


def _realtime() -> str:
    """Whether a control loop may have it: by asking, in a thread that ends with its answer."""
    from lebot_rl_ros.ros.realtime import ask_for_realtime

    with ThreadPoolExecutor(1) as thread:
        scheduling = thread.submit(ask_for_realtime, REALTIME).result()
    return 'ok' if scheduling.startswith('fifo') else scheduling


def hardware(root: Path = Path('/'), ports: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """What can be said of the robot's devices without opening one: subject and finding, by line.

    Nothing of it is an error: without a robot there is one line, which says so.

    Args:
        root: of the file system.
        ports: serial ports on USB; without it they are looked for.
    """
    dev = root / 'dev'
    try:
        from lebot_rl_ros.hardware.wire import latency_timer_advice
        from lebot_rl_ros.robot import share_path

        ports = _usb_ports() if ports is None else ports
    except ImportError as error:
        yield 'serial ports', f'not looked for: {error}'
        return
    links = [name for name in STABLE if (dev / name).is_symlink()]
    if not ports and not links:
        yield (
            'serial ports',
            'none on USB: no robot here; `lebot walk --backend wire` emulates one',
        )
        return
    for port in ports:
        ids = [link.name for link in _links(dev / 'serial/by-id', port)]
        yield port, '; '.join([_access(port), *(f'by-id/{name}' for name in ids)])
        if advice := latency_timer_advice(port, root / 'sys'):
            yield port, advice
    for name in STABLE if links else ():
        link = dev / name
        if name not in links:
            yield f'/dev/{name}', 'not there: not plugged in, or not known to the udev rules'
        elif not link.exists():
            yield f'/dev/{name}', f'points to {os.readlink(link)}, which is not there'
        else:
            yield f'/dev/{name}', f'{link.resolve()}, {_access(str(link))}'
    if not links:
        rules = share_path('config', 'udev', '99-lebot.rules')
        yield '/dev/lebot-*', f'none; sudo cp {rules} /etc/udev/rules.d/, then plug in again'
    if any(found for folder in RULES for found in (root / folder).glob('*brltty*')):
        yield 'brltty', 'installed: it may grab CH340 and CP210x ports; sudo apt remove brltty'


def _usb_ports() -> list[str]:
    """A machine's own ports are no sign of a robot."""
    from serial.tools import list_ports

    return sorted(port.device for port in list_ports.comports() if port.vid is not None)


def _links(folder: Path, port: str) -> list[Path]:
    """The links in a folder that lead to a port."""
    target = os.path.realpath(port)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(link for link in found if os.path.realpath(link) == target)


def _access(path: str) -> str:
    """Whether this user may open a device; if not, what helps."""
    if os.access(path, os.R_OK | os.W_OK):
        return 'ok'
    try:
        number = os.stat(path).st_gid
        group = grp.getgrgid(number)
    except (OSError, KeyError) as error:
        return f'no permission: {error}'
    if getpass.getuser() in group.gr_mem and number not in os.getgroups():
        return f'no permission yet: you are in group {group.gr_name} now, log out and in again'
    return f'no permission: sudo usermod -aG {group.gr_name} $USER, then log out and in again'
