"""Steps to learn from again and again: a ring of arrays that are made once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, BoolArray, State

ROWS = ('observations', 'actions', 'rewards', 'next_observations', 'terminated', 'strides')


@dataclass(frozen=True)
class Minibatch:
    """B steps, or runs of up to n steps; the tensors are written anew by the next draw."""

    observations: Tensor  # (B, ...) in which the action was taken
    actions: Tensor  # (B, A)
    rewards: Tensor  # (B,) of the step; of n steps, discounted and summed
    next_observations: Tensor  # (B, ...) to which they led, before any reset
    discounts: Tensor  # (B,) of what comes after: gamma to the number of steps; 0 if terminated

    @classmethod
    def empty(cls, size: int, observation_shape: tuple[int, ...], actions: int, dtype: str) -> (
        'Minibatch'
    ):  # fmt: skip
        """Make the tensors."""
        seen = [torch.from_numpy(np.zeros((size, *observation_shape), dtype)) for _ in range(2)]
        return cls(
            seen[0], torch.zeros(size, actions), torch.zeros(size), seen[1], torch.zeros(size)
        )


class ReplayBuffer:
    """The last ``capacity`` steps, of N environments or of recordings.

    ``truncated`` is not kept: a cut step is worth its reward and what the critic expects of the
    observation to which it led, as any other. That observation is kept with the step, for the
    step that comes next in the ring may belong to another episode.
    """

    def __init__(
        self,
        capacity: int,
        observation_shape: tuple[int, ...],
        actions: int,
        dtype: str = 'float32',
    ) -> None:
        """Make the arrays.

        Args:
            capacity: steps, of all environments together.
            observation_shape: of one observation.
            actions: numbers in one action, A.
            dtype: of observations; uint8 for images.

        Raises:
            ValueError: the capacity is not positive.
        """
        if capacity < 1:
            raise ValueError(f'capacity of the replay is {capacity}, must be at least 1')
        self.capacity = capacity
        self.observations = np.zeros((capacity, *observation_shape), dtype)
        self.next_observations = np.zeros_like(self.observations)
        self.actions = np.zeros((capacity, actions), np.float32)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, bool)
        # Rows on to the next step of the episode, which may not be written yet; 0 after the last.
        self.strides = np.zeros(capacity, np.int64)
        self._written = 0  # steps, ever
        self._width = 0  # steps added last, whose next ones may come with the next `add`
        self._drawn: Minibatch | None = None

    def __len__(self) -> int:
        return min(self._written, self.capacity)

    def add(
        self,
        observation: Array,
        action: Array,
        reward: Array,
        next_observation: Array,
        terminated: BoolArray,
        truncated: BoolArray,
    ) -> None:
        """Take one step of each of N environments; ``next_observation`` is before any reset.

        Args:
            observation: (N, ...) in which it was taken.
            action: (N, A).
            reward: (N,).
            next_observation: (N, ...).
            terminated: (N,).
            truncated: (N,).

        Raises:
            ValueError: there are more environments than the replay has room for.
        """
        count = len(reward)
        if count != self._width:
            self.cut()
        self._width = count
        steps = (observation, action, reward, next_observation, terminated)
        self._write(*steps, count * ~(terminated | truncated))

    def extend(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        next_observations: Array,
        terminated: BoolArray,
        truncated: BoolArray,
    ) -> None:
        """Take T recorded steps in the order of time, one episode after another.

        Where more come than there is room for, the last ones stay. Arguments are as those of
        :meth:`add`, with T for N.

        Raises:
            ValueError: lengths or shapes do not fit, or a number is not finite.
        """
        parts = {
            'observations': observations,
            'actions': actions,
            'rewards': rewards,
            'next_observations': next_observations,
        }
        for name, value in parts.items():
            self._check(name, value, (len(rewards), *getattr(self, name).shape[1:]))
        for name, value in (('terminated', terminated), ('truncated', truncated)):
            self._check(name, value, rewards.shape)
        self.cut()
        strides = 1 * ~(terminated | truncated)
        if len(strides):
            strides[-1] = 0  # nothing is known of what came after
        last = slice(-self.capacity, None)
        steps: tuple[Array, ...] = (
            observations, actions, rewards, next_observations, terminated, strides,
        )  # fmt: skip
        self._write(*(value[last] for value in steps))

    def cut(self) -> None:
        """Know nothing of what comes after the last steps, as after a reset by somebody else."""
        if self._width:
            rows = np.arange(self._written - self._width, self._written) % self.capacity
            self.strides[rows] = 0
        self._width = 0

    def sample(
        self, size: int, rng: np.random.Generator, *, discount: float, n_steps: int = 1
    ) -> Minibatch:
        """Draw steps uniformly, with replacement, each with those that followed in its episode.

        The sum of n rewards is of the policy of that time: for n > 1 it is biased (off-policy).

        Args:
            size: B.
            rng: of the draws.
            discount: gamma.
            n_steps: of rewards before the critic is asked; fewer where the episode or the
                memory of it ends.

        Raises:
            ValueError: there is nothing to draw from.
        """
        if not self._written:
            raise ValueError('the replay has no steps to draw from')
        drawn = self._drawn
        if drawn is None or len(drawn.rewards) != size:
            drawn = self._drawn = Minibatch.empty(
                size, self.observations.shape[1:], self.actions.shape[1],
                str(self.observations.dtype),
            )  # fmt: skip
        rows = rng.integers(len(self), size=size)
        rewards, discounts = drawn.rewards.numpy(), drawn.discounts.numpy()
        _take(self.observations, rows, drawn.observations)
        _take(self.actions, rows, drawn.actions)
        _take(self.rewards, rows, drawn.rewards)
        discounts.fill(discount)
        for _ in range(n_steps - 1):
            strides = self.strides[rows]
            known = (strides > 0) & (strides <= (self._written - 1 - rows) % self.capacity)
            rows = np.where(known, (rows + strides) % self.capacity, rows)
            rewards += known * discounts * self.rewards[rows]
            discounts[known] *= discount
        _take(self.next_observations, rows, drawn.next_observations)
        discounts *= ~self.terminated[rows]
        return drawn

    def state(self) -> State:
        """Copy what is there, the oldest step first."""
        rows = np.arange(self._written - len(self), self._written) % self.capacity
        return {
            'width': np.array(self._width),
            **{name: getattr(self, name)[rows] for name in ROWS},
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; the last steps stay where there is less room.

        Raises:
            ValueError: something is missing, or shapes do not fit.
        """
        for name in ROWS:
            if name not in state or state[name].shape[1:] != getattr(self, name).shape[1:]:
                found = state[name].shape if name in state else 'nothing'
                raise ValueError(
                    f'{name} to replay: found {found}, expected steps of '
                    f'{getattr(self, name).shape[1:]}'
                )
        self._written = self._width = 0
        self._write(*(state[name][-self.capacity :] for name in ROWS))
        self._width = int(state['width'])

    def _write(self, *steps: Array) -> None:
        """Take steps, in the order of ROWS."""
        count, start = len(steps[0]), self._written % self.capacity
        if count > self.capacity:
            raise ValueError(
                f'the replay has room for {self.capacity} steps, {count} came at once'
            )
        rows: slice | Array = slice(start, start + count)
        if start + count > self.capacity:
            rows = np.arange(start, start + count) % self.capacity
        for name, value in zip(ROWS, steps, strict=True):
            getattr(self, name)[rows] = value
        self._written += count

    @staticmethod
    def _check(name: str, value: Array, shape: tuple[int, ...]) -> None:
        if value.shape != shape:
            raise ValueError(f'{name} to replay have shape {value.shape}, expected {shape}')
        if not np.isfinite(value).all():
            where = np.argwhere(~np.isfinite(value))[0].tolist()
            raise ValueError(f'{name} to replay are not finite at {where}')


def _take(source: Array, rows: Array, target: Tensor) -> None:
    # 'clip' writes straight into `target`; the default would go through a buffer.
    source.take(rows, axis=0, out=target.numpy(), mode='clip')
