"""What waits to be written: bounded, and what does not fit is counted."""

from collections import Counter, deque
from concurrent.futures import Future

from lebot_rl_ros.data.bag.recording_options import OVERHEAD
from lebot_rl_ros.data.bag.types import BagError, Message, Topic

Item = Message | Topic | Future[None]  # a future is a split that is asked for


class Inbox:
    """A queue of messages, topics and splits in their order; its owner holds a lock around it.

    Only messages are bounded: topics and splits are few.
    """

    def __init__(self, messages: int, octets: int) -> None:
        self._most, self._most_octets = messages, octets
        self._items: deque[Item] = deque()
        self._octets = 0
        self.dropped: Counter[str] = Counter()
        self.refused: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def filling(self) -> bool:
        """Whether it is time to look into it: a quarter is taken."""
        return 4 * self._octets > self._most_octets

    def put(self, message: Message) -> bool:
        """Add a message; False: it did not fit, and is counted."""
        octets = self._octets + len(message.data) + OVERHEAD
        if len(self._items) >= self._most or octets > self._most_octets:
            self.dropped[message.topic] += 1
            return False
        self._items.append(message)
        self._octets = octets
        return True

    def append(self, item: Item) -> None:
        """Add what is not bounded."""
        self._items.append(item)

    def take(self) -> deque[Item]:
        """All that is there; the queue is empty then."""
        items, self._items, self._octets = self._items, deque(), 0
        return items

    def give_up(self, items: deque[Item], reason: str) -> None:
        """Count the messages of these items, and of all that is there, as dropped."""
        items.extend(self.take())
        for item in items:
            if isinstance(item, Message):
                self.dropped[item.topic] += 1
            elif isinstance(item, Future):
                item.set_exception(BagError(reason or 'the recording was stopped'))
        items.clear()

    def refuse(self, item: Item, error: BagError) -> None:
        """Remember why an item could not be written."""
        if isinstance(item, Message):
            self.dropped[item.topic] += 1
            self.refused.setdefault(item.topic, str(error))
        elif isinstance(item, Topic):
            self.refused[item.name] = str(error)
        else:
            item.set_exception(error)
