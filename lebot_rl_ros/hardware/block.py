"""The block of feedback that every servo answers with, and how a whole read of it is checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.exchange import Question
from lebot_rl_ros.robot.state import FloatArray

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp] | slice
ALL = slice(None)
Records = npt.NDArray[np.void]
# Position, velocity, load, voltage, temperature, alarm, (k,) each: see Feedback.
Columns = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Block:
    """The feedback block that every read asks for."""

    address: int
    length: int  # bytes of data
    head: int  # bytes of an answer before its error byte
    fields: Mapping[str, tuple[str, int]]  # numpy type and first byte in the data, by name

    def records(self, itemsize: int) -> np.dtype[np.void]:
        """Type of an answer of so many bytes, error byte included."""
        layout = {'error': ('u1', -1), **self.fields}
        return np.dtype(
            {
                'names': list(layout),
                'formats': [kind for kind, _ in layout.values()],
                'offsets': [self.head + 1 + offset for _, offset in layout.values()],
                'itemsize': itemsize,
            }
        )


class WholeRead(NamedTuple):
    """A read of all servos, made ready."""

    question: Question
    intact: Callable[[bytes], bool]  # whether all of them answered, in order, and nothing else
    records: np.dtype[np.void]
    enough: Callable[[bytes], bool]  # whether the last one has answered


def whole_read(
    question: Question, block: Block, heads: Bytes, sums: Callable[[Bytes], bool]
) -> WholeRead:
    """Make a read of all servos ready.

    Args:
        question: the sync read.
        block: what it asks for, at least.
        heads: (J, bytes) that good answers begin with, as many as never change.
        sums: whether the check sums of whole answers, (J, bytes), are right.
    """
    count, fixed = heads.shape
    size = question.expected // count
    first, last = heads.tobytes(), heads[-1].tobytes()

    def intact(data: bytes) -> bool:
        frames = np.frombuffer(data, np.uint8).reshape(count, size)
        return frames[:, :fixed].tobytes() == first and sums(frames)

    def enough(data: bytes) -> bool:
        return data[-size:].startswith(last)

    return WholeRead(question, intact, block.records(size), enough)
