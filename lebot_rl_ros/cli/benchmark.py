"""`lebot benchmark`: comparisons that take their time, resumable, with tables and plots."""

import argparse
from typing import TYPE_CHECKING

from lebot_rl_ros.cli import (
    benchmark_adapt,
    benchmark_gate,
    benchmark_methods,
    benchmark_offline,
    compare_meta,
)

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

KINDS = {
    'methods': benchmark_methods, 'meta': compare_meta, 'adapt': benchmark_adapt,
    'gate': benchmark_gate, 'offline': benchmark_offline,
}  # fmt: skip


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its kinds."""
    parser = subparsers.add_parser('benchmark', help='comparisons with tables and plots')
    kinds = parser.add_subparsers(dest='what', required=True)
    for module in KINDS.values():
        module.add_parser(kinds)


def run(args: argparse.Namespace) -> int:
    """Run one; returns the exit status."""
    return int(KINDS[args.what].run(args))
