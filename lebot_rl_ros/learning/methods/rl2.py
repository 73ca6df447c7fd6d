"""RL^2 (Duan et al., arXiv 1611.02779): a policy that learns a task by remembering its episodes.

The recurrent state goes through several episodes of one task, and with each observation comes
what the last action was, what it earned and whether it ended the episode. So what adapts to a
task is the state; its weights are learned slowly, by PPO on whole trials.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import (
    Array,
    BoolArray,
    Box,
    Discrete,
    Method,
    Metrics,
    Outcome,
    Space,
    State,
    World,
    unfit,
)
from lebot_rl_ros.learning.recurrent import RecurrentActorCritic
from lebot_rl_ros.learning.returns import explained_variance
from lebot_rl_ros.learning.rollouts import Rollouts, collect
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import (
    draws_state,
    load_draws,
    load_module_state,
    load_optimiser_state,
    module_state,
    optimiser_state,
)
from lebot_rl_ros.learning.trials import Memory, episode_returns, trial_gae
from lebot_rl_ros.policy.networks import check_initial_std


@dataclass(frozen=True)
class RL2Config:
    """How to learn from trials; the defaults are those of the comparison on navigation."""

    learning_rate: str | float = 'linear:2e-3:2e-4'  # of Adam; a number or a schedule
    episodes: int = 2  # of one task in a trial
    horizon: int = 20  # steps of each; where one ends before, the trial has more of them
    epochs: int = 5  # passes over the trials
    minibatch: int = 64  # trials a gradient step, each whole
    clip: float = 0.2  # of the probability ratio
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.0
    gradient_norm: float = 0.5  # largest
    target_kl: float | None = 0.03  # an update stops after a step that finds it passed
    discount: float = 0.99  # goes on from episode to episode of a trial
    trace: float = 0.95  # lambda of GAE, likewise
    hidden: int = 64  # numbers that it remembers
    initial_std: float = 0.5  # action units

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a number out of its range.
        """
        check_initial_std(self.initial_std)
        for name in ('episodes', 'horizon', 'epochs', 'minibatch', 'hidden'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be 1 or more')


class RL2(Method[RL2Config]):
    """PPO on trials. :meth:`evaluate` says how the return grows from episode to episode."""

    name: ClassVar[str] = 'rl2'
    reference: ClassVar[str] = 'Duan et al. 2016, arXiv 1611.02779'

    def __init__(
        self, config: RL2Config, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build the network.

        Raises:
            ValueError: observations are not vectors, or actions neither choices nor vectors.
        """
        super().__init__(config, observation_space, action_space, seed)
        if not isinstance(observation_space, Box) or len(observation_space.shape) != 1:
            raise unfit(self.name, 'observations', observation_space, 'it takes vectors')
        if isinstance(action_space, Box) and len(action_space.shape) != 1:
            raise unfit(self.name, 'actions', action_space, 'it takes vectors or choices')
        self._actions = (
            action_space.n if isinstance(action_space, Discrete) else action_space.shape[0]
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = RecurrentActorCritic(
                observation_space.shape[0] + self._actions + 2,
                action_space,
                config.hidden,
                config.initial_std,
            )
        self._explore_rng = np.random.default_rng([seed, 1])
        self._rate = Schedule.parse(config.learning_rate)
        self._memory: Memory | None = None  # of `act`
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Learn what requires gradients now."""
        learned = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(learned, lr=self._rate(0.0), eps=1e-5)

    def iterate(self, world: World) -> Metrics:
        """Play a trial of a new task in every environment, and learn from all of them.

        Raises:
            ValueError: the world has no tasks, or an update is not finite.
        """
        tasks = world.sample_tasks(world.count, self.rng)
        trials, inputs, values = self._play(world, tasks, self.rng)
        advantages, returns = trial_gae(
            trials.rewards, values, discount=self.config.discount, trace=self.config.trace
        )
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        batch = [
            torch.from_numpy(np.asarray(x, dtype=x.dtype if x.dtype == np.int64 else np.float32))
            for x in (inputs, trials.actions, trials.log_probs, advantages, returns)
        ]
        for group in self.optimiser.param_groups:
            group['lr'] = self._rate(self.progress)
        steps: list[list[float]] = []
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self.rng.permutation(world.count))
            if not self._epoch(batch, order, steps):
                break
        statistics = np.mean(steps, axis=0)
        if not np.isfinite(statistics).all():
            raise ValueError(f'the update is not finite: {statistics}; lower the learning rate')
        # After the update, in which log-probabilities must be those of the sampling.
        self.network.normaliser.update(batch[0].flatten(0, 1))
        names = ('policy_loss', 'value_loss', 'entropy', 'approx_kl', 'clip_fraction')
        return {
            **dict(zip(names, statistics.tolist(), strict=True)),
            'explained_variance': explained_variance(values, returns),
            'learning_rate': self._rate(self.progress),
            **{
                f'return_episode_{i + 1}': float(np.nanmean(row))
                for i, row in enumerate(episode_returns(trials, self.config.episodes))
            },
        }

    def evaluate(
        self, world: World, tasks: Any, *, explore: bool = False, seed: int = 0
    ) -> tuple[Array, Rollouts]:
        """Play one trial of each task; nothing is learned but by remembering.

        Returns:
            Returns (episodes, N) of the trial's first, second, ... episode, NaN where there was
            none; and the trials themselves.
        """
        rng = np.random.default_rng([seed, 2])
        trials, _, _ = self._play(world, tasks, rng, explore=explore)
        return episode_returns(trials, self.config.episodes), trials

    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Actions (N, ...), by what was seen since the last :meth:`forget`.

        What an action earned is not in the observation: tell it by :meth:`see`, else the policy
        takes it to be 0.
        """
        if self._memory is None or len(self._memory.reward) != len(observation):
            self._memory = Memory(self.network, len(observation), self._actions)
        with torch.no_grad():
            x = torch.from_numpy(self._memory.input(observation))[None]
            policy, _, hidden = self.network(x, self._memory.hidden)
            chosen = policy.sample(self._explore_rng) if explore else policy.mode()
        action: Array = chosen[0].numpy()
        self._memory.acted(action, hidden)
        return action

    def see(self, outcome: Outcome) -> None:
        """Tell :meth:`act` what came of its last actions."""
        if self._memory is not None:
            self._memory.see(outcome)

    def forget(self, done: BoolArray) -> None:
        """Begin with a new task in these environments (N,); not for a next episode of the same."""
        if self._memory is not None:
            self._memory.forget(np.asarray(done, dtype=bool))

    def state(self) -> State:
        """Weights, optimiser and draws."""
        return {
            **module_state(self.network),
            **optimiser_state(self.optimiser, 'optimiser.0'),
            **draws_state(rng=self.rng, explore_rng=self._explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; what :meth:`act` remembers is forgotten."""
        load_module_state(self.network, state)
        load_optimiser_state(self.optimiser, state, 'optimiser.0')
        load_draws(state, rng=self.rng, explore_rng=self._explore_rng)
        self._memory = None

    def _play(
        self, world: World, tasks: Any, rng: np.random.Generator, *, explore: bool = True
    ) -> tuple[Rollouts, Array, Array]:
        """Trials of T steps, what the network saw (T, N, I), and its values (T, N)."""
        world.set_task(tasks)
        memory = Memory(self.network, world.count, self._actions)
        inputs, values = [], []

        @torch.no_grad()
        def act(observation: Array) -> tuple[Array, Array]:
            inputs.append(memory.input(observation))
            policy, value, hidden = self.network(torch.from_numpy(inputs[-1])[None], memory.hidden)
            action = policy.sample(rng) if explore else policy.mode()
            memory.acted(action[0].numpy(), hidden)
            values.append(value[0].numpy())
            return action[0].numpy(), policy.log_prob(action)[0].numpy()

        steps = self.config.episodes * self.config.horizon
        trials = collect(world, act, steps, watch=memory.see)
        return trials, np.stack(inputs), np.stack(values)

    def _epoch(self, batch: list[Tensor], order: Tensor, steps: list[list[float]]) -> bool:
        """Go through all trials once; adds what each step says. False if it went too far."""
        for index in torch.split(order, self.config.minibatch):
            steps.append(self._step(*(x[:, index] for x in batch)))
            if self.config.target_kl is not None and steps[-1][3] > self.config.target_kl:
                return False
        return True

    def _step(
        self,
        inputs: Tensor,
        actions: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        returns: Tensor,
    ) -> list[float]:
        """One gradient step on whole trials (T, M, ...), through all of their time."""
        config = self.config
        policy, values, _ = self.network(inputs, self.network.start(inputs.shape[1]))
        log_ratio = policy.log_prob(actions) - log_probs
        ratio = torch.exp(log_ratio)
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
        value_loss = (values - returns).square().mean()
        entropy = policy.entropy().mean()
        loss = (
            policy_loss
            + config.value_coefficient * value_loss
            - config.entropy_coefficient * entropy
        )
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
        self.optimiser.step()
        self.network.clamp_log_std()
        kl = (ratio - 1.0 - log_ratio).mean()
        far = ((ratio - 1.0).abs() > config.clip).float().mean()
        return torch.stack((policy_loss, value_loss, entropy, kl, far)).tolist()
