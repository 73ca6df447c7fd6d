"""Steps that wait to be learned from, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.method import Array, State
from lebot_rl_ros.learning.returns import BoolArray

FLOATS = ('observation', 'next_observation', 'action', 'mean', 'std', 'log_prob', 'reward')
FLAGS = ('terminated', 'truncated', 'known', 'follows')
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Steps:
    """B steps in the order of time; what of ``data.rows.transition_dtype`` learning needs."""

    observation: Floats  # (B, O) raw
    next_observation: Floats  # (B, O) zeros where not known
    action: Floats  # (B, J) as sampled, policy units
    mean: Floats  # (B, J) of the policy that acted
    std: Floats  # (B, J) of its exploration
    log_prob: Floats  # (B,) of the action, nats
    reward: Floats  # (B,)
    terminated: BoolArray  # (B,) a fall
    truncated: BoolArray  # (B,) cut behind the step
    known: BoolArray  # (B,) next_observation is
    follows: BoolArray  # (B,) the step before it here is the one before it in time
    version: npt.NDArray[np.int64]  # (B,) of the adapter that acted
    turn: npt.NDArray[np.int64]  # (B,) which acting policy it was, counted as they took turns

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, which: slice | Array) -> 'Steps':
        """Some of them; whoever leaves out steps in the middle must clear ``follows`` there."""
        return Steps(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def of(rows: Array, turn: npt.NDArray[np.int64]) -> 'Steps':
        """Take rows (B,) of ``transition_dtype``, and whose turn (B,) it was."""
        values: dict[str, Array] = {name: rows[name].astype(np.float32) for name in FLOATS}
        values |= {name: rows[name].astype(bool) for name in FLAGS}
        return Steps(**values, version=rows['adapter_version'].astype(np.int64), turn=turn)

    @staticmethod
    def joined(parts: Sequence['Steps']) -> 'Steps':
        """One after the other; at least one part."""
        return Steps(
            *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Steps))
        )

    def without(self, versions: npt.NDArray[np.int64]) -> 'Steps':
        """Leave out the steps of some versions; what came after one of them follows nothing."""
        kept = ~np.isin(self.version, versions)
        follows = self.follows.copy()
        follows[1:] &= kept[:-1]
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Steps(**{**values, 'follows': follows})[kept]

    def state(self, prefix: str) -> State:
        """Copies of the arrays, ``prefix.name``."""
        return {
            f'{prefix}.{field.name}': getattr(self, field.name).copy() for field in fields(self)
        }

    @staticmethod
    def from_state(state: State, prefix: str) -> 'Steps':
        """Take what :meth:`state` gave.

        Raises:
            ValueError: an array is missing, or they are not of one length.
        """
        names = [f'{prefix}.{field.name}' for field in fields(Steps)]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f'{missing[0]} is missing in the state')
        lengths = {name: len(state[name]) for name in names}
        if len(set(lengths.values())) != 1:
            raise ValueError(f'the steps in the state differ in number: {lengths}')
        return Steps(*(np.array(state[name]) for name in names))


def usable(steps: Steps, kept: BoolArray) -> BoolArray:
    """Which steps (B,) can be judged: they are kept, and what came of them is known.

    A step whose next state was lost, and which was no fall, earned nobody knows what: it is not
    learned from. The step before it is, as that one's next state is where this one began.
    """
    return kept & (steps.known | steps.terminated)


def cuts(steps: Steps, used: BoolArray) -> BoolArray:
    """After which steps (B,) nothing may flow back from the next one.

    After truncations, before holes in time and before steps that are not used. Such a step is
    bootstrapped from the critic's value of its own next observation. Falls are no cuts: they end.
    """
    goes_on = np.zeros(len(steps), bool)
    goes_on[:-1] = steps.follows[1:] & used[1:]
    return ~goes_on | steps.truncated
