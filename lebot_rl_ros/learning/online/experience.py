"""What an off-policy learner remembers of a walk: the last steps, and who made them."""

from collections.abc import Callable, Set

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, State

FIELDS = ('observations', 'actions', 'rewards', 'next_observations', 'going_on', 'versions')


class Experience:
    """A ring of the last ``capacity`` steps, without those of quarantined versions."""

    def __init__(
        self,
        capacity: int,
        observation: int,
        actions: int,
        view: Callable[[Array], Array] = lambda observations: observations,
    ) -> None:
        """Make the arrays; observations (C, O) and actions (C, J) as they were recorded.

        Args:
            capacity: C, steps.
            observation: O.
            actions: J.
            view: of observations (n, O), (n, F): what the learner needs to know of them that
                never changes. A step is drawn a hundred times, so it is looked at once.
        """
        self.capacity, self._view = capacity, view
        self.observations = np.zeros((capacity, observation), np.float32)
        self.next_observations = np.zeros_like(self.observations)
        width = view(self.observations[:1]).shape[1]
        self._views = np.zeros((capacity, 2, width), np.float32)  # of both observations
        self.actions = np.zeros((capacity, actions), np.float32)
        self.rewards = np.zeros(capacity, np.float32)
        self.going_on = np.zeros(capacity, np.float32)  # 0 where the step ended in a fall
        self.versions = np.zeros(capacity, np.int64)
        self._written = 0
        self._barred: set[int] = set()  # versions
        self._free: Array | None = None  # rows to draw from; None: all of them

    def __len__(self) -> int:
        return min(self._written, self.capacity)

    def extend(self, rows: Array) -> None:
        """Take learnable transitions; those of which nothing is known that came after are left.

        A step that was cut is worth its reward and what is expected of the state that it led to,
        as any other; without that state only a fall, after which nothing comes, says anything.
        """
        rows = rows[(rows['known'] > 0) | (rows['terminated'] > 0)][-self.capacity :]
        where = np.arange(self._written, self._written + len(rows)) % self.capacity
        self.observations[where] = rows['observation']
        self.next_observations[where] = rows['next_observation']
        self.actions[where] = rows['action']
        self.rewards[where] = rows['reward']
        self.going_on[where] = rows['terminated'] == 0
        self.versions[where] = rows['adapter_version']
        self._look_at(where)
        self._written += len(rows)
        if self._barred:
            self._look()

    def quarantine(self, versions: Set[int]) -> None:
        """Draw no more of what these versions did, also of what may still come."""
        self._barred |= versions
        self._look()

    @property
    def quarantined(self) -> int:
        """Steps that are not drawn."""
        return 0 if self._free is None else len(self) - len(self._free)

    def sample(self, size: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw steps uniformly, with replacement.

        Returns:
            Views of observations (B, F), actions (B, J), rewards (B,), views of the next
            observations (B, F), and whether the walk went on (B,), 1 or 0.

        Raises:
            ValueError: there is nothing to draw from.
        """
        count = len(self) if self._free is None else len(self._free)
        if not count:
            raise ValueError(
                f'nothing to learn from: {len(self)} steps, {self.quarantined} of them quarantined'
            )
        rows = rng.integers(count, size=size)
        if self._free is not None:
            rows = self._free[rows]
        views = torch.from_numpy(self._views[rows])
        actions, rewards, going_on = (
            torch.from_numpy(values[rows])
            for values in (self.actions, self.rewards, self.going_on)
        )
        return views[:, 0], actions, rewards, views[:, 1], going_on

    def state(self) -> State:
        """Copy what is there, the oldest step first."""
        rows = np.arange(self._written - len(self), self._written) % self.capacity
        kept = {f'experience.{name}': getattr(self, name)[rows] for name in FIELDS}
        return {**kept, 'experience.barred': np.array(sorted(self._barred), np.int64)}

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; the newest steps where there is less room.

        Raises:
            ValueError: something is missing, or of another width.
        """
        values = {name: state.get(f'experience.{name}') for name in (*FIELDS, 'barred')}
        for name in FIELDS:
            value, own = values[name], getattr(self, name)
            if value is None or value.shape[1:] != own.shape[1:]:
                found = 'missing' if value is None else f'of shape {value.shape}'
                raise ValueError(
                    f'experience.{name} is {found}, expected (steps, *{own.shape[1:]})'
                )
        count = 0
        for name in FIELDS:
            value = values[name]
            assert value is not None
            count = min(len(value), self.capacity)
            getattr(self, name)[:count] = value[-count:] if count else value
        self._written = count
        self._look_at(np.arange(count))
        barred = values['barred']
        self._barred = set() if barred is None else set(barred.tolist())
        self._look()

    def _look_at(self, rows: Array) -> None:
        if len(rows):
            for i, values in enumerate((self.observations, self.next_observations)):
                self._views[rows, i] = self._view(values[rows])

    def _look(self) -> None:
        free = ~np.isin(self.versions[: len(self)], sorted(self._barred))
        self._free = None if free.all() else np.flatnonzero(free)
