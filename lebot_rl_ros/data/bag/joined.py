"""One bag to transitions, and what is said of them. Nothing is kept here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lebot_rl_ros.data.bag.live import join_as_live
from lebot_rl_ros.data.bag.reader import Bag, Records, find_topic
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.joining import Joiner
from lebot_rl_ros.data.rows import reward_dtype

STEPS, REWARDS = 'policy/steps', 'reward/rewards'


@dataclass(frozen=True)
class Question:
    """What is wanted of a bag, beside what lies in it."""

    namespace: str = ''
    base_sha256: str = ''  # '': of whatever base, if it is one
    period: int = 20_000_000  # ns, where the bag does not say

    @property
    def settings(self) -> dict[str, Any]:
        """As a table of plain values."""
        return asdict(self)


def join_bag(path: Path, question: Question) -> tuple[npt.NDArray[np.void], dict[str, Any]]:
    """Transitions (N,) of `transition_dtype`, and a table of plain values.

    The table has ``sha256`` of the bag, ``terms`` of the reward, ``widths`` of observation and
    action, ``bases`` whose steps were used, ``one_base`` if there are no others, ``robot`` and
    ``joint_names`` where the bag says them, ``period`` (ns), ``counts`` of the joiner, and
    ``metadata`` of the run.

    Raises:
        BagError: the bag cannot be read, or has no transitions; the message says why.
    """
    with Bag(path) as bag:
        steps, rewards = _records(bag, question.namespace)
        bases = _bases(path, steps, question.base_sha256)
        used = [question.base_sha256] if question.base_sha256 else bases
        robot = _robot(path, bag.metadata)
        rate = robot.get('control_rate')
        period = round(1e9 / rate) if rate else question.period
        try:
            join = Joiner.fitting(
                steps.rows.dtype,
                rewards.rows.dtype,
                period=period,
                base_sha256=question.base_sha256,
            )
        except ValueError as error:
            raise BagError(f'{path}: {error}') from error
        rows, counts = join_as_live(join, steps, rewards, period)
        if not len(rows):
            said = ', '.join(f'{name} {count}' for name, count in counts.items() if count)
            raise BagError(
                f'{path}: none of its {len(steps.rows)} steps has a reward of the same stamp '
                f'({said or "nothing was joined"})'
            )
        fixed = reward_dtype(()).names or ()
        about = {
            'sha256': bag.sha256,
            'terms': [n for n in rewards.rows.dtype.names or () if n not in fixed],
            'widths': [rows.dtype[name].shape[0] for name in ('observation', 'action')],
            'bases': used,
            'one_base': len(bases) < 2,
            'robot': str(robot.get('name', '')),
            'joint_names': [str(joint['name']) for joint in robot.get('joints', ())],
            'period': period,
            'counts': counts,
            'metadata': dict(bag.metadata),
        }
    return rows, about


def _records(bag: Bag, namespace: str) -> list[Records]:
    topics = ', '.join(name for name, topic in bag.topics.items() if topic.count) or 'none'
    try:
        steps = find_topic(bag, STEPS, namespace)
    except BagError as error:
        raise BagError(f'{error}; without steps there is nothing to learn from') from error
    if not bag.topics[steps].count:
        raise BagError(f'{bag.path} has no steps: no message of {steps}; it has {topics}')
    try:
        rewards = find_topic(bag, REWARDS, steps[: -len(STEPS)] or '/')
    except BagError as error:
        raise BagError(f'{error}; its steps have no rewards') from error
    if not bag.topics[rewards].count:
        raise BagError(
            f'{bag.path} has steps without rewards: no message of {rewards}; it has {topics}'
        )
    return bag.records([steps, rewards])


def _bases(path: Path, steps: Records, wanted: str) -> list[str]:
    """Hashes of the bases that steps were made by; refused if they are not what is wanted."""
    if 'base_sha256' not in (steps.rows.dtype.names or ()):
        return []
    found, left = [], np.ascontiguousarray(steps.rows['base_sha256'])
    while len(left):  # there are few: faster than to sort all of them
        found.append(left[0].tobytes().hex())
        left = left[(left != left[0]).any(axis=1)]
    found.sort()
    if wanted:
        if wanted not in found:
            raise BagError(f'{path} was made by base {" and ".join(found)}, expected {wanted}')
    elif len(found) > 1:
        raise BagError(
            f'{path} mixes steps of base {" and ".join(found)}; give base_sha256 of the one that '
            f'is wanted'
        )
    return found


def _robot(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """The joint table, where the bag has it."""
    text = metadata.get('robot', '')
    try:
        table = yaml.safe_load(text) if text else {}
        if not isinstance(table, dict):
            return {'name': str(table)}  # a name alone
        _ = (
            [joint['name'] for joint in table.get('joints', ())],
            float(table.get('control_rate', 1.0)),
        )
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise BagError(f'{path}: the robot in its metadata cannot be read: {error}') from error
    return table
