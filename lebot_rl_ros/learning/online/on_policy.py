"""What the learners from a robot's newest steps share: what waits, what is kept, how to revert."""

import math
from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lebot_rl_ros.learning.method import Array, Metrics, State
from lebot_rl_ros.learning.online.critic import StateCritic
from lebot_rl_ros.learning.online.steps import Steps
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.learning.returns import BoolArray, FloatArray
from lebot_rl_ros.learning.state import draws_state, load_draws, load_module_state, module_state
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class OnPolicyConfig:
    """What they have in common."""

    batch: int = 250  # steps that are learned from at once
    discount: float = 0.98  # that of the base's critic; another one would be a cold critic
    trace: float = 0.95  # lambda
    learning_rate: float = 1e-3  # of what is trained
    value_learning_rate: float = 1e-3  # of the critic
    weight_decay: float = 1e-4  # of an adapter's A and B, decoupled
    gradient_norm: float = 1.0  # largest, of the policy and of the critic apart
    warmup: int = 0  # steps at first from which the critic alone learns
    lag: int = 2  # most policies that may have acted since the one that took a step
    largest_log_ratio: float = 0.5  # nats; rollouts whose mean |log ratio| reaches it are left out
    kl_coefficient: float = 0.0  # of the KL divergence from the base, reward units

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value that cannot be; the message has the range.
        """
        for name, least in (('batch', 1), ('warmup', 0), ('lag', 0)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}, must be {least} or more')
        for name in ('discount', 'trace'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be in [0, 1]')
        for name in ('gradient_norm', 'largest_log_ratio'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')
        for name in ('learning_rate', 'value_learning_rate', 'weight_decay', 'kl_coefficient'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f'{name} is {value}, must be 0 or more')


Config = TypeVar('Config', bound=OnPolicyConfig)


class OnPolicy(ABC, Generic[Config]):
    """Keeps rows until they are due; the spread of the policy is that of the rows, and stays."""

    name: str

    def __init__(self, trained: Trained, base: Tensors, config: Config, seed: int = 0) -> None:
        """Begin as the base.

        Args:
            trained: what is trained; it is changed in place.
            base: the policy's tensors, of which the critic is taken.
            config: how to learn.
            seed: of the order of samples.
        """
        self.trained, self.config = trained, config
        self.critic = StateCritic(base, str(trained.manifest.network['activation']))
        self.rng = np.random.default_rng(seed)
        self._pending: list[Steps] = []
        self._turn, self._acting = 0, b''  # how many policies have acted; hash of the last
        self.learned = 0  # steps that were learned from, or left out, since the beginning
        self.forget_moments()

    @abstractmethod
    def forget_moments(self) -> None:
        """Make the optimisers anew, of what is trained now."""

    @abstractmethod
    def update(self) -> Metrics:
        """Learn what is due since the last call; empty if nothing is."""

    @property
    def waiting(self) -> int:
        """Steps that were taken in and not yet learned from."""
        return sum(map(len, self._pending))

    def ingest(self, rows: Array) -> None:
        """Take learnable transitions (B,), in the order of time."""
        if not len(rows):
            return
        turns = np.empty(len(rows), np.int64)
        for i, sha256 in enumerate(rows['adapter_sha256']):
            acting = sha256.tobytes()  # weights that are offered twice are one policy
            if acting != self._acting:
                self._turn, self._acting = self._turn + 1, acting
            turns[i] = self._turn
        self._pending.append(Steps.of(rows, turns))

    def take(self, count: int) -> Steps:
        """Take out the oldest ``count`` steps that wait."""
        steps = Steps.joined(self._pending)
        self._pending = [steps[count:]] if len(steps) > count else []
        self.learned += min(count, len(steps))
        return steps[:count]

    def accept(self, tensors: Tensors) -> None:
        """Nothing to do: learning goes on from the weights as they are."""

    def revert(self, tensors: Tensors | None, rejected: Set[int]) -> None:
        """Go on from an adapter, or the base; see ``OnlineLearner``. The critic stays."""
        if tensors is None:
            self.trained.reset()
        else:
            self.trained.load(tensors)
        versions = np.array(sorted(rejected), np.int64)
        self._pending = [Steps.joined(self._pending).without(versions)] if self._pending else []
        self._pending = [steps for steps in self._pending if len(steps)]
        self.forget_moments()

    def actor_groups(self) -> list[dict[str, object]]:
        """Parameter groups of what is trained; only an adapter's A and B shrink."""
        named = list(self.trained.named_parameters())
        matrices = [parameter for name, parameter in named if '.lora_' in name and _matrix(name)]
        others = [p for name, p in named if not ('.lora_' in name and _matrix(name))]
        groups = [(matrices, self.config.weight_decay), (others, 0.0)]
        return [{'params': group, 'weight_decay': decay} for group, decay in groups if group]

    @torch.no_grad()
    def values(self, steps: Steps) -> tuple[FloatArray, FloatArray]:
        """Values (B,) of the steps' observations and of the next ones, float64."""
        found = [
            self.critic(self.trained.normalised(torch.from_numpy(observation))).double().numpy()
            for observation in (steps.observation, steps.next_observation)
        ]
        return found[0], found[1]

    def state(self) -> State:
        """Weights, draws, whose turn it is and the steps that wait."""
        state = {f'trained.{n}': _array(p) for n, p in self.trained.named_parameters()}
        state |= module_state(self.critic, 'critic') | draws_state(rng=self.rng)
        state['turn'] = np.array([self._turn, self.learned], np.int64)
        state['acting'] = np.frombuffer(self._acting, np.uint8).copy()
        if self._pending:
            state |= Steps.joined(self._pending).state('steps')
        return state

    @torch.no_grad()
    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`, bit for bit.

        Raises:
            ValueError: it is of another network, or something is missing.
        """
        named = dict(self.trained.named_parameters())
        for name, parameter in named.items():
            found = state.get(f'trained.{name}')
            if found is None or found.shape != tuple(parameter.shape):
                shape = 'missing' if found is None else f'of shape {found.shape}'
                raise ValueError(f'trained.{name} is {shape}, expected {tuple(parameter.shape)}')
        missing = [name for name in ('turn', 'acting') if name not in state]
        if missing:
            raise ValueError(f'{missing[0]} is missing in the state')
        load_module_state(self.critic, state, 'critic')
        load_draws(state, rng=self.rng)
        for name, parameter in named.items():
            parameter.copy_(torch.from_numpy(np.array(state[f'trained.{name}'])))
        self._turn, self.learned = map(int, state['turn'])
        self._acting = state['acting'].tobytes()
        waits = any(name.startswith('steps.') for name in state)
        self._pending = [Steps.from_state(state, 'steps')] if waits else []


class RunningSize:
    """Root mean square of errors, forgetting slowly what it saw first."""

    FORGET = 0.001  # share of the newest square

    def __init__(self) -> None:
        self._square, self._weight = 0.0, 0.0

    def __call__(self, errors: FloatArray) -> float:
        """Look at errors (B,); the size with these among them, 1 where all were 0."""
        for square in np.square(errors).tolist():
            self._square += self.FORGET * (square - self._square)
            self._weight += self.FORGET * (1.0 - self._weight)  # the start at 0 is no error
        return math.sqrt(self._square / self._weight) or 1.0 if self._weight else 1.0

    def state(self) -> Array:
        """(2,) of what it knows."""
        return np.array([self._square, self._weight])

    def load_state(self, state: Array | None) -> None:
        """Take what :meth:`state` gave.

        Raises:
            ValueError: it is missing, or not two numbers.
        """
        if state is None or state.shape != (2,):
            raise ValueError(f'the size of errors is {state} in the state, expected two numbers')
        self._square, self._weight = state.tolist()


def staleness(steps: Steps, kept: BoolArray, log_ratios: FloatArray, now: int) -> Metrics:
    """How old the steps are: lag_versions and mean_log_ratio of all, left_out those not kept."""
    finite = np.abs(log_ratios[np.isfinite(log_ratios)])
    return {
        'lag_versions': float((now - steps.turn).mean()),
        'mean_log_ratio': float(finite.mean()) if len(finite) else math.inf,
        'left_out': float(len(steps) - kept.sum()),
        'batch_reward': float(steps.reward.mean()),
    }


def cut_norm(parameters: list[nn.Parameter], largest: float) -> float:
    """Shorten gradients, as one vector, to ``largest`` at most; returns the norm before.

    Raises:
        ValueError: it is not finite.
    """
    norm = float(nn.utils.clip_grad_norm_(parameters, largest))
    if not math.isfinite(norm):
        raise ValueError('the gradient is not finite; lower the learning rate')
    return norm


def _matrix(name: str) -> bool:
    return name.endswith(('lora_A', 'lora_B'))


def _array(parameter: Tensor) -> Array:
    return parameter.detach().numpy().copy()
