"""How PPO collects and learns."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PPOMethodConfig:
    """How to collect and how to learn; the defaults suit small continuous tasks."""

    horizon: int = 2048  # steps of each environment in a rollout
    epochs: int = 10  # passes over a rollout
    minibatch: int = 64  # samples a gradient step; the last of a pass may be smaller
    discount: float = 0.99  # gamma
    trace: float = 0.95  # lambda of the advantages; 0 looks one step ahead, 1 to the end
    learning_rate: str | float = '3e-4'  # a schedule, as linear:3e-4:0
    clip: str | float = '0.2'  # of the probability ratio; a schedule
    value_clip: float | None = None  # largest change of a value in an update that counts
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.0  # of nats
    gradient_norm: float = 0.5  # largest, over all that is trained
    target_kl: float | None = None  # nats; an update ends at the first minibatch beyond it
    normalise_advantages: Literal['minibatch', 'rollout', 'no'] = 'minibatch'
    normalise_observations: bool = False  # by mean and variance of what was seen; vectors only
    normalise_rewards: bool = False  # by the spread of discounted returns
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers of actor and critic
    activation: str = 'tanh'  # elu, relu or tanh
    initial_std: float = 1.0  # of continuous actions, in their units
    extractor: str | None = None  # flatten, one_hot, vector or image; None goes by the space
    shared: bool = False  # actor and critic share all but their last layers
    state_dependent: bool = False  # exploration by gSDE, arXiv 2005.05719
    noise_steps: int = 4  # for which gSDE holds a noise matrix

    def __post_init__(self) -> None:
        for name in ('horizon', 'epochs', 'minibatch', 'noise_steps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be 1 or more')
        for name in ('discount', 'trace'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be in [0, 1]')
        for name in ('gradient_norm', 'initial_std', 'value_clip', 'target_kl'):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f'{name} is {value}, must be positive')
        choices = ('minibatch', 'rollout', 'no')
        if self.normalise_advantages not in choices:
            raise ValueError(
                f'normalise_advantages is {self.normalise_advantages!r}; '
                f'choices are {", ".join(choices)}'
            )
