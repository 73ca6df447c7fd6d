"""Tables as one NPZ file, with arrays as numpy wants them; never a pickle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.columns import Column, plainly


class ArrayFile:
    """Collects the tables of topics; all of it is in memory until :meth:`close`.

    ``TOPIC/COLUMN`` is an array (N,) or (N, width). Joints are one array, as in
    ``joint_states/position`` (N, J), with their names in ``joint_states/position.names``. What has
    any length is one flat array and ``COLUMN.offsets`` (N + 1): cell i is
    ``flat[offsets[i]:offsets[i + 1]]``. Messages in messages are JSON, one text a cell.
    """

    def __init__(self, path: Path) -> None:
        """Where to write to."""
        self._path = path
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}
        self._lengths: dict[str, list[npt.NDArray[np.int64]]] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, topic: str, columns: Sequence[Column], cells: Mapping[str, Any]) -> None:
        """Some rows of a topic."""
        prefix = topic.strip('/')
        grouped: dict[str, list[npt.NDArray[Any]]] = {}
        for column in columns:
            name, values = f'{prefix}/{column.name}', cells[column.name]
            if column.group:
                group = f'{prefix}/{column.group}'
                grouped.setdefault(group, []).append(values)
                if len(self._parts.get(group, ())) == 0:
                    self._names.setdefault(group, []).extend(column.elements)
            elif column.spec == 'octets' or (column.spec[0] == 'list' and _number(column.spec[1])):
                code = 'u1' if column.spec == 'octets' else column.spec[1]
                self._ragged(name, [np.asarray(cell, np.dtype(code)) for cell in values])
            elif isinstance(column.spec, tuple) and column.spec[0] != 'fixed':
                texts = [_json(plainly(cell, column.spec)) for cell in values]
                self._parts.setdefault(name, []).append(np.array(texts))
            else:
                self._parts.setdefault(name, []).append(np.asarray(values))
        for group, parts in grouped.items():
            self._parts.setdefault(group, []).append(np.stack(parts, axis=1))

    def close(self) -> None:
        """Write the file."""
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        for name, names in self._names.items():
            arrays[f'{name}.names'] = np.array(names)
        for name, lengths in self._lengths.items():
            ends = np.cumsum(np.concatenate(lengths))
            arrays[f'{name}.offsets'] = np.concatenate((np.zeros(1, np.int64), ends))
        with self._path.open('wb') as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _ragged(self, name: str, cells: Sequence[npt.NDArray[Any]]) -> None:
        self._parts.setdefault(name, []).append(np.concatenate(cells))
        self._lengths.setdefault(name, []).append(
            np.array([len(cell) for cell in cells], np.int64)
        )


def _number(spec: Any) -> bool:
    return isinstance(spec, str) and spec not in ('text', 'octets')


def _json(value: Any) -> str:
    def default(part: Any) -> Any:
        return part.tolist() if isinstance(part, np.ndarray | np.generic) else part.hex()

    return json.dumps(value, default=default, ensure_ascii=False)
