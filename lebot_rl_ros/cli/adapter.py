"""`lebot adapter`: which adapter drives a walking robot, and another one in its place."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'adapter',
        help='swap the adapter of a walking robot',
        description='Without TEXT it shows what is active. Start `lebot walk` in another terminal '
        'first.',
    )
    parser.add_argument(
        'text',
        nargs='?',
        metavar='TEXT',
        help="NAME[@VERSION][:WEIGHT] joined by '+', or a folder's path with /; '' is the base",
    )
    parser.add_argument(
        '--rollback', action='store_true', help='back to the adapter that was active before'
    )
    parser.add_argument('--list', action='store_true', help='adapters that the node can see')
    parser.add_argument('--namespace', default='', help='of the robot')
    parser.add_argument('--node', default='policy', help='name of the node (default: policy)')


def run(args: argparse.Namespace) -> int:
    """Ask the node; 0 if it did what was asked, 2 with its reason if not."""
    if (args.text is not None) + args.rollback + args.list > 1:
        raise ValueError('give one of TEXT, --rollback and --list')
    from lebot_rl_ros.ros.adapter_client import AdapterClient

    with AdapterClient(args.namespace, args.node) as client:
        done, said = True, ''
        if args.list:
            print(_table(client.listing()))
            return 0
        if args.rollback:
            done, said = client.rollback()
        elif args.text is not None:
            # The node may run in another folder.
            text = str(Path(args.text).resolve()) if '/' in args.text else args.text
            done, reason, seconds = client.set(text)
            said = f'done in {1e3 * seconds:.1f} ms' if done else f'refused: {reason}'
        if said:
            print(said, file=sys.stdout if done else sys.stderr)
        print(_active(client.active))
    return 0 if done else 2


def _active(active: dict[str, Any]) -> str:
    since = f'since {active["since"]:.2f} s of robot time, {active["why"]}'
    return f'active: {active["label"] or "the base alone"} ({since})'


def _table(listing: list[dict[str, Any]]) -> str:
    lines = [
        f'{"*" if known["active"] else " "} {entry["name"]}@{known["version"]:<4} '
        f'{known["verdict"]:<10} base {known.get("base", "unknown")}  {known["reason"]}'.rstrip()
        for entry in listing
        for known in entry['versions']
    ]
    return '\n'.join(lines) or 'no adapters; `lebot train adapter NAME` makes one'
