"""`lebot emulate`: a robot's devices on pseudo-terminals, to try drivers and tools on."""

import argparse
import os
import select
import signal
import sys
import time
from pathlib import Path
from tempfile import gettempdir
from types import FrameType

from lebot_rl_ros.hardware.emulation.camera_feed import CameraFeed
from lebot_rl_ros.hardware.emulation.fault_text import WIRE_FAULTS, parse_wire_fault
from lebot_rl_ros.hardware.emulation.robot import EmulatedRobot
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.sim.body import SimulatedBody
from lebot_rl_ros.sim.camera_process import CameraProcess
from lebot_rl_ros.sim.fault_text import parse_fault

PRIORITY = 40  # of SCHED_FIFO, above any driver, where the user may


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    kinds = '\n'.join(f'  {kind:<10} {about}' for kind, (_, about) in WIRE_FAULTS.items())
    parser = subparsers.add_parser(
        'emulate',
        help="the robot's devices on emulated ports",
        description='Servos, IMU and camera of a simulated robot, byte for byte, in real time.',
        epilog='Type a fault and it begins, as in drop:fl_knee:0.2, unplug:bus or '
        f'slip:rr_hip:0.35; clear ends those of the wires.\n\nfaults of the wires:\n{kinds}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--robot', default='lebot', help='name in config/robots, or a path')
    parser.add_argument(
        '--bus', default='feetech', choices=('feetech', 'dynamixel'), help='protocol of the servos'
    )
    parser.add_argument(
        '--ports', type=Path, metavar='DIR', help='where the ports appear (default: a new folder)'
    )
    parser.add_argument('--camera', action='store_true', help='stream its camera over HTTP, too')
    parser.add_argument('--seed', type=int, default=0, help='of the faults')
    parser.add_argument(
        '--duration', type=float, default=0.0, metavar='S', help='end by itself (default: never)'
    )


def run(args: argparse.Namespace) -> int:
    """Answer until interrupted."""
    robot = load_robot(args.robot)
    folder = args.ports or Path(gettempdir()) / f'lebot-{os.getuid()}' / str(os.getpid())
    body = SimulatedBody(robot, seed=args.seed)
    emulated = EmulatedRobot(robot, body, folder, protocol=args.bus, seed=args.seed)
    camera = None
    if args.camera:
        drawer = CameraProcess(args.robot)
        camera = CameraFeed(
            lambda: drawer.draw(body.simulation.qpos[0]),
            15.0,
            emulated.faults,
            on_close=drawer.close,
        )
    ask_for_realtime(PRIORITY)  # hardware is never late
    ended = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    print(f'servos  {folder}/servos   {args.bus}, 1000000 baud')
    print(f'imu     {folder}/imu      WitMotion, 115200 baud')
    if camera:
        print(f'camera  {camera.url}')
    print(f'try     lebot bus monitor --bus {args.bus} --port {folder}/servos')
    print('Type a fault, as in unplug:bus, or clear. Ctrl-C ends.', flush=True)
    words, begin = select.poll(), time.monotonic()
    words.register(sys.stdin, select.POLLIN)
    try:
        while not ended and not 0 < args.duration < time.monotonic() - begin:
            emulated.serve(0.02)
            for event in emulated.faults.take_news():
                print(event, flush=True)
            if words.poll(0):
                line = sys.stdin.readline()
                if not line:
                    words.unregister(sys.stdin)
                _obey(line.strip(), emulated, body)
    finally:
        emulated.close()
        if camera:
            camera.close()
    return 0


def _obey(text: str, emulated: EmulatedRobot, body: SimulatedBody) -> None:
    """Begin the fault that somebody typed."""
    names = emulated.robot.joint_names
    kind = text.partition('@')[0].partition(':')[0]
    try:
        if text == 'clear':
            emulated.faults.clear()
        elif kind in WIRE_FAULTS:
            emulated.faults.add(parse_wire_fault(text, names), emulated.seconds_awake)
        elif text:
            body.inject(parse_fault(text, names))
            print(f'{text} begins', flush=True)
    except ValueError as error:
        print(error, flush=True)
