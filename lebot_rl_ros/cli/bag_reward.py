"""`lebot bag reward`: rewards again, with other weights, from the bag alone."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lebot_rl_ros.cli.bag_edit import shown
from lebot_rl_ros.control.recorded_robot import recorded_robot, recorded_walk
from lebot_rl_ros.control.recorded_weights import STEPS, beside, recorded_weights, reweighted
from lebot_rl_ros.control.rescored_bag import matched, transitions, write_rescored
from lebot_rl_ros.control.rescoring import REWARDS, Rescored, Rows, rescore
from lebot_rl_ros.data.bag.building import refuse
from lebot_rl_ros.data.bag.export import refuse_files, write_rows
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.mdp.reward_files import finite, load_reward
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.robot import Robot

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'reward',
        help='the reward again, with other weights, from the bag alone',
        description='Without --reward and --set the weights of the run are taken, and the status '
        'is 1 if the rewards are not those recorded, bit for bit.',
    )
    parser.add_argument('path', type=Path, metavar='PATH')
    parser.add_argument(
        '--reward',
        metavar='NAME_OR_FILE',
        help="in config/rewards, or a YAML file; 'task' for the task's own (default: as recorded)",
    )
    parser.add_argument(
        '--set', nargs='+', default=[], metavar='TERM=WEIGHT', help='weights in place of those'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='OUT',
        help='write a bag with these rewards; or, where it ends with .npz, transitions',
    )
    parser.add_argument('--robot', default='', help="name or table (default: the bag's)")
    parser.add_argument('--policy', default='', help="whose gait it is (default: the bag's)")
    parser.add_argument('--namespace', default='', help='of the robot, if the bag has several')
    parser.add_argument('--force', action='store_true', help='replace what is there')


def run(args: argparse.Namespace) -> int:
    """Recompute, compare, write; returns the exit status.

    Raises:
        ValueError: the bag or an argument cannot be used; the message says why.
    """
    given = dict(_weight(text) for text in args.set)
    npz = args.out is not None and args.out.suffix == '.npz'
    with Bag(args.path) as bag:
        if args.out is not None and not npz:
            refuse(args.out, force=args.force, sources=[bag.path])
        if npz:
            refuse_files([args.out], force=args.force)
        robot = recorded_robot(bag.metadata, args.robot)
        walk, doubt = recorded_walk(robot, bag.metadata, args.policy)
        if doubt:
            print(f'lebot bag reward: {doubt}', file=sys.stderr)
        config, what = _weights(bag, args.reward, args.namespace)
        if given:
            config = {at: reweighted(one, given) for at, one in config.items()}
            what += ', but ' + ', '.join(f'{term} {weight:g}' for term, weight in given.items())
        rescored = rescore(
            bag, robot, walk.gait, config, namespace=args.namespace, progress=shown()
        )
        equal = _compare(bag, rescored, robot, what, args.namespace)
        if npz:
            rows = transitions(bag, rescored, robot.control_period_ns, args.namespace)
            write_rows(args.out, rows, force=args.force)
            print(f'{args.out}: {len(rows)} transitions')
        elif args.out is not None:
            arguments = {'reward': args.reward, 'set': given, 'weights': _told(config)}
            done = write_rescored(
                bag,
                rescored,
                args.out,
                arguments,
                namespace=args.namespace,
                force=args.force,
            )
            print(
                f'{done.path}: {done.messages} messages; rewards replaced {done.replaced}, '
                f'added {done.added}, left out as their steps are missing {done.left_out}'
            )
    return 0 if equal or args.reward is not None or given else 1


def _weight(text: str) -> tuple[str, float]:
    term, equals, weight = text.partition('=')
    if not equals:
        raise ValueError(f'--set {text!r}: expected TERM=WEIGHT, as in torque=-0.05')
    return term, finite(weight, f'--set {term}')


def _weights(bag: Bag, reward: str | None, namespace: str) -> tuple[dict[int, RewardConfig], str]:
    """Weights by the stamp from which they hold, and where they are from, in words."""
    if reward is not None:
        name = '' if reward == 'task' else reward
        return {0: load_reward(name)}, f'weights of {reward}'
    recorded = recorded_weights(bag, namespace)
    if not recorded:
        return {0: RewardConfig()}, "weights of the task, as the bag does not say the run's"
    changes = len(recorded) - 1
    return recorded, 'weights as recorded' + (f', {changes} changes' if changes else '')


def _told(config: dict[int, RewardConfig]) -> dict[str, dict[str, float]]:
    return {
        str(at): {**one.weights, 'fall': one.fall, 'down': one.down} for at, one in config.items()
    }


def _compare(bag: Bag, rescored: Rescored, robot: Robot, what: str, namespace: str) -> bool:
    """Print both rewards, term by term; returns whether all are equal, bit for bit."""
    topic = beside(bag, namespace, STEPS)[0].removesuffix(STEPS) + REWARDS
    rows = rescored.rows
    recorded = bag.rows(topic) if topic in bag.topics else rows[:0]
    places = matched(recorded, rows)
    old, new = recorded[places >= 0], rows[places[places >= 0]]
    print(f'{bag.path}: {len(rows)} steps scored, {what}')
    if rescored.lost:
        print(f'{rescored.lost} steps have no state in the bag')
    if len(old) < len(recorded):
        print(f'{len(recorded) - len(old)} recorded rewards have no step that could be scored')
    print(_table(old, new, rows, robot))
    if not len(old):
        print('no rewards were recorded that could be compared')
        return True
    same, largest = difference(old, new)
    print(
        f'{same} of {len(old)} steps equal what was recorded, bit for bit'
        + ('' if same == len(old) else f'; the largest difference is {largest:.3g}')
    )
    return same == len(old)


def difference(old: Rows, new: Rows) -> tuple[int, float]:
    """How many rows are equal in all that both have, and the largest difference of a number."""
    common = [name for name in new.dtype.names or () if name in (old.dtype.names or ())]
    equal = np.ones(len(old), bool)
    largest = 0.0
    for name in common:
        equal &= old[name] == new[name]
        apart = np.abs(old[name].astype(float) - new[name].astype(float))
        largest = max(largest, float(apart.max(initial=0.0)))
    return int(equal.sum()), largest


def _table(old: Rows, new: Rows, every: Rows, robot: Robot) -> str:
    """Sums and means a second; recorded, and recomputed for the same steps."""
    terms = [n for n in every.dtype.names or () if n not in ('sec', 'nanosec', 'truncated')]
    terms = [*(n for n in terms if n not in ('reward', 'terminated')), 'reward', 'terminated']
    compared = len(old) > 0
    after = new if compared else every
    seconds = max(len(after), 1) / robot.control_rate
    head = f'{"term":<22} {"recorded":>12} {"a second":>10} {"recomputed":>12} {"a second":>10}'
    lines = [head + (f' {"different":>10}' if compared else '')]
    for name in terms:
        here = name in (old.dtype.names or ()) and compared
        before = f'{_sum(old, name):>12.4f} {_sum(old, name) / seconds:>10.4f}'
        line = f'{name:<22} {before if here else " " * 23} '
        line += f'{_sum(after, name):>12.4f} {_sum(after, name) / seconds:>10.4f}'
        if here:
            line += f' {int((old[name] != new[name]).sum()):>10}'
        lines.append(line)
    return '\n'.join(lines)


def _sum(rows: Rows, name: str) -> float:
    return float(rows[name].sum(dtype=float))
