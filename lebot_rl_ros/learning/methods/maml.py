"""Model-agnostic meta-learning (Finn, Abbeel and Levine, arXiv 1703.03400) of policies.

What is learned is a start: weights from which one policy-gradient step on a few episodes of a
task gives a good policy for it. The outer update differentiates through that step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import Gaussian, gaussian_entropy
from lebot_rl_ros.learning.functional import (
    Parameters,
    detached,
    gradient_step,
    per_task,
    ratio_surrogate,
    spread,
    trainable,
)
from lebot_rl_ros.learning.method import Array, Box, Method, Metrics, Space, State, World, unfit
from lebot_rl_ros.learning.rollouts import collect
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import (
    draws_state,
    load_draws,
    load_module_state,
    load_optimiser_state,
    module_state,
    optimiser_state,
)
from lebot_rl_ros.learning.task_batches import TaskBatch, task_batch
from lebot_rl_ros.policy.networks import LOG_STD, ActorCritic, check_initial_std


@dataclass(frozen=True)
class MAMLConfig:
    """How to learn a start; the defaults are those of the comparison on navigation."""

    learning_rate: str | float = 3e-3  # of the start, by Adam; a number or a schedule
    inner_rate: float = 0.3  # of the step that adapts, at first
    learn_inner_rate: bool = True  # one rate for each weight, learned too (arXiv 1707.09835)
    inner_updates: int = 1  # steps that adapt; 0 is plain policy gradient on all tasks
    second_order: bool = True  # differentiate the inner gradient too
    episodes: int = 20  # of each task for each step, side by side; the world has K times as many
    horizon: int = 20  # steps of each; where an episode ends before, the next one begins
    epochs: int = 5  # outer steps on the same experience
    clip: float = 0.2  # of the outer probability ratio
    gradient_norm: float = 1.0  # largest, of the outer gradient
    target_kl: float | None = None  # no more outer steps once adapted policies are so far off
    discount: float = 0.99
    trace: float = 0.97  # lambda of GAE
    scale_advantages: bool = False  # to deviation 1 in each task; a step then knows no distance
    hidden: tuple[int, ...] = (32, 32)
    activation: str = 'relu'
    initial_std: float = 0.5  # action units

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a number out of its range.
        """
        check_initial_std(self.initial_std)
        for name, least in (('inner_updates', 0), ('episodes', 1), ('horizon', 1), ('epochs', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}, must be {least} or more')


class MAML(Method[MAMLConfig]):
    """Learns a start; see :meth:`adapt` for what it is good for.

    Time-outs end the sum of rewards: what is optimised is the return of an episode of the
    horizon, and the baseline knows the time.
    """

    name: ClassVar[str] = 'maml'
    reference: ClassVar[str] = 'Finn, Abbeel and Levine 2017, arXiv 1703.03400'

    def __init__(
        self, config: MAMLConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build the start.

        Raises:
            ValueError: observations or actions are not vectors of real numbers.
        """
        super().__init__(config, observation_space, action_space, seed)
        sizes = []
        for what, space in (('observations', observation_space), ('actions', action_space)):
            if not isinstance(space, Box) or len(space.shape) != 1:
                raise unfit(self.name, what, space, 'rl2 takes discrete actions')
            sizes.append(space.shape[0])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = ActorCritic(
                sizes[0], sizes[1], config.hidden, config.activation, config.initial_std
            )
        # Values come from a baseline that is fitted to each task; the critic only makes the start
        # a whole policy, as files want it.
        self.network.critic.requires_grad_(False)
        self._explore_rng = np.random.default_rng([seed, 1])
        self._rate = Schedule.parse(config.learning_rate)
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Learn what requires gradients now, with fresh inner rates."""
        start = self.start()
        learn = self.config.learn_inner_rate and self.config.inner_updates > 0
        self.rates = {
            name: torch.full_like(p, self.config.inner_rate).requires_grad_(learn)
            for name, p in start.items()
        }
        self._learned = [*start.values(), *(self.rates.values() if learn else ())]
        self.optimiser = torch.optim.Adam(self._learned, lr=self._rate(0.0))
        self._actor = per_task(self.network.actor)

    def start(self) -> Parameters:
        """The weights that adapt, before they do."""
        start = trainable(self.network.actor)
        if self.network.log_std.requires_grad:
            start['log_std'] = self.network.log_std
        return start

    def policy(self, parameters: Parameters, observations: Tensor) -> Gaussian:
        """Actions (K, B, A) of K tasks' policies, for observations (K, B, O)."""
        actor = {name: p for name, p in parameters.items() if name != 'log_std'}
        x = self.network.normaliser(observations)
        mean = self._actor(actor, x) if actor else self.network.actor(x)
        log_std = parameters['log_std'][:, None] if 'log_std' in parameters else None
        return Gaussian(
            mean, (self.network.log_std if log_std is None else log_std).clamp(*LOG_STD)
        )

    def adapted(
        self, parameters: Parameters, batch: TaskBatch, *, second_order: bool = False
    ) -> Parameters:
        """One inner step of each task; new tensors (K, ...), the parameters stay."""
        log_prob = self.policy(parameters, batch.observations).log_prob(batch.actions)
        losses = ratio_surrogate(log_prob, batch.log_probs, batch.advantages)
        return gradient_step(losses, parameters, self.rates, second_order=second_order)

    def outer_loss(
        self, batches: Sequence[TaskBatch], after: TaskBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """PPO's clipped loss of the adapted policies, as a function of the start and the rates.

        Args:
            batches: what each inner step learns from; none for no adaptation.
            after: experience of the adapted policies.

        Returns:
            The loss, and statistics by name.
        """
        parameters = spread(self.start(), len(after.observations))
        for batch in batches:
            parameters = self.adapted(parameters, batch, second_order=self.config.second_order)
        log_ratio = (
            self.policy(parameters, after.observations).log_prob(after.actions) - after.log_probs
        )
        ratio = torch.exp(log_ratio)
        clip = self.config.clip
        advantages = after.advantages / (after.advantages.std() + 1e-8)
        gain = torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
        statistics = {
            'approx_kl': (ratio - 1.0 - log_ratio).mean(),
            'clip_fraction': ((ratio - 1.0).abs() > clip).float().mean(),
        }
        return -gain.mean(), {name: x.detach() for name, x in statistics.items()}

    def iterate(self, world: World) -> Metrics:
        """Adapt to a handful of tasks, see how that did, and improve the start.

        Raises:
            ValueError: the world has no tasks, or ``episodes`` does not divide its environments.
        """
        tasks = world.sample_tasks(self._tasks(world), self.rng)
        batches, after = self._experience(world, tasks, self.config.inner_updates, self.rng)
        for group in self.optimiser.param_groups:
            group['lr'] = self._rate(self.progress)
        norm = torch.zeros(())
        for _ in range(self.config.epochs):
            loss, statistics = self.outer_loss(batches, after)
            kl = self.config.target_kl
            if kl is not None and statistics['approx_kl'] > kl:
                break
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self._learned, self.config.gradient_norm)
            if not torch.isfinite(norm):
                raise ValueError(f'the outer gradient is {norm:g}; lower the learning rate')
            self.optimiser.step()
            self.network.clamp_log_std()
        return {
            'policy_loss': float(loss.detach()),
            **{name: float(value) for name, value in statistics.items()},
            'entropy': float(gaussian_entropy(self.network.log_std.detach())),
            'gradient_norm': float(norm),
            'learning_rate': self._rate(self.progress),
            **{
                f'return_update_{i}': float(b.returns.mean())
                for i, b in enumerate([*batches, after])
            },
        }

    def adapt(
        self, world: World, tasks: Any, updates: int | None = None, *, seed: int = 0
    ) -> tuple[Parameters, Array]:
        """Adapt to tasks; the start stays as it is.

        Args:
            world: with ``episodes`` environments for each task.
            tasks: K of them, as ``world.sample_tasks`` gives them.
            updates: inner steps; as in training if not given.
            seed: of the actions.

        Returns:
            The adapted weights (K, ...), and the returns (updates + 1, K, E) before, between and
            after, of policies that explore.
        """
        count = self.config.inner_updates if updates is None else updates
        rng = np.random.default_rng([seed, 2])
        batches, after = self._experience(world, tasks, count, rng)
        parameters = spread(detached(self.start()), self._tasks(world))
        for batch in batches:
            parameters = self._step(parameters, batch)
        return parameters, np.stack([b.returns for b in [*batches, after]])

    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Actions (N, A) of the start itself."""
        with torch.no_grad():
            policy = self.policy(spread(self.start(), 1), torch.from_numpy(observation)[None])
            action = policy.sample(self._explore_rng) if explore else policy.mode()
        return action[0].numpy()

    def act_adapted(self, parameters: Parameters, observation: Array) -> Array:
        """Mean actions (N, A) of adapted policies (K, ...), for N = K E observations in order."""
        tasks = len(next(iter(parameters.values())))
        with torch.no_grad():
            x = torch.from_numpy(observation).view(tasks, -1, observation.shape[-1])
            return self.policy(parameters, x).mode().flatten(0, 1).numpy()

    def state(self) -> State:
        """Start, inner rates, optimiser and draws."""
        return {
            **module_state(self.network),
            **{f'rates.{name}': rate.detach().numpy().copy() for name, rate in self.rates.items()},
            **optimiser_state(self.optimiser, 'optimiser.0'),
            **draws_state(rng=self.rng, explore_rng=self._explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave."""
        load_module_state(self.network, state)
        for name, rate in self.rates.items():
            found = state.get(f'rates.{name}')
            if found is None or found.shape != tuple(rate.shape):
                raise ValueError(
                    f'rates.{name} is missing in the state, or not {tuple(rate.shape)}'
                )
            with torch.no_grad():
                rate.copy_(torch.from_numpy(np.array(found)))
        load_optimiser_state(self.optimiser, state, 'optimiser.0')
        load_draws(state, rng=self.rng, explore_rng=self._explore_rng)

    def _tasks(self, world: World) -> int:
        """K, how many tasks go side by side."""
        episodes = self.config.episodes
        if world.count % episodes:
            raise ValueError(
                f'maml: {world.count} environments of {world.name} are no multiple of '
                f'episodes={episodes}, those of one task'
            )
        return world.count // episodes

    def _experience(
        self, world: World, tasks: Any, updates: int, rng: np.random.Generator
    ) -> tuple[list[TaskBatch], TaskBatch]:
        """What each inner step learned from, and what came of it."""
        told = np.repeat(tasks, self.config.episodes, axis=0)
        parameters = spread(detached(self.start()), self._tasks(world))
        batches = []
        for _ in range(updates):
            batches.append(self._play(world, told, parameters, rng))
            parameters = self._step(parameters, batches[-1])
        return batches, self._play(world, told, parameters, rng)

    def _step(self, parameters: Mapping[str, Tensor], batch: TaskBatch) -> Parameters:
        """An inner step of which only the numbers matter."""
        ready = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        return detached(self.adapted(ready, batch))

    def _play(
        self, world: World, told: Any, parameters: Parameters, rng: np.random.Generator
    ) -> TaskBatch:
        """New episodes of every task, by its own policy."""
        tasks = self._tasks(world)

        @torch.no_grad()
        def act(observation: Array) -> tuple[Array, Array]:
            x = torch.from_numpy(observation).view(tasks, -1, observation.shape[-1])
            policy = self.policy(parameters, x)
            action = policy.sample(rng)
            return action.flatten(0, 1).numpy(), policy.log_prob(action).flatten().numpy()

        world.set_task(told)
        return task_batch(
            collect(world, act, self.config.horizon),
            tasks,
            discount=self.config.discount,
            trace=self.config.trace,
            scale=self.config.scale_advantages,
        )
