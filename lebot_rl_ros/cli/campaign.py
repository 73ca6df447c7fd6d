"""`lebot campaign`: every wire fault, injected into a walking robot; what it did, as a table."""

import argparse
import json
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from lebot_rl_ros.cli.campaign_cases import CASES, select
from lebot_rl_ros.cli.campaign_page import line, page, table
from lebot_rl_ros.cli.campaign_play import STARTS, run_case
from lebot_rl_ros.robot import load_robot

BUSES = ('feetech', 'dynamixel')
WIDE = 130  # letters of the table where no terminal says how wide it is


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'campaign',
        help='every wire fault, injected into a walking robot',
        description='Each case is a whole graph of its own, in real time: the robot walks, a '
        'fault of its wires begins and ends, the operator clears, it walks again. Nothing else '
        'should keep the machine busy. Takes about 20 s a case.',
    )
    parser.add_argument(
        '--bus', default='both', choices=(*BUSES, 'both'), help='of the servos (default: both)'
    )
    kinds = dict.fromkeys(case.kind for case in CASES)
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='KIND',
        help=f'these faults only: {", ".join(kinds)}, or one as in unplug:bus',
    )
    parser.add_argument('--out', type=Path, metavar='FILE.md', help='write the table as a page')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers')
    parser.add_argument(
        '--logs', type=Path, metavar='DIR', help='of the nodes (default: runs/campaign-TIME)'
    )


def run(args: argparse.Namespace) -> int:
    """Run the cases; 0 if every robot did what is expected."""
    cases, robot, console = select(args.only), load_robot(), Console()
    if not console.is_terminal:
        console.width = WIDE
    buses = BUSES if args.bus == 'both' else (args.bus,)
    stamp = datetime.now(timezone.utc).astimezone().strftime('%Y%m%d-%H%M%S')
    logs = args.logs or Path('runs') / f'campaign-{stamp}'
    begun, done, repeated = time.monotonic(), [], 0
    for bus in buses:
        for case in cases:
            name = f'{bus}-{case.fault.replace(":", "-")}'
            outcome, reasons = run_case(case, bus, robot, logs / name)
            for reason in reasons[: STARTS - 1]:
                console.print(f'          started again: {reason}', highlight=False, style='dim')
            done.append((bus, case, outcome))
            repeated += len(reasons)
            number = f'{len(done):>2} of {len(buses) * len(cases)}'
            console.print(f'{number}  {line(bus, case, outcome)}', highlight=False)
    seconds = time.monotonic() - begun
    for bus in buses:
        console.print(table(bus, [entry[1:] for entry in done if entry[0] == bus]))
    failed = [entry for entry in done if entry[2].troubles]
    console.print(
        f'{len(done)} cases in {seconds / 60:.1f} min, {len(failed)} failed; logs in {logs}'
    )
    if args.out:
        args.out.write_text(page(done, robot, seconds, repeated))
    if args.json:
        entries = [
            {'bus': bus, 'fault': case.fault, 'about': case.about} | asdict(outcome)
            for bus, case, outcome in done
        ]
        args.json.write_text(json.dumps(entries, indent=2) + '\n')
    return 1 if failed else 0
