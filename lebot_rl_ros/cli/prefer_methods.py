"""What dpo and grpo need beside recorded steps, for `lebot train offline`."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.offline.answers import read_answers, resolve
from lebot_rl_ros.learning.offline.contract import OfflineData, OfflineMethod
from lebot_rl_ros.learning.offline.dpo import OfflineDPO
from lebot_rl_ros.learning.offline.grpo import OfflineGRPO
from lebot_rl_ros.learning.offline.segments import whole
from lebot_rl_ros.policy.files import PolicyManifest
from lebot_rl_ros.robot import load_robot

ONLY = {'preferences': 'dpo', 'fault': 'grpo'}  # options, and whose they are
THREADS = 2  # of the simulation; they change nothing but the time it takes


@dataclass(frozen=True)
class Part:
    """The steps of one bag, as far as they can be learned from."""

    path: str
    sha256: str
    rows: Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of both."""
    parser.add_argument(
        '--preferences', nargs='+', type=Path, default=[], metavar='FILE',
        help='dpo: answers of `lebot prefer` about these bags',
    )  # fmt: skip
    parser.add_argument(
        '--fault', action='append', default=[], metavar='FAULT',
        help='grpo: of the simulated robots, as slip:rr_hip:0.35; may be given again',
    )  # fmt: skip


def equip(
    method: OfflineMethod,
    args: argparse.Namespace,
    data: OfflineData,
    names: Sequence[str],
    hashes: Sequence[str],
    manifest: PolicyManifest,
) -> dict[str, Any]:
    """Give a method what it needs; what a manifest shall say of that.

    Args:
        method: any; others than these two need nothing.
        args: of the command, with what :func:`add_arguments` declared.
        data: all that was recorded.
        names: of the bags.
        hashes: of the bags.
        manifest: of the base.

    Raises:
        ValueError: an option of another method, no preferences, or some that do not fit.
    """
    for option, whose in ONLY.items():
        if getattr(args, option) and method.name != whose:
            raise ValueError(f'--{option} is for --method {whose}, not for {method.name}')
    if isinstance(method, OfflineDPO):
        return _prefer(method, args.preferences, parts(data, names, hashes), manifest)
    if isinstance(method, OfflineGRPO):
        return _simulate(method, args, data, manifest)
    return {}


def parts(data: OfflineData, names: Sequence[str], hashes: Sequence[str]) -> list[Part]:
    """The steps of each bag again."""
    found, start = [], 0
    for name, sha256, count in zip(names, hashes, data.sources, strict=True):
        found.append(Part(name, sha256, data.rows[start : start + count]))
        start += count
    return found


def _prefer(
    method: OfflineDPO, files: Sequence[Path], bags: Sequence[Part], manifest: PolicyManifest
) -> dict[str, Any]:
    if not files:
        raise ValueError(
            'dpo learns from preferences: give --preferences FILE, as `lebot prefer` writes it'
        )
    answers = [answer for file in files for answer in read_answers(file)]
    method.labelled = labelled = resolve(answers, whole(bags), manifest.sha256)
    about = [
        {'name': file.name, 'sha256': hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in files
    ]
    return {
        'preferences': about,
        'pairs': len(labelled.preferences),
        'judges': sorted({answer.by for answer in answers}),
    }


def _simulate(
    method: OfflineGRPO, args: argparse.Namespace, data: OfflineData, manifest: PolicyManifest
) -> dict[str, Any]:
    from lebot_rl_ros.envs.adapting import NOISY  # late: needs the simulator
    from lebot_rl_ros.envs.continuations import Continuations, ContinuedTask
    from lebot_rl_ros.envs.gym_world import GymWorld

    robot, count = load_robot(), method.config.groups * method.config.group_size
    own = task_config(robot, manifest, args.policy or 'policies/walk')
    longest = 10.0 * method.config.horizon / robot.control_rate
    config = replace(own, randomisation=NOISY, episode=longest)
    first = data.rows[[0] * count]
    task = ContinuedTask(robot, first, args.fault, config, seed=args.seed, threads=THREADS)
    method.world = GymWorld('continuations', Continuations(task, data.rows), args.seed)
    return {'simulated_faults': list(args.fault), 'robots': count}
