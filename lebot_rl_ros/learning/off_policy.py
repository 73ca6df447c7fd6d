"""What off-policy methods share: they act with noise, remember every step, and replay."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.data.transitions import Transitions
from lebot_rl_ros.learning.method import (
    Array,
    BoolArray,
    Box,
    Method,
    Metrics,
    Space,
    World,
    unfit,
)
from lebot_rl_ros.learning.modules import is_vector
from lebot_rl_ros.learning.noise import make_noise
from lebot_rl_ros.learning.replay import Minibatch, ReplayBuffer
from lebot_rl_ros.learning.schedules import Schedule


@dataclass(frozen=True)
class OffPolicyConfig:
    """How steps are taken and replayed."""

    steps: int = 200  # of all environments an iteration: how often metrics are told, no more
    capacity: int = 200_000  # steps in the replay
    learning_starts: int = 10_000  # steps in the replay before the first gradient step
    uniform_start: bool = True  # actions are uniform until then; False: the policy's, with noise
    gradient_steps: float = 1.0  # per step of one environment (update-to-data ratio)
    batch: int = 256  # steps drawn for a gradient step
    discount: float = 0.98
    n_steps: int = 1  # rewards summed before the critic is asked
    noise: str = 'gaussian'  # or ornstein-uhlenbeck
    noise_std: str | float = 0.1  # schedule; 1 is half the range of an action

    def __post_init__(self) -> None:
        for name in ('steps', 'learning_starts', 'batch', 'n_steps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be at least 1')
        if self.capacity <= self.learning_starts:
            raise ValueError(
                f'capacity {self.capacity} must be over learning_starts {self.learning_starts}'
            )
        if self.gradient_steps <= 0.0:
            raise ValueError(f'gradient_steps is {self.gradient_steps}, must be positive')
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f'discount is {self.discount}, must be in [0, 1]')


C = TypeVar('C', bound=OffPolicyConfig)


class OffPolicy(Method[C]):
    """Collection and replay; what is learned from a draw is the subclass's matter.

    Within it actions are *unit actions*: -1 to 1 is the range of each number of an action.
    """

    def __init__(
        self, config: C, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Make the replay.

        Raises:
            ValueError: observations are no vectors, or actions are not bounded.
        """
        super().__init__(config, observation_space, action_space, seed)
        if not isinstance(observation_space, Box) or not is_vector(observation_space):
            raise unfit(
                self.name, 'observations', observation_space, 'it needs vectors of real numbers'
            )
        if not isinstance(action_space, Box):
            choices = 'for discrete ones use q_learning, actor_critic or ppo'
            raise unfit(self.name, 'actions', action_space, choices)
        low, high = action_space.low.astype(np.float32), action_space.high.astype(np.float32)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
            choices = f'their bounds {low.tolist()} to {high.tolist()} must be finite and in order'
            raise unfit(self.name, 'actions', action_space, choices)
        self.actions = int(low.size)
        self._centre, self._half = (high + low).ravel() / 2.0, (high - low).ravel() / 2.0
        self.replay = ReplayBuffer(config.capacity, observation_space.shape, self.actions)
        self.noise = make_noise(config.noise, self.actions)
        self.noise_schedule = Schedule.parse(config.noise_std)
        self.taken = 0  # steps, of all environments
        self.credit = 0.0  # gradient steps that are due
        self.updates = 0  # gradient steps done
        self._left: Array | None = None  # what the world showed when the last iteration ended
        self._sums: dict[str, tuple[Tensor, int]] = {}
        # Those who only watch the policy explore draw from another generator.
        self._shown_noise = make_noise(config.noise, self.actions)
        self._shown_rng = np.random.default_rng([seed, 1])

    @abstractmethod
    def unit_policy(self, observation: Array) -> Array:
        """Unit actions (N, A) of the policy, without noise, for observations (N, O)."""

    @abstractmethod
    def learn(self, batch: Minibatch) -> None:
        """One gradient step; what it sees it tells by :meth:`note`."""

    def begin(self) -> None:
        """Called once, when the replay is full enough and before the first gradient step."""

    def iterate(self, world: World) -> Metrics:
        """Take steps, and a gradient step or more after each; see the base class."""
        config = self.config
        std = self.noise_schedule(self.progress)
        if world.observation is not self._left:  # somebody began new episodes, or another world
            self.replay.cut()
            self.noise.forget(np.ones(world.count, bool))
        for _ in range(max(1, config.steps // world.count)):
            self._step(world, std)
            if len(self.replay) > config.learning_starts:
                self.credit += config.gradient_steps * world.count
            while self.credit >= 1.0:
                if not self.updates:
                    self.begin()
                self.credit -= 1.0
                self.updates += 1
                self.learn(
                    self.replay.sample(
                        config.batch, self.rng, discount=config.discount, n_steps=config.n_steps
                    )
                )
        self._left = world.observation
        metrics = {name: float(total) / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
        if wrong:
            raise ValueError(
                f'{self.name}: {wrong[0]} is {metrics[wrong[0]]} after {self.updates} gradient '
                f'steps; lower the learning rate, or scale the rewards'
            )
        return {
            **metrics,
            'noise_std': std,
            'replay': float(len(self.replay)),
            'updates': float(self.updates),
        }

    def note(self, name: str, value: Tensor) -> None:
        """Add to the mean of a metric; nothing waits for the number."""
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = value.detach() + total, count + 1

    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Actions (N, ...) in the units of the world; see the base class."""
        unit = self.unit_policy(observation)
        if explore:
            std = self.noise_schedule(self.progress)
            unit = unit + self._shown_noise(len(unit), std, self._shown_rng)
        return self._to_world(unit)

    def forget(self, done: BoolArray) -> None:
        """Begin the noise of :meth:`act` anew for these environments (N,)."""
        self._shown_noise.forget(done)

    def extend(self, data: Transitions) -> None:
        """Fill the replay from a recording.

        The step after which a recording was cut is left out, unless it is the end for good: the
        observation to which it led is not known.

        Raises:
            ValueError: observations or actions have other sizes than this method's.
        """
        assert isinstance(self.observation_space, Box)
        data.check(self.observation_space.shape[0], self.actions)
        following = np.roll(data.observations, -1, axis=0)  # the last row of all is cut or over
        known = ~data.truncated
        cut = np.roll(data.truncated, -1)  # the step before one that is left out
        following[data.terminated] = data.observations[data.terminated]  # never asked for
        self.replay.extend(
            data.observations[known],
            ((data.actions - self._centre) / self._half).clip(-1.0, 1.0)[known],
            data.rewards[known],
            following[known],
            data.terminated[known],
            (cut & ~data.terminated)[known],
        )

    def _step(self, world: World, std: float) -> None:
        observation = np.array(world.observation, np.float32)
        if self.config.uniform_start and self.taken < self.config.learning_starts:
            unit = self.rng.uniform(-1.0, 1.0, (world.count, self.actions)).astype(np.float32)
        else:
            unit = self.unit_policy(observation)
            unit += self.noise(world.count, std, self.rng)
            np.clip(unit, -1.0, 1.0, out=unit)
        outcome = world.step(self._to_world(unit))
        self.replay.add(
            observation, unit, outcome.reward, outcome.final_observation,
            outcome.terminated, outcome.truncated,
        )  # fmt: skip
        self.noise.forget(outcome.done)
        self.taken += world.count

    def _to_world(self, unit: Array) -> Array:
        space = self.action_space
        assert isinstance(space, Box)
        action = np.clip(unit, -1.0, 1.0) * self._half + self._centre
        return action.reshape(len(unit), *space.shape)


def optimiser(parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Adam | None:
    """Adam in one pass over all numbers; None where nothing is trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=rate, fused=True) if trained else None
