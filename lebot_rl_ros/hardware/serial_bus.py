"""The control cycle of a bus, whatever the protocol: whole reads quickly, partial ones rightly."""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.block import (
    ALL,
    Block,
    Bytes,
    Columns,
    Records,
    Rows,
    WholeRead,
    whole_read,
)
from lebot_rl_ros.hardware.bus import Feedback
from lebot_rl_ros.hardware.exchange import Question
from lebot_rl_ros.hardware.packets import Answer
from lebot_rl_ros.hardware.register_bus import RegisterBus
from lebot_rl_ros.hardware.registers import MIDDLE, STEP, STEPS, Table
from lebot_rl_ros.hardware.wire import Wire
from lebot_rl_ros.robot.state import FloatArray

RETRY_SHARE = 0.75  # of a period, in which a read with its retry must be done
LENGTHS = 8  # that a read may ask for, see SerialBus
OWED = 0.1  # s that a missing answer may still come in: a USB adapter is far quicker
CALM = 50  # undisturbed reads after which the shortest two are used again


class SerialBus(RegisterBus):
    """All servos on one wire. A subclass knows the protocol and what the block's bytes mean.

    No protocol numbers its answers. So reads alternate between two lengths: a late answer to the
    last one is seen to be foreign. A length to which answers are missing is not used again before
    all others were, nor before OWED after a later request was answered: requests are heard in
    their order, however long the other side slept. Where none was, and all lengths are used up,
    the first answer says no more than that somebody is awake.
    """

    block: Block

    def __init__(
        self,
        wire: Wire,
        ids: Sequence[int],
        table: Table,
        *,
        period: float,
        slack: float | None,
        delay: float,
    ) -> None:
        """Nothing is sent yet; see RegisterBus.

        Args:
            wire: open port.
            ids: of the servos.
            table: of those servos that have not told their model.
            period: s between two reads; inf: a missing answer is always asked for once more.
            slack: s that answers may be late for, or None.
            delay: s that each servo waits before it answers, at most.
        """
        super().__init__(wire, ids, table, slack, delay)
        self.period = period
        self._rows: npt.NDArray[np.intp] = np.arange(len(self.ids))
        self._row = {id: row for row, id in enumerate(self.ids)}
        self._extras = list(range(LENGTHS))  # bytes beyond the block, by when to use them
        # Until when answers to a length may come, monotonic s; inf: nothing was heard since.
        self._owed = [0.0] * LENGTHS
        self._silent = False  # whether one of these is inf
        self._calm = 0  # reads without a disturbance
        self._whole = [self._whole_read(self.block.length + extra) for extra in self._extras]
        self._records = self.block.records(self.block.head + 1 + self.block.length)
        nan, zero = np.full(len(self.ids), np.nan), np.zeros(len(self.ids), np.int64)
        self._last = Feedback(nan, nan, nan, nan, nan, zero, zero)

    @abstractmethod
    def _heads(self, length: int) -> Bytes:
        """What good answers begin with: (J, bytes), as many as never change."""

    @abstractmethod
    def _sums(self, length: int) -> Callable[[Bytes], bool]:
        """Whether the check sums of whole answers, (J, bytes), are right."""

    @abstractmethod
    def _convert(self, records: Records, rows: Rows) -> Columns:
        """Answers (k,) of the servos in ``rows`` in SI units."""

    @abstractmethod
    def _goal_request(self, position: FloatArray) -> bytes | bytearray:
        """The sync write of all goals (J,) rad; see :meth:`_counts` for what is refused."""

    def _counts(self, position: FloatArray) -> FloatArray:
        """Goals (J,) rad as raw positions, still floating-point.

        Raises:
            ValueError: one is not finite, or outside the turn of 4096 steps.
        """
        counts = np.rint(position * (1 / STEP) + MIDDLE)
        if counts.shape != self._rows.shape:
            raise ValueError(f'{counts.shape} goals for {len(self.ids)} servos')
        if not (
            np.minimum.reduce(counts) >= 0 and np.maximum.reduce(counts) < STEPS
        ):  # nor if one is NaN
            row = int(np.argmin((counts >= 0) & (counts < STEPS)))
            raise ValueError(
                f'goal of servo {self.ids[row]} is {position[row]} rad, '
                f'must be from {-MIDDLE * STEP:.4f} to {(STEPS - 1 - MIDDLE) * STEP:.4f}'
            )
        return counts

    def write_goals(self, position: FloatArray) -> None:
        """Send all goals, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        self.wire.send(self._goal_request(position))

    def read(self) -> Feedback:
        """Read all servos, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        return self._read(b'')

    def cycle(self, position: FloatArray) -> Feedback:
        """Write all goals, then read all servos, both requests in one go."""
        return self._read(bytes(self._goal_request(position)))

    def _read(self, before: bytes) -> Feedback:
        """Read all servos; ``before`` is a request that nobody answers."""
        extra = self._extras[0]
        if self._owed[extra] == np.inf:
            return self._awaken(extra, before)
        self._await_owed(extra)
        start = time.monotonic()
        question, intact, records, enough = self._whole[extra]
        data = self.wire.exchange(
            before + question.request, question.expected, question.timeout, enough
        )
        if len(data) == question.expected and intact(data):
            self._heard()
            columns = self._convert(np.frombuffer(data, records), ALL)
            self._last = Feedback(*columns, np.zeros(len(self.ids), np.int64))
            self._used(extra, True)
            return self._last
        answers = self.exchange.sort(question, data, start + question.timeout)
        if answers:
            self._heard()
        missing = [id for id in self.ids if id not in answers]
        self._used(extra, not missing)
        if missing and answers:
            # Some servos wait for the one before them; the likely culprit is asked last.
            extra = self._extras[0]
            again = self._ask((*missing[1:], missing[0]), self.block.length + extra)
            most = again.timeout + self.exchange.quiet  # with a disturbed line's drain at its end
            begin = max(time.monotonic(), self._owed[extra])
            if begin + most - start <= RETRY_SHARE * self.period:
                self._await_owed(extra)
                more = self.exchange.gather(again)
                if more:
                    self._heard()
                self._used(extra, len(more) == len(missing))
                answers |= more
        self._last = self._partial(answers)
        return self._last

    def _awaken(self, extra: int, before: bytes) -> Feedback:
        """Ask, after nothing was heard for as many reads as there are lengths; nobody is believed.

        What comes may be the answer to any of those.
        """
        question = self._whole[extra].question
        data = self.wire.exchange(before + question.request, question.expected, question.timeout)
        if data:
            self.errors.foreign += 1
            self.wire.drain(self.exchange.quiet)
            self._heard()
        self.errors.missing.update(self.ids)
        self._used(extra, False)
        self._last = self._partial({})
        return self._last

    def _used(self, extra: int, complete: bool) -> None:
        """Let a length be the next but one, or the last if answers to it may be under way."""
        self._extras.remove(extra)
        if not complete:
            self._extras.append(extra)
            self._owed[extra] = np.inf
            self._silent = True
            self._calm = 0
            return
        self._extras.insert(1, extra)
        self._calm += 1
        if self._calm == CALM:
            self._extras.sort()
            self._extras.remove(extra)
            self._extras.insert(1, extra)

    def _heard(self) -> None:
        """Somebody answers: what is missing from earlier reads comes soon, or never."""
        if not self._silent:
            return
        # At a steady period, with two lengths used in each, this never makes a read wait.
        until = time.monotonic() + min(OWED, (LENGTHS / 2 - 2) * self.period)
        self._owed = [until if owed == np.inf else owed for owed in self._owed]
        self._silent = False

    def _await_owed(self, extra: int) -> None:
        """Wait until no answer to this length can come any more, and forget what came."""
        left = self._owed[extra] - time.monotonic()
        if left > 0:
            time.sleep(left)
            self.wire.drain()

    def _partial(self, answers: Mapping[int, Answer]) -> Feedback:
        """The last feedback with the rows of those who answered; leaves the last one as it is."""
        last = self._last
        columns: Columns = (
            last.position.copy(),
            last.velocity.copy(),
            last.load.copy(),
            last.voltage.copy(),
            last.temperature.copy(),
            last.alarm.copy(),
        )
        missed = last.missed + 1
        if answers:
            rows = np.array([self._row[id] for id in answers])
            missed[rows] = 0
            packed = b''.join(
                bytes(self.block.head) + bytes((answer.error,)) + answer.data[: self.block.length]
                for answer in answers.values()
            )
            fresh = self._convert(np.frombuffer(packed, self._records), rows)
            for column, values in zip(columns, fresh, strict=True):
                column[rows] = values
        return Feedback(*columns, missed)

    def _ask(self, ids: Sequence[int], length: int) -> Question:
        request = self.codec.sync_read(self.block.address, length, ids)
        return self.exchange.question(request, ids, length)

    def _whole_read(self, length: int) -> WholeRead:
        question = self._ask(self.ids, length)
        return whole_read(question, self.block, self._heads(length), self._sums(length))
