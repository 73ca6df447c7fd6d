"""What `lebot benchmark methods` compares: methods, environments, and the settings of both sides.

The settings are stable-baselines3's own tuned ones (rl-baselines3-zoo, `hyperparams/*.yml`) where
it has some; ours are the same numbers by our names, those of ``learning.presets``. Networks, steps
and seeds are equal. On LeBotVelocity-v0 both have the settings of the shipped policy. There the
peer runs twice: on our vector environment, which takes most of the time of either side, and
(`-singles`) on single environments that it puts side by side, as its users do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lebot_rl_ros.learning.presets import SOLVED, Preset, preset


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    method: str  # in learning.registry
    env: str
    peer: str  # class of stable_baselines3
    theirs: Mapping[str, Any]  # arguments of that class; 'lin_X' falls from X to 0
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # of the environment, both sides
    steps: int = 0  # of all environments together; 0: the preset's
    hidden: tuple[int, ...] = (64, 64)
    activation: str = 'tanh'
    normalise: bool = False  # observations, both sides
    singles: bool = False  # the peer steps single environments, where we have a vector of them
    time_aim: float | None = None  # of the peer's wall time, at most
    evaluations: int = 20
    episodes: int = 20  # of an evaluation

    @property
    def ours(self) -> Preset:
        """Our settings."""
        return preset(self.method, self.env)

    @property
    def budget(self) -> int:
        """Steps of a training."""
        return self.steps or self.ours.steps

    @property
    def target(self) -> float | None:
        """Return that counts as solved."""
        return self.ours.target or SOLVED.get(self.env)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides a run on either side, as JSON has it."""
        return {
            **({'singles': True} if self.singles else {}),
            'steps': self.budget, 'envs': self.ours.envs, 'ours': plain(self.ours.config),
            'theirs': plain(self.theirs), 'kwargs': plain(self.kwargs),
            'hidden': list(self.hidden), 'activation': self.activation,
            'judged': [self.evaluations, self.episodes],
        }  # fmt: skip


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


_LANDER = {
    'n_steps': 1024, 'batch_size': 64, 'gae_lambda': 0.98, 'gamma': 0.999, 'n_epochs': 4,
    'ent_coef': 0.01,
}  # fmt: skip
_OFF_POLICY = {
    'gamma': 0.98, 'buffer_size': 200_000, 'learning_starts': 10_000, 'action_noise': 0.1,
    'gradient_steps': 1, 'train_freq': 1, 'learning_rate': 1e-3, 'batch_size': 256,
}  # fmt: skip


def _off_policy(method: str, env: str, steps: int = 0, **kwargs: Any) -> Cell:
    return Cell(
        method, env, method.upper(), _OFF_POLICY, kwargs, steps, hidden=(400, 300),
        activation='relu', time_aim=1.0,
    )  # fmt: skip


# A fifth of the zoo's 300,000 steps, which take a core 40 minutes a run.
_LANDING: dict[str, Any] = {'steps': 60_000, 'continuous': True}


def _velocity(*, singles: bool = False) -> Cell:
    return Cell(
        'ppo', 'LeBotVelocity-v0', 'PPO',
        {
            'n_steps': 24, 'batch_size': 1536, 'gae_lambda': 0.95, 'gamma': 0.98, 'n_epochs': 4,
            'learning_rate': 1e-3, 'max_grad_norm': 1.0, 'ent_coef': 0.0,
            'policy_kwargs': {'log_std_init': -1.05},
        },
        steps=1_000_000, hidden=(128, 128), activation='elu', normalise=True, singles=singles,
        time_aim=0.6, evaluations=10,
    )  # fmt: skip


CELLS = {
    'ppo:CartPole-v1': Cell(
        'ppo', 'CartPole-v1', 'PPO',
        {
            'n_steps': 32, 'batch_size': 256, 'gae_lambda': 0.8, 'gamma': 0.98, 'n_epochs': 20,
            'ent_coef': 0.0, 'learning_rate': 'lin_0.001', 'clip_range': 'lin_0.2',
        },
        time_aim=0.6,
    ),
    'ppo:Pendulum-v1': Cell(
        'ppo', 'Pendulum-v1', 'PPO',
        {
            'n_steps': 1024, 'gae_lambda': 0.95, 'gamma': 0.9, 'n_epochs': 10, 'ent_coef': 0.0,
            'learning_rate': 1e-3, 'use_sde': True, 'sde_sample_freq': 4,
        },
    ),
    'ppo:LeBotVelocity-v0': _velocity(),
    'ppo:LeBotVelocity-v0-singles': _velocity(singles=True),
    'ddpg:Pendulum-v1': _off_policy('ddpg', 'Pendulum-v1'),
    'td3:Pendulum-v1': _off_policy('td3', 'Pendulum-v1'),
    'ppo:LunarLander-v3': Cell('ppo', 'LunarLander-v3', 'PPO', _LANDER, steps=600_000),
    'ppo:LunarLander-v3-continuous': Cell(
        'ppo', 'LunarLander-v3', 'PPO', _LANDER, {'continuous': True}, steps=600_000
    ),
    'ddpg:LunarLander-v3-continuous': _off_policy('ddpg', 'LunarLander-v3', **_LANDING),
    'td3:LunarLander-v3-continuous': _off_policy('td3', 'LunarLander-v3', **_LANDING),
}  # fmt: skip
