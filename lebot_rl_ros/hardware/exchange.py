"""Questions to servos and their answers: whose, in order, each once; or missing. Any protocol."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lebot_rl_ros.hardware.bus import Errors
from lebot_rl_ros.hardware.packets import Answer, Codec, Packet
from lebot_rl_ros.hardware.wire import Wire

SLACK = 0.002  # s that an answer may be late for, on top of what the adapter needs
QUIET = 0.001  # s of silence after which a disturbed line is taken for empty, likewise
TRIES = 2  # of a request to one servo

Enough = Callable[[bytes], bool]


class Question(NamedTuple):
    """A request, what will be answered, and until when."""

    request: bytes
    ids: tuple[int, ...]  # who answers, in this order
    length: int  # of the data of each answer
    expected: int  # bytes in all
    timeout: float  # s


class Exchange:
    """Asks on a wire and sorts what comes. No answer is taken that was not asked for."""

    def __init__(self, wire: Wire, codec: Codec, slack: float | None, delay: float) -> None:
        """Nothing is sent yet.

        Args:
            wire: open port.
            codec: of the protocol.
            slack: s that answers may be late for; None: what the adapter behind the port needs.
            delay: s that each servo waits before it answers, at most.
        """
        self.wire, self.codec, self.errors = wire, codec, Errors()
        self._slack = SLACK + wire.latency if slack is None else slack
        self.quiet = QUIET + wire.latency
        self._delay = delay

    def question(self, request: bytes, ids: Sequence[int], length: int) -> Question:
        """Make a request with what each of ``ids`` will answer to it."""
        expected = len(ids) * (self.codec.ANSWER_OVERHEAD + length)
        on_wire = self.wire.duration(len(request) + expected)
        timeout = on_wire + len(ids) * self._delay + self._slack
        return Question(request, tuple(ids), length, expected, timeout)

    def gather(self, question: Question, *, quietly: bool = False) -> dict[int, Answer]:
        """Ask, and return the answers that are good by id.

        Args:
            question: what and whom.
            quietly: nobody is known to be there, so that silence is no error.
        """
        deadline = time.monotonic() + question.timeout
        data = self.wire.exchange(question.request, question.expected, question.timeout)
        return self.sort(question, data, deadline, quietly=quietly)

    def sort(
        self, question: Question, data: bytes, deadline: float, *, quietly: bool = False
    ) -> dict[int, Answer]:
        """Answers in what came, and in what still comes until ``deadline`` (monotonic clock)."""
        errors, ids = self.errors, question.ids
        parser = self.codec.Parser()
        answers: dict[int, Answer] = {}
        place = self._accept(parser.feed(data), question, 0, answers)
        # After the last one's turn, nothing more is waited for.
        while place < len(ids) and not parser.damaged_by[ids[-1]]:
            more = self.wire.receive(deadline)
            if not more:
                place = self._accept(parser.flush(), question, place, answers)
                break
            place = self._accept(parser.feed(more), question, place, answers)
        errors.echoed = self.wire.echoed
        missing = [id for id in ids if id not in answers]
        if missing and not quietly:
            for id in missing:
                (errors.damaged if parser.damaged_by[id] else errors.missing)[id] += 1
            self.wire.drain(self.quiet)
        return answers

    def ask(self, id: int, request: bytes, length: int, *, quietly: bool = False) -> Answer | None:
        """Ask one servo, once more if need be; ``quietly`` once."""
        question = self.question(request, (id,), length)
        for _ in range(1 if quietly else TRIES):
            answer = self.gather(question, quietly=quietly).get(id)
            if answer is not None:
                return answer
        return None

    def _accept(
        self,
        packets: Sequence[Packet],
        question: Question,
        place: int,
        answers: dict[int, Answer],
    ) -> int:
        """Put good answers from ``place`` in the order on into ``answers``; the next place."""
        for packet in packets:
            answer = self.codec.answer(packet)
            if (
                answer is None
                or len(answer.data) != question.length
                or packet.id not in question.ids[place:]
            ):
                self.errors.foreign += 1
                continue
            answers[packet.id] = answer
            place = question.ids.index(packet.id, place) + 1
        return place
