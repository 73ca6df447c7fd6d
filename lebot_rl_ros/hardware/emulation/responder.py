"""A servo bus on a line: hears requests, answers them, and takes the time that a wire takes.

As a process of its own, for tests and benchmarks: ``python -m ...emulation.responder --help``.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable

from lebot_rl_ros.hardware.emulation.answers import Answer, Answers
from lebot_rl_ros.hardware.emulation.bank import BANKS, servo_bank
from lebot_rl_ros.hardware.emulation.dynamixel import DynamixelAnswers
from lebot_rl_ros.hardware.emulation.faults import ANY, FaultSchedule
from lebot_rl_ros.hardware.emulation.feetech import FeetechAnswers
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.outbox import Outbox
from lebot_rl_ros.hardware.emulation.servos import ServoBank
from lebot_rl_ros.hardware.emulation.waiting import wait

AWAKE = 500e-6  # s after an answer in which the next request is waited for without sleep
GAP = 0.1  # s of silence after which a servo gives up on an unfinished request
ANSWERS: dict[str, type[FeetechAnswers] | type[DynamixelAnswers]] = {
    'feetech': FeetechAnswers,
    'dynamixel': DynamixelAnswers,
}


class EmulatedBus:
    """The device's side of a servo bus. Nothing here blocks."""

    def __init__(
        self,
        line: Line,
        bank: ServoBank,
        *,
        baud: int = 1_000_000,
        paced: bool = True,
        latency_timer: float = 0.0,
        faults: FaultSchedule | None = None,
        on_full_read: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Put servos on a line.

        Args:
            line: its other end is the client's port.
            bank: of servos.
            baud: bit/s that all servos are set to; each hears a client of its own rate alone.
            paced: bytes take their time on the wire; else answers leave at once.
            latency_timer: s of a USB adapter's; 0: there is none.
            faults: what goes wrong.
            on_full_read: called before a sync read is answered that asks all servos for at least
                the feedback block, the present position among it.
            clock: s.

        Raises:
            ValueError: the servos cannot talk at this rate.
        """
        self.line, self.bank, self.faults = line, bank, faults
        self._paced, self._clock = paced, clock
        self._outbox = Outbox(latency_timer)
        self._at_once = not paced and not latency_timer
        self._heard = -GAP
        bank.set_baud(baud)
        self._answers: Answers = ANSWERS[bank.protocol](bank, on_full_read)
        if faults is not None:
            faults.attach(bank, line)

    def receive(self) -> bool:
        """Take what the client has sent, obey, and answer or put the answers into the queue.

        Returns:
            Whether there was anything.
        """
        data = self.line.read()
        if not data:
            return False
        now, rate, answers = self._clock(), self.line.baud, self._answers
        if now - self._heard > GAP:
            answers.ear.reset()
        self._heard = now
        self._outbox.hear(now, len(data), self._rate(rate))
        if self.faults is not None and self.faults.echo:
            self._outbox.put([(self._outbox.free, data)])
        if self._deaf:
            answers.ear.reset()
        else:
            answers.tune(rate)
            for answer in answers.take(data):
                self._say(answer, rate)
        self.flush()
        return True

    @property
    def due(self) -> float | None:
        """When to call :meth:`flush` next, by the clock; None: nothing is under way."""
        return self._outbox.due

    @property
    def heard(self) -> float:
        """When the client last sent something, by the clock."""
        return self._heard

    def flush(self) -> None:
        """Send what has reached its time."""
        if not self.line.plugged:
            self._outbox.clear()
        elif self._outbox.due is not None:
            out = self._outbox.take(self._clock())
            if out:
                self.line.write(out)

    @property
    def _deaf(self) -> bool:
        return self.faults is not None and self.faults.deaf

    def _rate(self, rate: int | None) -> int | None:
        return (rate or 1_000_000) if self._paced else None

    def _say(self, answer: Answer, rate: int | None) -> None:
        quiet = self.faults is None or self.faults.quiet
        if quiet and self._at_once and self._outbox.due is None:
            self.line.write(b''.join(answer.frames))
            return
        delays = self._answers.delays if self._paced else [0.0] * len(self._answers.delays)
        waits = [0.0 if row == ANY else delays[row] for row in answer.rows]
        timed = self._outbox.slots(waits, answer.frames, self._rate(rate))
        if self.faults is not None and not quiet:
            if self._deaf:  # since this request
                return
            timed = self.faults.replies(answer.rows, timed)
        self._outbox.put([entry for entry in timed if entry[1]])


def serve(bus: EmulatedBus, stop: Callable[[], bool]) -> None:
    """Answer until ``stop()`` says so, which is asked ten times a second or more.

    It stays awake for a moment after each answer: whoever asks without a pause should measure
    the wire, and not how long this process takes to wake up.
    """
    idle_at = 0.0
    while not stop():
        busy = bus.due
        if busy is None and time.perf_counter() < idle_at:
            busy = idle_at
        wait([bus.line], busy, 0.1)
        if bus.receive() or bus.due is not None:
            idle_at = time.perf_counter() + AWAKE
        bus.flush()


def main() -> int:
    """Serve a bus of eight servos that nothing moves, until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--protocol', choices=sorted(BANKS), default='feetech')
    parser.add_argument('--link', required=True, help='path of the port that clients open')
    parser.add_argument('--ids', type=int, nargs='+', default=[11, 12, 21, 22, 31, 32, 41, 42])
    parser.add_argument('--baud', type=int, default=1_000_000)
    parser.add_argument('--unpaced', action='store_true', help='answer at once')
    parser.add_argument('--latency-timer', type=float, default=0.0, help='s, of a USB adapter')
    args = parser.parse_args()
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: ended.append(caught))
    line = Line(args.link)
    try:
        bus = EmulatedBus(
            line,
            servo_bank(args.protocol, args.ids),
            baud=args.baud,
            paced=not args.unpaced,
            latency_timer=args.latency_timer,
        )
        sys.stdout.write('ready\n')
        sys.stdout.flush()
        serve(bus, lambda: bool(ended))
    finally:
        line.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
