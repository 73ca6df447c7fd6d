"""The training loop: many robots walk, one network learns, and everything is written down."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lebot_rl_ros.learning.base import Share, check_base, fingerprint, hidden_sizes, share
from lebot_rl_ros.learning.ppo import LOG_2PI, PPO, Batch, PPOConfig
from lebot_rl_ros.learning.returns import compute_gae, explained_variance
from lebot_rl_ros.learning.storage import Rollout
from lebot_rl_ros.learning.weights import LoraWeights
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.networks import ActorCritic

if TYPE_CHECKING:
    from lebot_rl_ros.envs.velocity_task import Outcome

FloatArray = npt.NDArray[np.floating]
Metrics = dict[str, float]


def share_cores() -> None:
    """Set this process up for a training: threads of ours use the cores, not threads inside torch.

    Torch's own wait for each other in every operation, which costs several times the work itself
    when the machine has anything else to do. What is learned does not depend on this.
    """
    torch.set_num_threads(1)
    sys.setswitchinterval(2e-4)  # s; who is back from physics should not wait Python's usual 5 ms


class Task(Protocol):
    """What is learned: robots that reset themselves, as in ``envs.velocity_task``."""

    @property
    def robots(self) -> int:
        """How many, N."""

    @property
    def action_size(self) -> int:
        """Numbers in an action, J."""

    @property
    def observation_size(self) -> int:
        """Numbers in an observation, O."""

    def seed(self, seed: int) -> None:
        """Restart every random draw."""

    def reset(self) -> FloatArray:
        """Start all episodes; (N, O)."""

    def stagger(self) -> None:
        """Spread the ages of the episodes."""

    def step(self, action: FloatArray) -> 'Outcome':
        """Apply actions (N, J) for one period."""


@dataclass(frozen=True)
class TrainConfig:
    """How long to train, how often to write down, and with what network."""

    steps: int = 12_500_000  # of all robots together
    horizon: int = 24  # periods of a rollout
    segment: int = 100  # iterations between checkpoints; then all episodes start over
    hidden: tuple[int, ...] = (128, 128)  # from nothing; with a base, the base's
    activation: str = 'elu'  # with a base, what its manifest says
    initial_std: float = 0.35  # action units; from nothing
    seed: int = 0
    ppo: PPOConfig = field(default_factory=PPOConfig)
    lora: LoraConfig | None = None  # what of a base is adapted; None trains all of it
    start_std: float | None = None  # action units, in place of the base's own at the start
    critic_warmup: int = 0  # iterations at the start that leave the policy as it is


class Trainer:
    """Rollouts and updates by turns.

    Robots come in shards, one thread each: while the simulator (which lets go of the interpreter
    lock) advances one shard, Python works for another. What is learned depends on the number of
    shards, not on their timing.

    At the start of every segment all random draws and episodes start over, from the seed and the
    segment's number. So a checkpoint between segments needs no state of any simulator, and
    training resumes to the same bits.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        config: TrainConfig,
        base: Tensors | None = None,
        start: Tensors | None = None,
    ) -> None:
        """Build the network for the tasks; all must have equal sizes.

        Args:
            tasks: the shards.
            config: how to train.
            base: weights to start from. Its normaliser stays as it is: an adapter belongs to it.
            start: an adapter to go on from; a new one without it.

        Raises:
            ValueError: the base does not fit the tasks, or something that needs a base has none.
        """
        self.tasks, self.base = tasks, base
        self.robots = sum(task.robots for task in tasks)
        observation, actions = tasks[0].observation_size, tasks[0].action_size
        if base is None:
            for name in ('lora', 'start_std'):
                if getattr(config, name) is not None:
                    raise ValueError(f'{name} is {getattr(config, name)}, which needs a base')
        else:
            check_base(base, observation, actions)
            config = replace(config, hidden=hidden_sizes(base))
        if start is not None and config.lora is None:
            raise ValueError('an adapter to start from needs the config lora')
        self.config = config
        torch.manual_seed(config.seed)
        self.network = ActorCritic(
            observation, actions, config.hidden, config.activation, config.initial_std
        )
        if base is not None:
            self.network.load_tensors(base)
        if config.start_std is not None:
            nn.init.constant_(self.network.log_std, math.log(config.start_std))
        self.adapter = None if config.lora is None else LoraWeights(self.network, config.lora)
        if self.adapter is not None and start is not None:
            self.adapter.load(start)
        self.ppo = PPO(self.network, config.ppo, self.adapter)
        # What a checkpoint must have in common with a training; '' from nothing.
        self.origin = '' if base is None else fingerprint(base, start or {})
        self.iteration = 0
        self.history: list[Metrics] = []
        self._rollouts = [
            Rollout(config.horizon, task.robots, observation, actions) for task in tasks
        ]
        self._generators: list[np.random.Generator] = []
        self._terms: list[dict[str, FloatArray]] = [{} for _ in tasks]
        self._values: list[tuple[Any, Any]] = [(0, 0) for _ in tasks]

    @property
    def samples(self) -> int:
        """Steps of one rollout, all robots together."""
        return self.config.horizon * self.robots

    def adapter_tensors(self) -> Tensors:
        """Copy the adapter as it is now, with the names of ``policy.adapters``.

        Raises:
            ValueError: all weights are trained, so there is none.
        """
        if self.adapter is None:
            raise ValueError('this training has no adapter: its config has lora = None')
        return self.adapter.tensors()

    @property
    def share(self) -> Share:
        """How small the adapter is beside the base.

        Raises:
            ValueError: all weights are trained.
        """
        return share(self.adapter_tensors(), self.base or {})

    @property
    def iterations(self) -> int:
        """How many iterations ``config.steps`` make, in whole segments."""
        segment = self.config.segment
        return segment * max(1, round(self.config.steps / self.samples / segment))

    def run(self, at_segment: Callable[[], None] | None = None) -> Iterator[Metrics]:
        """Train to the end; yield each iteration's metrics, call ``at_segment`` after segments."""
        with ThreadPoolExecutor(len(self.tasks)) as pool:
            while self.iteration < self.iterations:
                self._start_segment(self.iteration // self.config.segment)
                for _ in range(self.config.segment):
                    list(pool.map(self._collect, range(len(self.tasks))))
                    metrics = self._learn()
                    self.iteration += 1
                    metrics = {'steps': float(self.iteration * self.samples), **metrics}
                    self.history.append(metrics)
                    yield metrics
                if at_segment:
                    at_segment()

    def _start_segment(self, segment: int) -> None:
        roots = np.random.SeedSequence([self.config.seed, segment]).spawn(len(self.tasks) + 1)
        self._generators = [np.random.default_rng(root) for root in roots]
        for task, rollout, root in zip(self.tasks, self._rollouts, roots[:-1], strict=True):
            task.seed(int(root.generate_state(1)[0]))
            observation = task.reset()
            task.stagger()
            rollout.observations[-1] = observation

    @torch.no_grad()
    def _collect(self, shard: int) -> None:
        """Fill one shard's rollout with the policy as it is now."""
        task, rollout, rng = self.tasks[shard], self._rollouts[shard], self._generators[shard]
        network = self.network
        log_std = network.log_std.detach().numpy().copy()
        std, constant = np.exp(log_std), float(log_std.sum() + 0.5 * LOG_2PI * len(log_std))
        terms: dict[str, FloatArray] = {}
        rollout.start(rollout.observations[-1])
        for t in range(rollout.steps):
            x = network.normaliser(torch.from_numpy(rollout.observations[t]))
            noise = rng.standard_normal(rollout.actions.shape[1:], dtype=np.float32)
            rollout.actions[t] = network.actor(x).numpy() + std * noise
            rollout.log_probs[t] = -0.5 * np.einsum('ij,ij->i', noise, noise) - constant
            outcome = task.step(rollout.actions[t])
            rollout.add(
                t, outcome.observation, outcome.final_observation,
                outcome.reward, outcome.terminated, outcome.truncated,
            )  # fmt: skip
            for name, values in outcome.terms.items():
                terms[name] = terms[name] + values if t else values
        self._terms[shard] = terms
        self._values[shard] = self._evaluate(rollout)

    def _learn(self) -> Metrics:
        """Turn the rollouts into one update."""
        config, parts = self.config.ppo, []
        for rollout, (values, next_values) in zip(self._rollouts, self._values, strict=True):
            advantages, returns = compute_gae(
                rollout.rewards, values, next_values, rollout.terminated, rollout.truncated,
                discount=config.discount, trace=config.trace,
            )  # fmt: skip
            observations = rollout.observations[:-1]
            parts.append(
                (observations, rollout.actions, rollout.log_probs, values, advantages, returns)
            )
        flat = [
            torch.cat([torch.from_numpy(np.ascontiguousarray(a)).flatten(0, 1) for a in column])
            for column in zip(*parts, strict=True)
        ]
        raw = flat[0]
        with torch.no_grad():
            flat[0] = self.network.normaliser(raw)
        metrics = self._metrics()
        metrics['explained_variance'] = explained_variance(flat[3].numpy(), flat[5].numpy())
        warming = self.iteration < self.config.critic_warmup
        if self.iteration == self.config.critic_warmup > 0:
            self.ppo.optimiser.state.clear()  # Adam's step count would be too high for the policy
        metrics |= self.ppo.update(Batch(*flat), self._generators[-1], critic_only=warming)
        if self.base is None:
            self.network.normaliser.update(raw)
        return metrics

    def _evaluate(self, rollout: Rollout) -> tuple[Any, Any]:
        """Values (T, N) of the states in which steps began, and of those to which they led."""

        def value(observations: npt.NDArray[np.float32]) -> Any:
            x: Tensor = self.network.normaliser(torch.from_numpy(observations))
            return self.network.critic(x).squeeze(-1).numpy()

        values = np.stack([value(observation) for observation in rollout.observations])
        cuts = [observation for _, _, observation in rollout.cuts]
        cut_values = value(np.concatenate(cuts)) if cuts else np.empty(0, dtype=np.float32)
        return values[:-1], rollout.next_values(values, cut_values)

    def _metrics(self) -> Metrics:
        falls = sum(int(rollout.terminated.sum()) for rollout in self._rollouts)
        names = self._terms[0]
        terms = {
            f'reward/{name}': float(sum(t[name].sum() for t in self._terms)) / self.samples
            for name in names
        }
        return {
            'reward': sum(terms.values()),
            'falls': 1000.0 * falls / self.samples,  # in 1000 steps
            'std': float(self.network.log_std.detach().exp().mean()),
            **terms,
        }
