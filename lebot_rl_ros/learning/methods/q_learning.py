"""Q-learning on a table (Watkins and Dayan, Machine Learning 8, 1992)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lebot_rl_ros.learning.method import (
    Array,
    Discrete,
    Method,
    Metrics,
    Space,
    State,
    World,
    unfit,
)
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import load_rng_state, rng_state

CHOICES = 'actor_critic, reinforce, ppo, ddpg and td3 have networks in place of the table'


@dataclass(frozen=True)
class QLearningConfig:
    """How to explore, and how far to move."""

    discount: float = 0.99  # gamma, in [0, 1]
    learning_rate: str | float = 0.1  # alpha, in [0, 1]; a schedule
    visit_power: float = 0.0  # alpha / visits^power; in (0.5, 1] the table converges
    epsilon: str | float = 'linear:1:0.05:0.5'  # share of random actions; a schedule
    initial_value: float = 0.0  # of the table; above what can be reached, it explores by hope
    steps: int = 100  # of each environment in an iteration, between two reports

    def __post_init__(self) -> None:
        for name in ('discount', 'visit_power'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} is {getattr(self, name)}; it must be in [0, 1]')
        if self.steps < 1:
            raise ValueError(f'steps is {self.steps}; it must be 1 or more')


class QLearning(Method[QLearningConfig]):
    """Q(s, a) += alpha (r + gamma max Q(s', .) - Q(s, a)), whatever explores."""

    name: ClassVar[str] = 'q_learning'
    reference: ClassVar[str] = 'Watkins and Dayan, Machine Learning 8 (1992) 279-292'

    def __init__(
        self, config: QLearningConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Make the table.

        Raises:
            ValueError: observations or actions are not discrete.
        """
        super().__init__(config, observation_space, action_space, seed)
        if not isinstance(observation_space, Discrete):
            raise unfit(self.name, 'observations', observation_space, CHOICES)
        if not isinstance(action_space, Discrete):
            raise unfit(self.name, 'actions', action_space, CHOICES)
        self.q = np.full((observation_space.n, action_space.n), config.initial_value)
        self.visits = np.zeros(self.q.shape, dtype=np.int64)
        self.epsilon, self.rate = (
            Schedule.parse(config.epsilon),
            Schedule.parse(config.learning_rate),
        )
        self.explore_rng = np.random.default_rng([seed, 1])

    def iterate(self, world: World) -> Metrics:
        """Take ``steps`` steps in every environment, learning from each at once."""
        epsilon, rate = self.epsilon(self.progress), self.rate(self.progress)
        errors = 0.0
        for _ in range(self.config.steps):
            state = world.observation.copy()
            action = self._choose(state, epsilon, self.rng)
            outcome = world.step(action)
            # One after another: two environments may be in the same state.
            for s, a, r, following, over in zip(
                state.tolist(),
                action.tolist(),
                outcome.reward.tolist(),
                outcome.final_observation.tolist(),
                outcome.terminated.tolist(),
                strict=True,
            ):
                errors += abs(self._learn(s, a, r, following, over, rate))
        return {
            'td_error': errors / (self.config.steps * world.count),
            'epsilon': epsilon,
            'learning_rate': rate,
            'visited': float((self.visits > 0).mean()),
        }

    def _learn(self, s: int, a: int, r: float, following: int, over: bool, rate: float) -> float:
        """One step of the table; returns the error. A truncated step goes on, as any other."""
        self.visits[s, a] += 1
        target = r if over else r + self.config.discount * self.q[following].max()
        error = float(target - self.q[s, a])
        self.q[s, a] += rate * self.visits[s, a] ** -self.config.visit_power * error
        return error

    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """The best actions (N,) of the table, or now and then a random one."""
        if explore:
            return self._choose(observation, self.epsilon(self.progress), self.explore_rng)
        return self.q[observation].argmax(axis=-1)

    def _choose(self, observation: Array, epsilon: float, rng: np.random.Generator) -> Array:
        """Epsilon-greedy; equals share, or the first action would be tried and no other."""
        values = self.q[observation]
        draws = rng.random((2, *values.shape))
        best = values == values.max(axis=-1, keepdims=True)
        random = rng.random(len(values)) < epsilon
        weights = np.where(random[:, None], draws[0], best * draws[1])
        return weights.argmax(axis=-1)

    def state(self) -> State:
        """Table, visits, random draws."""
        return {
            'q': self.q.copy(),
            'visits': self.visits.copy(),
            'rng': rng_state(self.rng),
            'explore_rng': rng_state(self.explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        for name in ('q', 'visits'):
            if name not in state or state[name].shape != self.q.shape:
                shape = state[name].shape if name in state else 'missing'
                raise ValueError(f'{self.name}: {name} is {shape}, expected {self.q.shape}')
        for name in ('rng', 'explore_rng'):
            if name not in state:
                raise ValueError(f'{self.name}: the state has no {name}')
        self.q, self.visits = state['q'].copy(), state['visits'].astype(np.int64)
        load_rng_state(self.rng, state['rng'])
        load_rng_state(self.explore_rng, state['explore_rng'])
