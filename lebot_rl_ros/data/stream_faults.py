"""A hostile stream between the robot and its learner: loss, jitter, reordering, repetition."""

import heapq
from typing import Any

import numpy as np

PERIOD = 20_000_000  # ns, of the control loop at 50 Hz


class HostileStream:
    """Messages of some topics go in with their stamps and come out late, reordered or never.

    What happens to a message depends on the seed, its topic and its number in the topic alone, so
    that a run repeats however the topics interleave.
    """

    def __init__(
        self,
        *,
        loss: float = 0.05,
        jitter: float = 0.010,
        reorder: float = 0.05,
        hold: float = 0.060,
        repeat: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Begin.

        Args:
            loss: share of messages that never arrive.
            jitter: s; each one is delayed by up to so much, uniformly.
            reorder: share of messages that are also held back, so that others overtake them.
            hold: s that those are held back at most, uniformly, and one period at least.
            repeat: share of messages that arrive a second time, with another delay.
            seed: of all draws.

        Raises:
            ValueError: a share is not in [0, 1], or a time is negative.
        """
        shares = {'loss': loss, 'reorder': reorder, 'repeat': repeat}
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f'{name} is {value}, expected a share from 0 to 1')
        for name, value in {'jitter': jitter, 'hold': hold}.items():
            if not 0.0 <= value < float('inf'):
                raise ValueError(f'{name} is {value} s, expected 0 or more')
        self._shares, self._seed = shares, seed
        self._jitter, self._hold = jitter, hold
        self._random: dict[str, np.random.Generator] = {}
        self._under_way: list[tuple[int, int, str, Any]] = []  # a heap by time of arrival
        self._number = 0
        self.counts = {'sent': 0, 'lost': 0, 'held': 0, 'repeated': 0}

    def put(self, topic: str, stamp: int, row: Any) -> None:
        """Send a message.

        Args:
            topic: its name.
            stamp: ns, when it is sent.
            row: what it carries; it is handed on as it is.
        """
        if topic not in self._random:
            self._random[topic] = np.random.default_rng([self._seed, *topic.encode()])
        # Always as many draws, whatever comes of them: one message's fate is not another's.
        lost, held, again, *delays = self._random[topic].random(7).tolist()
        self.counts['sent'] += 1
        if lost < self._shares['loss']:
            self.counts['lost'] += 1
            return
        holds = held < self._shares['reorder']
        self.counts['held'] += holds
        self._send(topic, stamp, row, delays[:2], holds)
        if again < self._shares['repeat']:
            self.counts['repeated'] += 1
            self._send(topic, stamp, row, delays[2:], holds)

    def take(self, now: int) -> list[tuple[str, Any]]:
        """Topic and row of all that has arrived by ``now`` (ns), in the order of arrival."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            _, _, topic, row = heapq.heappop(self._under_way)
            arrived.append((topic, row))
        return arrived

    def flush(self) -> list[tuple[str, Any]]:
        """All that is still under way."""
        return self.take(1 << 62)

    def _send(self, topic: str, stamp: int, row: Any, draws: list[float], holds: bool) -> None:
        delay = draws[0] * self._jitter * 1e9
        if holds:
            least = min(PERIOD, self._hold * 1e9)
            delay += least + draws[1] * (self._hold * 1e9 - least)
        self._number += 1
        heapq.heappush(self._under_way, (stamp + round(delay), self._number, topic, row))
