"""The other side of `lebot benchmark adapt`: stable-baselines3 from the same policy.

PPO and SAC begin with the base's actor, the observation normaliser folded into its first layer,
PPO with the base's critic, too. They explore with the spread that our learners begin with, on the
same robot for the same robot minutes. SAC squashes its Gaussian by tanh; the environment undoes
that, so that it is the base's mean action to the bit of a float, and the same spread, there too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from lebot_rl_ros.cli.adapt_cells import EXPLORATION, LEARNING_SEED, Cell
from lebot_rl_ros.cli.adapt_log import Log, Tell, schedule
from lebot_rl_ros.cli.adapt_oracle import Bench
from lebot_rl_ros.cli.benchmark_peer import ACTIVATIONS
from lebot_rl_ros.cli.benchmark_run import Clock
from lebot_rl_ros.envs.faulty_task import FaultyEnv, FaultyTask, unsquash
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.runtime import PolicyRuntime, fold

DISCOUNT = 0.98  # of the base's critic
WARM = 1000  # steps of SAC before it learns, walked by its own policy and not at random
PPO_SETTINGS: dict[str, Any] = {
    'n_steps': 1000, 'batch_size': 250, 'n_epochs': 5, 'learning_rate': 3e-4, 'gae_lambda': 0.95,
    'target_kl': 0.02, 'ent_coef': 0.0,
}  # fmt: skip
SAC_SETTINGS: dict[str, Any] = {
    'buffer_size': 50_000, 'batch_size': 256, 'learning_rate': 3e-4, 'learning_starts': WARM,
    'train_freq': 1, 'gradient_steps': 1,
}  # fmt: skip
Array = np.ndarray[Any, np.dtype[Any]]
Act = Callable[[Array], Array]


class WarmSAC(SAC):
    """SAC whose first steps, before it learns, are its policy's and not drawn from the box."""

    def _sample_action(self, learning_starts: int, *args: Any, **kwargs: Any) -> Any:
        return super()._sample_action(0, *args, **kwargs)


class TimedEnv(FaultyEnv):
    """Stops the learner's clock while the robot moves."""

    clock: Clock | None = None

    def step(self, action: Array) -> Any:
        """Apply an action."""
        if self.clock is None:
            return super().step(action)
        self.clock.stop()
        outcome = super().step(action)
        self.clock.start()
        return outcome


def _copy(layers: list[Any], tensors: Tensors, net: str) -> None:
    """Write a network of the file format, normaliser folded in, into torch's linear layers."""
    for layer, folded in zip(layers, fold(tensors, net), strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(folded[:-1].T.copy()))
            layer.bias.copy_(torch.from_numpy(folded[-1].copy()))


def _linear(*modules: nn.Module) -> list[nn.Module]:
    return [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]


def _shape(manifest: PolicyManifest) -> dict[str, Any]:
    hidden = list(manifest.network['hidden'])
    return {
        'net_arch': {'pi': hidden, 'vf': hidden, 'qf': [256, 256]},
        'activation_fn': ACTIVATIONS[manifest.network['activation']],
    }


def warm_ppo(env: FaultyEnv, tensors: Tensors, manifest: PolicyManifest, seed: int) -> PPO:
    """PPO that acts as the base does, with the base's critic."""
    model = PPO(
        'MlpPolicy', env, seed=seed, device='cpu', gamma=DISCOUNT,
        policy_kwargs=_shape(manifest), **PPO_SETTINGS,
    )  # fmt: skip
    policy: Any = model.policy
    _copy(_linear(policy.mlp_extractor.policy_net, policy.action_net), tensors, 'actor')
    _copy(_linear(policy.mlp_extractor.value_net, policy.value_net), tensors, 'critic')
    nn.init.constant_(policy.log_std, float(np.log(EXPLORATION)))
    return model


def warm_sac(env: FaultyEnv, tensors: Tensors, manifest: PolicyManifest, seed: int) -> WarmSAC:
    """SAC whose mean is the base's; its spread is the same in all states at first.

    Its critics start from nothing: the base has a value of states, and none of actions. The
    entropy that it aims at is that of its start.
    """
    shape = _shape(manifest)
    shape['net_arch'] = {key: shape['net_arch'][key] for key in ('pi', 'qf')}
    aim = squashed_entropy(walked(env, PolicyRuntime(tensors, manifest)), EXPLORATION)
    model = WarmSAC(
        'MlpPolicy', env, seed=seed, device='cpu', gamma=DISCOUNT, policy_kwargs=shape,
        ent_coef='auto_0.01', target_entropy=aim, **SAC_SETTINGS,
    )  # fmt: skip
    actor: Any = model.policy.actor
    _copy(_linear(actor.latent_pi, actor.mu), tensors, 'actor')
    nn.init.zeros_(actor.log_std.weight)
    nn.init.constant_(actor.log_std.bias, float(np.log(EXPLORATION)))
    return model


def squashed_entropy(means: Array, std: float) -> float:
    """Entropy (nats) of tanh(u), u normal about means (N, J) with one small spread; mean over N.

    H(tanh u) = H(u) + E log(1 - tanh(u)^2), the latter taken at the mean.
    """
    plain = means.shape[1] * (np.log(std) + 0.5 * np.log(2.0 * np.pi * np.e))
    return float(plain + np.log1p(-np.square(np.tanh(means))).sum(axis=1).mean())


def walked(env: FaultyEnv, runtime: PolicyRuntime, steps: int = 250) -> Array:
    """Mean actions (N, J) of the base while it walks in an environment."""
    observation, means = env.task.reset(), []
    for _ in range(steps):
        means.append(runtime.act_many(observation))
        observation = env.task.step(means[-1]).observation
    return np.concatenate(means)


def mean_action(model: PPO | SAC) -> Act:
    """Deterministic actions (N, J) of a model for observations (N, O), in units of the task."""
    squashed = isinstance(model, SAC)

    def act(observation: Array) -> Array:
        action = model.predict(observation, deterministic=True)[0]
        return unsquash(action) if squashed else action

    return act


class _Watch(BaseCallback):
    """Judges when it is due, and ends the training when the robot's time is over."""

    def __init__(self, env: TimedEnv, cell: Cell, bench: Bench, clock: Clock, tell: Tell) -> None:
        super().__init__()
        self._env, self._bench, self._clock, self._tell = env, bench, clock, tell
        self._minutes, self._due, self.log = cell.minutes, schedule(cell.minutes), Log()

    def judge(self, minute: float) -> None:
        """Note what the policy is worth now."""
        self.log.judge(minute, self._bench.judge(mean_action(self.model)))  # type: ignore[arg-type]

    def _on_step(self) -> bool:
        while self._due and self._env.seconds >= 60.0 * self._due[0]:
            self._clock.stop()
            self.judge(self._due[0])
            self._tell(self._due.pop(0) / self._minutes)
            self._clock.start()
        return bool(self._due)


def run_peer(cell: Cell, bench: Bench, clock: Clock, tell: Tell) -> Log:
    """Let stable-baselines3 adapt."""
    task = FaultyTask(bench.robot, 1, bench.faults, bench.learning)
    sac = cell.method == 'sb3-sac'
    env = TimedEnv(task, squashed=sac)
    seed = LEARNING_SEED + cell.seed
    start = warm_sac if sac else warm_ppo
    model: Any = start(env, bench.tensors, bench.manifest, seed)
    watch = _Watch(env, cell, bench, clock, tell)
    watch.model = model
    watch.judge(0.0)
    env.clock = clock
    clock.start()
    model.learn(10**9, callback=watch)
    clock.stop()
    watch.log.falls = [round(second / 60.0, 3) for second in env.fallen_at]
    return watch.log
