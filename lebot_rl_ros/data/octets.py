"""Rows of a packed dtype as octets (N, length): numpy copies and joins those much faster."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def offset(dtype: np.dtype, name: str) -> int:
    """Where a field begins; the length of a row for ''."""
    fields: Any = dtype.fields
    return int(fields[name][1]) if name else dtype.itemsize


def to_octets(rows: Array, dtype: np.dtype) -> Array:
    """A copy (N, length) of rows whose fields are those of a packed dtype, at any offsets."""
    copied = rows.astype(dtype, copy=True)
    return copied.view(np.uint8).reshape(len(rows), dtype.itemsize)


def stamps_of(octets: Array, start: int = 0) -> Array:
    """Stamps (N,) in ns, from the seconds and nanoseconds that begin at ``start``."""
    pair = octets[:, start : start + 8].view(np.int32).astype(np.int64)
    stamps: Array = pair[:, 0] * 1_000_000_000 + pair[:, 1]
    return stamps


def finite(octets: Array, dtype: np.dtype, *spans: tuple[str, str]) -> Array:
    """Rows (N,) whose float32 are finite, from each span's first field up to its second."""
    good = np.ones(len(octets), bool)
    for first, end in spans:
        numbers = octets[:, offset(dtype, first) : offset(dtype, end)].view(np.float32)
        found = np.isfinite(numbers)
        if not found.all():
            good &= found.all(axis=1)
    return good


def difference(given: np.dtype, wanted: np.dtype) -> str:
    """The first field in which a record differs from what is expected; '' if it fits."""
    theirs, ours = given.names or (), wanted.names or ()
    for name in (*ours, *theirs):
        there, here = (d[name] if name in (d.names or ()) else None for d in (given, wanted))
        if there != here:
            return f'field {name} is {there or "missing"}, expected {here or "no such field"}'
    return '' if theirs == ours else f'fields are {", ".join(theirs)}, expected {", ".join(ours)}'
