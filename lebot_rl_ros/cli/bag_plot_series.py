"""Numbers out of a bag for pictures: columns of the messages that have a fixed layout."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.cli.bag_plot_layouts import LAYOUTS, START, Layout
from lebot_rl_ros.data.bag.cdr import windows
from lebot_rl_ros.data.bag.scan import Piece
from lebot_rl_ros.data.octets import stamps_of

Numbers = npt.NDArray[Any]


@dataclass
class Columns:
    """One topic: a row a message, in the order of the bag."""

    log: Numbers  # (N,) ns
    stamps: Numbers  # (N,) ns; zeros where the type has none
    fields: dict[str, Numbers]  # (N, C) float64; NaN where a message has fewer
    frames: list[str] = field(default_factory=list)  # frame ids that occur
    frame: Numbers = field(default_factory=lambda: np.zeros(0, int))  # (N,) which of them
    names: list[str] = field(default_factory=list)  # of the joints


class Collector:
    """Takes the messages of one topic; :meth:`columns` gives their numbers."""

    def __init__(self, type_name: str) -> None:
        """Choose the layout.

        Raises:
            ValueError: the type has none here.
        """
        if type_name not in LAYOUTS:
            raise ValueError(f'{type_name} has no layout here; known are {", ".join(LAYOUTS)}')
        self._layout = LAYOUTS[type_name]
        self._stamped = type_name != 'geometry_msgs/msg/Twist'
        self._log: list[Numbers] = []
        self._total = 0
        self._parts: list[tuple[Numbers, Numbers, dict[str, Numbers], int]] = []
        self._frames: list[str] = []
        self._names: list[str] = []

    def add(self, piece: Piece) -> None:
        """Take many.

        Raises:
            ValueError: one is not of the type.
        """
        left = np.arange(len(piece.starts))
        while len(left):
            size = int(piece.sizes[left[0]])
            alike = left[piece.sizes[left] == size]
            octets = windows(piece.data, size, piece.starts[alike])
            layout = self._layout(octets[0].tobytes())
            spans = [np.arange(start, end) for start, end in layout.fixed]
            if spans:
                fixed = octets[:, np.concatenate(spans)]
                same = (fixed == fixed[0]).all(axis=1)
                alike, octets = alike[same], octets[same]
            self._read(layout, octets, self._total + alike)
            left = left[~np.isin(left, alike)] if len(alike) < len(left) else left[:0]
        self._total += len(piece.starts)
        self._log.append(piece.log)

    def _read(self, layout: Layout, octets: Numbers, places: Numbers) -> None:
        columns = {
            name: np.ascontiguousarray(octets[:, at : at + 8 * number]).view('<f8')
            for name, (at, number) in layout.fields.items()
        }
        stamps = stamps_of(octets, START) if self._stamped else np.zeros(len(octets), np.int64)
        if layout.frame not in self._frames:
            self._frames.append(layout.frame)
        self._names = self._names or layout.names
        if layout.names != self._names and sorted(layout.names) == sorted(self._names):
            order = [layout.names.index(wanted) for wanted in self._names]
            columns = {key: value[:, order] for key, value in columns.items()}
        self._parts.append((places, stamps, columns, self._frames.index(layout.frame)))

    def columns(self) -> Columns:
        """All that came, in the order of log time."""
        stamps, frame = np.zeros(self._total, np.int64), np.zeros(self._total, int)
        fields: dict[str, Numbers] = {}
        for places, part, columns, which in self._parts:
            stamps[places], frame[places] = part, which
            for name, values in columns.items():
                if name not in fields:
                    fields[name] = np.full((self._total, values.shape[1]), np.nan)
                width = min(values.shape[1], fields[name].shape[1])
                fields[name][places, :width] = values[:, :width]
        log = np.concatenate(self._log) if self._log else np.zeros(0, np.int64)
        order = np.argsort(log, kind='stable')
        return Columns(
            log[order],
            stamps[order],
            {name: values[order] for name, values in fields.items()},
            self._frames,
            frame[order],
            self._names,
        )


def collect(pieces: Iterable[Piece], types: Mapping[str, str]) -> dict[str, Columns]:
    """Columns of every topic in ``types`` (topic -> type) that has a layout and messages.

    Raises:
        ValueError: a message is not of its type.
    """
    collectors = {name: Collector(kind) for name, kind in types.items() if kind in LAYOUTS}
    for piece in pieces:
        collector = collectors.get(piece.topic)
        if collector is not None:
            try:
                collector.add(piece)
            except (ValueError, struct.error) as error:
                raise ValueError(f'{piece.topic}: {error}') from error
    found = {name: collector.columns() for name, collector in collectors.items()}
    return {name: columns for name, columns in found.items() if len(columns.log)}
