"""What every servo bus can do, whatever its protocol. Angles are the servos' own, in rad."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray


class Alarm(IntFlag):
    """What a servo itself complains about, in one spelling for all protocols."""

    VOLTAGE = 1
    ENCODER = 2
    HEAT = 4
    CURRENT = 8
    OVERLOAD = 16
    SHOCK = 32


@dataclass(slots=True)
class Feedback:
    """One read of all servos; row i belongs to ``ids[i]`` of the bus.

    Who did not answer keeps its last values: ``missed`` says for how many reads in a row, and
    is 0 where the row is of this read. Before its first answer a row is NaN.
    """

    position: FloatArray  # (J,) rad, 0 at the middle of the servo's turn
    velocity: FloatArray  # (J,) rad/s
    load: FloatArray  # (J,) share of the stall torque, -1 to 1, in the direction of position
    voltage: FloatArray  # (J,) V
    temperature: FloatArray  # (J,) deg C
    alarm: npt.NDArray[np.int64]  # (J,) bits of Alarm
    missed: npt.NDArray[np.int64]  # (J,) reads in a row without an answer that could be used

    @property
    def complete(self) -> bool:
        """Whether every row is of this read."""
        return not self.missed.any()


@dataclass(frozen=True)
class Found:
    """A servo that answered a scan."""

    id: int
    baud: int
    model: int  # number that it gives itself
    model_name: str  # 'unknown model 42' where the tables do not have it


@dataclass
class Errors:
    """What went wrong on the wire since the port was opened, by servo id."""

    missing: Counter[int] = field(default_factory=Counter)  # no answer in time
    damaged: Counter[int] = field(default_factory=Counter)  # wrong check sum, length or place
    foreign: int = 0  # answers that nobody had asked for: late, doubled, of another id
    echoed: int = 0  # requests that came back

    def total(self) -> int:
        """All of them."""
        return self.missing.total() + self.damaged.total() + self.foreign


class ServoBus(ABC):
    """All servos on one wire. Partial answers are normal answers; nothing raises for a servo.

    Every method raises :class:`~lebot_rl_ros.hardware.wire.WireLost` when the port is gone.
    """

    ids: tuple[int, ...]
    errors: Errors

    @abstractmethod
    def scan(self, ids: Iterable[int], bauds: Sequence[int] = ()) -> list[Found]:
        """Who answers a ping; at the bus's own rate, or at each of ``bauds`` (own one after)."""

    @abstractmethod
    def write_goals(self, position: FloatArray) -> None:
        """Send all goals (J,) rad with one sync write; non-finite ones are refused, ValueError."""

    @abstractmethod
    def read(self) -> Feedback:
        """Read the whole feedback block of all servos with one sync read.

        At most one retry, of the missing ones alone, and only if the period leaves time.
        """

    def cycle(self, position: FloatArray) -> Feedback:
        """Write all goals, then read all servos."""
        self.write_goals(position)
        return self.read()

    @abstractmethod
    def set_torque(self, on: bool, ids: Sequence[int] | None = None) -> None:
        """Switch torque with one sync write; off is sent three times, as nobody answers."""

    @abstractmethod
    def torque(self) -> npt.NDArray[np.float64]:
        """(J,) 1 with torque, 0 without, NaN if it did not say."""

    @abstractmethod
    def clear_alarm(self, id: int) -> bool:
        """Make a servo forget its alarm; whether it answered. Torque is off then.

        It may reboot for that, and say nothing for half a second.
        """

    @abstractmethod
    def get(self, id: int, register: str) -> float | None:
        """A register by its name in the table, in SI or plain units; None without an answer.

        Raises:
            ValueError: no such register; the message gives the choices.
        """

    @abstractmethod
    def put(self, id: int, register: str, value: float) -> bool:
        """Write a register; whether the servo confirmed. EEPROM is unlocked and locked again.

        Raises:
            ValueError: no such register, read-only, or the value does not fit it.
        """

    @abstractmethod
    def set_id(self, old: int, new: int) -> bool:
        """Give a servo another id; whether it answers to that now.

        Raises:
            ValueError: a servo with the new id is there, or the id does not fit the protocol.
        """

    @abstractmethod
    def set_limits(
        self, speed: float | None, torque_share: float | None, ids: Sequence[int] | None = None
    ) -> bool:
        """Let servos move slowly and weakly, until power-off; whether all of them confirmed.

        Args:
            speed: rad/s of their own moves; None: as fast as they go.
            torque_share: of the stall torque; None: as much as their EEPROM allows.
            ids: which; None: all.

        Raises:
            ValueError: a value that the servo does not take.
        """

    @abstractmethod
    def torque_off(self) -> bytes:
        """The request that switches torque off, for someone else to write in an emergency."""

    @abstractmethod
    def fileno(self) -> int:
        """Descriptor of the port, for the same one."""

    @abstractmethod
    def close(self) -> None:
        """Close the port; torque stays as it is."""
