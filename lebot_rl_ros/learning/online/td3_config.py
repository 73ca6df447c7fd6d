"""How the off-policy learner of a walking robot learns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OnlineTD3Config:
    """How to learn from one robot's steps; actions are in policy units."""

    batch: int = 128  # steps of an update
    updates_per_step: float = 1.0
    most: int = 50  # updates at once; who is too slow for its steps leaves the rest out
    learning_starts: int = 250  # steps before the first update
    capacity: int = 30_000  # steps remembered: ten minutes
    discount: float = 0.98  # that of the base's critic
    hidden: int = 128  # width of the critics' two layers
    critics: int = 2
    critic_rate: float = 1e-3
    actor_rate: float = 3e-4
    tau: float = 0.005  # step of the target critics
    policy_delay: int = 2  # updates of the critics for one of the actor
    target_noise: float = 0.1  # blur of the action to come
    target_clip: float = 0.3  # largest of it
    value_scale: float = 20.0  # of the corrections to the base's values
    deviation: float = 0.8  # from the base's action: beyond, it is pulled back
    hinge: float = 10.0  # of the square of what is beyond, in the loss
    anchor: float = 0.2  # at first, of the squared distance to the anchor, in the loss
    step: float = 0.06  # wanted distance to what was accepted last; the anchor's weight follows
    base: float = 0.2  # of the squared distance to the base, in the loss
    weight_decay: float = 1e-4  # of an adapter's A and B
    gradient_norm: float = 1.0  # largest, of the actor
    quarantine: bool = True  # steps of rejected versions are not learned from
    replay_updates: int = 6000  # of the critics alone, at first, where recorded steps are given

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        for name in ('batch', 'learning_starts', 'capacity', 'hidden', 'critics', 'policy_delay'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be at least 1')
        for name in ('discount', 'tau'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be in [0, 1]')
