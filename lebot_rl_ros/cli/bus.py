"""`lebot bus`: scan, ping, read, calibrate, rename and watch the servos of a bus."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.cli import bus_calibrate, bus_monitor, bus_scan
from lebot_rl_ros.cli.bus_tables import columns, confirmed, progress, servo_names
from lebot_rl_ros.hardware.buses import PROTOCOLS
from lebot_rl_ros.hardware.register_bus import RegisterBus
from lebot_rl_ros.hardware.registers import Table
from lebot_rl_ros.hardware.wire import Wire, known_ports
from lebot_rl_ros.robot import Robot, load_robot

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

USUAL = '/dev/lebot-servos'  # what the udev rule calls it
PATIENCE = 0.05  # s that an answer may be late for; nobody is in a hurry here, but in a scan
TRIES = 3


@dataclass(frozen=True)
class Session:
    """What every verb works with."""

    bus: RegisterBus
    robot: Robot
    args: argparse.Namespace


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--bus', choices=tuple(PROTOCOLS), default='feetech', help='(default: %(default)s)'
    )
    common.add_argument('--port', default='', help=f'(default: {USUAL}, or the only serial port)')
    common.add_argument('--baud', type=int, default=1_000_000, help='(default: %(default)s)')
    common.add_argument(
        '--robot', default='lebot', help='name or YAML of the joint table (default: %(default)s)'
    )
    parser = subparsers.add_parser('bus', help='scan, read, calibrate and watch servos')
    verbs = parser.add_subparsers(dest='what', metavar='VERB', required=True)

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=about, description=f'{about[0].upper()}{about[1:]}.', parents=[common]
        )

    bus_scan.add_arguments(
        verb('scan', 'look for servos under all ids, and say which joints are missing')
    )
    one = verb('ping', 'ask one servo whether it is there')
    one.add_argument('id', metavar='ID|JOINT')
    one = verb('read', 'show all registers of a servo, or of all')
    one.add_argument('id', nargs='?', metavar='ID|JOINT', help='(default: all joints)')
    bus_calibrate.add_arguments(verb('calibrate', 'find travel, zeros and signs of joints'))
    one = verb('set-id', 'give a servo another id')
    one.add_argument('old', type=int, metavar='OLD')
    one.add_argument('new', type=int, metavar='NEW')
    one.add_argument('--yes', action='store_true', help='do not ask')
    bus_monitor.add_arguments(verb('monitor', 'watch angles, loads, voltages, temperatures'))


def run(args: argparse.Namespace) -> int:
    """Do what the inner verb says; returns the exit status.

    Raises:
        ValueError: an argument, the joint table or the calibration is unfit; the message says how.
    """
    robot = load_robot(args.robot)
    actions: dict[str, Callable[[Session], int]] = {
        'scan': lambda s: bus_scan.run(s.bus, s.robot, s.args),
        'ping': _ping, 'read': _read, 'set-id': _set_id,
        'calibrate': lambda s: bus_calibrate.run(s.bus, s.robot, s.args),
        'monitor': lambda s: bus_monitor.run(s.bus, s.robot, s.args),
    }  # fmt: skip
    ids = list(servo_names(robot))
    try:
        wire = Wire(args.port or _only_port(), args.baud)
        slack = None if args.what == 'scan' else PATIENCE
        bus = PROTOCOLS[args.bus](wire, ids, period=math.inf, slack=slack)
        try:
            return actions[args.what](Session(bus, robot, args))
        finally:
            bus.close()
    except OSError as error:  # the port: it says which, and what helps
        print(f'lebot bus: {error}', file=sys.stderr)
        return 2


def _only_port() -> str:
    # An adapter has a device and names that lead to it; a link of the udev rule comes first.
    if Path(USUAL).exists():
        return USUAL
    ports = list({os.path.realpath(port): port for port in reversed(known_ports())}.values())
    if len(ports) != 1:
        raise ValueError(f'give --port; ports that are there: {", ".join(ports) or "none"}')
    return ports[0]


def _id(session: Session, text: str) -> int:
    """A servo id from a number or a joint's name."""
    names = servo_names(session.robot)
    if text.isdecimal():
        return int(text)
    for id, name in names.items():
        if name == text:
            return id
    raise ValueError(
        f'{text!r} is neither an id nor a joint; joints are {", ".join(names.values())}'
    )


def _ping(session: Session) -> int:
    id = _id(session, session.args.id)
    name = servo_names(session.robot).get(id, 'no joint of the table')
    found = session.bus.scan([id])
    if not found:
        print(f'id {id} ({name}): no answer at {session.args.baud} baud', file=sys.stderr)
        return 1
    print(f'id {id} ({name}): {found[0].model_name}, model {found[0].model}')
    return 0


def _read(session: Session) -> int:
    bus, names = session.bus, servo_names(session.robot)
    ids = [_id(session, session.args.id)] if session.args.id else list(names)
    tables: dict[int, Table] = {
        one.id: bus.known.get(one.model, bus.table) for one in bus.scan(ids)
    }
    for id in ids:
        if id not in tables:
            print(
                f'id {id} ({names.get(id, "no joint of the table")}): no answer', file=sys.stderr
            )
    registers = {entry.name: entry for table in tables.values() for entry in table.registers}
    rows = []
    for entry in sorted(registers.values(), key=lambda entry: entry.address):
        progress(entry.name)
        values = [
            _get(bus, id, entry.name) if entry.name in table.by_name else None
            for id, table in tables.items()
        ]
        kept = 'kept' if entry.eeprom else ''
        access = 'rw' if entry.writable else 'r'
        rows.append((entry.address, entry.name, *values, entry.unit, access, kept))
    progress('')
    if tables:
        head = (names.get(id, f'id {id}') for id in tables)
        print(columns(('address', 'register', *head, 'unit', 'access', 'power-off'), rows))
    return 0 if len(tables) == len(ids) else 1


def _get(bus: RegisterBus, id: int, register: str) -> float | None:
    """A register, with a few tries."""
    values = (bus.get(id, register) for _ in range(TRIES))
    return next((value for value in values if value is not None), None)


def _set_id(session: Session) -> int:
    bus, old, new = session.bus, session.args.old, session.args.new
    lowest, highest = bus.table['id'].range
    if not lowest <= new <= highest:
        raise ValueError(f'the new id is {new}, must be from {lowest} to {highest}')
    if not bus.scan([old]):
        print(f'id {old}: no answer at {session.args.baud} baud', file=sys.stderr)
        return 1
    if bus.scan([new]):
        raise ValueError(f'id {new} is taken; give that servo another one first')
    print(
        f'If two servos have the id {old}, both become {new}, and nothing on the bus tells: '
        'only your eyes do. Connect the one alone.'
    )
    if not session.args.yes and not confirmed(f'Give servo {old} the id {new}, for good?'):
        print('nothing was changed')
        return 1
    if not bus.set_id(old, new):
        print(f'id {new}: no answer; the servo may still be {old}', file=sys.stderr)
        return 1
    name = servo_names(session.robot).get(new, 'no joint of the table')
    print(f'servo {old} is {new} now ({name})')
    return 0
