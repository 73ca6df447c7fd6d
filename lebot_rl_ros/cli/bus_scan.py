"""`lebot bus scan`: who is on the bus, under which id, at which rate, and who is missing."""

import argparse
import sys

from lebot_rl_ros.cli.bus_tables import columns, progress, servo_names
from lebot_rl_ros.hardware.bus import Found
from lebot_rl_ros.hardware.register_bus import RegisterBus
from lebot_rl_ros.robot import Robot

FACTORY_ID = 1
STRIDE = 16  # ids that are looked for between two words of progress
TRIES = 3  # for joints of the table, before they are called missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        '--all-bauds', action='store_true', help='at every rate that such servos have'
    )
    parser.add_argument(
        '--ids', default='', metavar='FIRST-LAST', help='only these ids (default: all there are)'
    )


def run(bus: RegisterBus, robot: Robot, args: argparse.Namespace) -> int:
    """Print who answers; 0 if every joint of the robot does, at the bus's rate.

    Raises:
        ValueError: the ids are unfit.
        WireLost: the port is gone.
    """
    names = servo_names(robot)
    found = _find(bus, _ids(bus, args.ids), args)
    for _ in range(TRIES - 1):
        missing = _missing(found, names, args.baud)
        found += bus.scan(missing) if missing else []
    if found:
        rows = [
            (one.id, one.baud, f'{one.model_name} ({one.model})', names.get(one.id, ''))
            for one in sorted(found, key=lambda one: (one.id, one.baud))
        ]
        print(columns(('id', 'baud', 'model', 'joint'), rows))
    missing = _missing(found, names, args.baud)
    words = ', '.join(f'{names[id]} (id {id})' for id in missing)
    print(f'{len(found)} servos' + (f'; missing: {words}' if missing else ''))
    for one in found:
        if one.baud != args.baud:
            print(f'id {one.id} talks at {one.baud} baud, not at {args.baud}')
    if FACTORY_ID in {one.id for one in found} - set(names):
        print(
            f'id {FACTORY_ID} is what servos leave the factory with; connect such a servo alone, '
            f'then: lebot bus set-id {FACTORY_ID} NEW'
        )
    return 1 if missing else 0


def _ids(bus: RegisterBus, text: str) -> range:
    lowest, highest = bus.table['id'].range
    if not text:
        return range(lowest, highest + 1)
    first, _, last = text.partition('-')
    ends = [int(end) if end.isdecimal() else -1 for end in (first, last or first)]
    if not lowest <= ends[0] <= ends[1] <= highest:
        raise ValueError(
            f'--ids is {text!r}, must be FIRST-LAST from {lowest} to {highest}, as in 1-50'
        )
    return range(ends[0], ends[1] + 1)


def _find(bus: RegisterBus, ids: range, args: argparse.Namespace) -> list[Found]:
    found: list[Found] = []
    for baud in bus.table.bauds.values() if args.all_bauds else (args.baud,):
        for first in range(0, len(ids), STRIDE):
            some = ids[first : first + STRIDE]
            progress(f'{baud} baud, ids {some[0]} to {some[-1]}; found {len(found)}')
            try:
                found += bus.scan(some, [baud])
            except OSError:
                if baud == args.baud:
                    raise
                print(f'the port does not take {baud} baud', file=sys.stderr)
                break
    progress('')
    return found


def _missing(found: list[Found], names: dict[int, str], baud: int) -> list[int]:
    here = {one.id for one in found if one.baud == baud}
    return [id for id in names if id not in here]
