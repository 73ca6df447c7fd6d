"""When a learner lets a simulation in lockstep go on: once all that came of a state is done."""

import time
from collections.abc import Callable
from typing import Any


class Answering:
    """Says which stamp to answer, so that a learning run repeats at any speed.

    The step that *ended* at a state is told, with its reward, after that state was published. Its
    learner answers the state once both are worked on. Sometimes no such step comes: it is the
    first state, the policy held, a node died. The first state is answered at once; any other one
    after ``patience`` of wall time, and from then on states are answered as they come, until a
    step comes again. So a silent policy costs the run one wait and never stops it.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was heard yet.

        Args:
            patience: s of wall time to wait for the step that ended at a state.
            clock: gives s.

        Raises:
            ValueError: ``patience`` is not positive.
        """
        if not patience > 0.0:
            raise ValueError(f'patience is {patience}, must be positive seconds')
        self.patience, self.blind = patience, 0  # states that were answered without their step
        self._clock = clock
        self._state: int | None = None
        self._since = 0.0
        self._worked: int | None = None
        self._absent = False
        self.answered: int | None = None

    def heard(self, stamp: int) -> None:
        """A state was published; the driver repeats it until time begins."""
        if stamp != self._state:
            self._state, self._since = stamp, self._clock()

    def worked(self, stamp: int) -> None:
        """Everything that came of the step that ended at this state is done."""
        self._worked, self._absent = stamp, False
        if self._state is None or stamp > self._state:  # the state itself may be overtaken
            self._state, self._since = stamp, self._clock()

    def answer(self) -> int | None:
        """The stamp to answer now, once for each state; None while there is nothing to say."""
        if self._state is None or self._state == self.answered:
            return None
        late = self._clock() - self._since >= self.patience
        first = self.answered is None
        if not (first or self._absent or late or self._worked == self._state):
            return None
        if late and self._worked != self._state:
            self._absent = True
        self.blind += self._worked != self._state and not first
        self.answered = self._state
        return self.answered


class Pairs:
    """Steps and rewards of one stamp, in whatever order they come; those alone are forgotten."""

    def __init__(self, most: int = 1000) -> None:
        """Let at most so many wait for their other half."""
        self._ends: dict[int, int] = {}  # by the stamp of a step: that of the state it led to
        self._rewards: dict[int, None] = {}
        self._most = most

    def step(self, stamp: int, end: int) -> int | None:
        """A step that led to the state ``end``; returns that if its reward is there."""
        if stamp in self._rewards:
            del self._rewards[stamp]
            return end
        self._ends[stamp] = end
        _trim(self._ends, self._most)
        return None

    def reward(self, stamp: int) -> int | None:
        """The reward of a step; returns the state that it led to if the step is there."""
        if stamp in self._ends:
            return self._ends.pop(stamp)
        self._rewards[stamp] = None
        _trim(self._rewards, self._most)
        return None


def _trim(waiting: dict[int, Any], most: int) -> None:
    while len(waiting) > most:
        del waiting[next(iter(waiting))]
