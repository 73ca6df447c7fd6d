"""A step and the state that it led to, found by stamp in whatever order they come."""

from typing import Any, Generic, NamedTuple, TypeVar

Joints = TypeVar('Joints')
Imu = TypeVar('Imu')
Row = TypeVar('Row')

KEEP = 100  # of each topic, that wait for those of the same stamp


class Joined(NamedTuple, Generic[Row, Joints, Imu]):
    """What a reward is made of."""

    stamp: int  # ns, of the state that the step led to
    step: Row
    joints: Joints
    imu: Imu


class RewardJoin(Generic[Row, Joints, Imu]):
    """Takes what three topics bring; gives each step once, with the state that it led to.

    What a message is does not matter here: the reward node and a bag join by these same lines.
    """

    def __init__(self, period: int) -> None:
        """``period``: ns of a control step."""
        self._period = period
        self._joints: dict[int, Joints] = {}
        self._imus: dict[int, Imu] = {}
        self._steps: dict[int, Row] = {}
        self.lost = 0  # steps whose state never came

    def step(self, led_to: int, step: Row) -> list[Joined[Row, Joints, Imu]]:
        """A step, by the stamp (ns) of the state that it led to; what is complete with it."""
        self._steps[led_to] = step
        self.lost += _trim(self._steps)
        return self._complete([led_to], led_to)

    def joints(self, stamp: int, joints: Joints) -> list[Joined[Row, Joints, Imu]]:
        """Joints at a stamp (ns); what is complete with them."""
        self._joints[stamp] = joints
        _trim(self._joints)
        return self._complete([stamp], stamp)

    def imu(self, stamp: int, imu: Imu) -> list[Joined[Row, Joints, Imu]]:
        """A sample of the IMU at a stamp (ns); what is complete with it."""
        self._imus[stamp] = imu
        _trim(self._imus)
        # On a robot a sample shows that the one before it was the newest for a step.
        return self._complete(list(self._steps), stamp)

    def _complete(self, waiting: list[int], stamp: int) -> list[Joined[Row, Joints, Imu]]:
        done = []
        for due in waiting:
            if due <= stamp and due in self._steps and due in self._joints:
                imu = self._imu_of(due)
                if imu is not None:
                    done.append(Joined(due, self._steps.pop(due), self._joints[due], imu))
        return done

    def _imu_of(self, stamp: int) -> Imu | None:
        """The sample taken with the state: of its stamp, or on a robot the newest before it."""
        if stamp in self._imus:
            return self._imus[stamp]
        earlier = [key for key in self._imus if key <= stamp < key + self._period]
        later = [key for key in self._imus if key > stamp]
        return self._imus[max(earlier)] if earlier and later else None


def _trim(messages: dict[int, Any]) -> bool:
    """Let the oldest go where there are too many; returns whether one went."""
    if len(messages) <= KEEP:
        return False
    messages.pop(next(iter(messages)))
    return True
