"""The contract of learners that run beside a walking robot. No clock, no ROS, no disk."""

from collections.abc import Set
from typing import Protocol, runtime_checkable

from lebot_rl_ros.learning.method import Array, Metrics, State
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


class OnlineLearner(Protocol):
    """Takes transitions, improves what is trained. The session decides what of it acts."""

    name: str
    trained: Trained

    def ingest(self, rows: Array) -> None:
        """Take learnable transitions (``data.rows.transition_dtype``), in the order of time."""

    def update(self) -> Metrics:
        """Learn what is due since the last call; empty if nothing is.

        Numbers have the field's names: policy_loss, value_loss, approx_kl, clip_fraction,
        explained_variance, ess (effective sample size, a share), lag_versions, kl_to_base.
        """

    def accept(self, tensors: Tensors) -> None:
        """This adapter, which was offered some steps ago, was accepted: hold on to it."""

    def revert(self, tensors: Tensors | None, rejected: Set[int]) -> None:
        """A version was rolled back.

        Args:
            tensors: of the adapter to go on from, as ``trained.export`` gave them; None is the
                base.
            rejected: versions whose steps are to be forgotten; the optimiser's moments are, too.
        """

    def state(self) -> State:
        """Everything that learning depends on, for a checkpoint."""

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`, bit for bit; ValueError where it does not fit."""


@runtime_checkable
class Replaying(Protocol):
    """An online learner that can learn from what others did: an off-policy one."""

    def replay(self, rows: Array) -> None:
        """Remember recorded learnable transitions, before any of the robot come."""
