"""Tables as Parquet, with units; by pyarrow, which only this needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.data.bag.columns import Column, Spec, plainly

TIMESTAMP = 'timestamp'  # a spec of ours: ns since the epoch, UTC


def load() -> Any:
    """The package.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what to do.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as _  # noqa: F401  # makes pa.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Parquet needs {error.name}: pip install 'lebot_rl_ros[export]'", name=error.name
        ) from error
    return pa


class ParquetFile:
    """One table, written some rows at a time."""

    def __init__(self, path: Path, columns: Sequence[Column], metadata: Mapping[str, str]) -> None:
        """Open the file; ``metadata`` is the table's."""
        self._arrow = pa = load()
        self._columns = columns
        fields = [
            pa.field(column.name, self._type(column.spec), metadata=_about(column))
            for column in columns
        ]
        self._schema = pa.schema(fields, metadata=dict(metadata))
        self._writer = pa.parquet.ParquetWriter(path, self._schema, compression='zstd')

    def write(self, cells: Mapping[str, Any]) -> None:
        """Some rows: for each column, all its cells."""
        arrays = [
            self._array(cells[column.name], column.spec, self._schema.field(column.name).type)
            for column in self._columns
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))

    def close(self) -> None:
        """End the file."""
        self._writer.close()

    def _array(self, cells: Any, spec: Spec, kind: Any) -> Any:
        pa = self._arrow
        if isinstance(spec, tuple) and spec[0] == 'fixed':
            flat = np.ascontiguousarray(cells).reshape(-1)
            return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), spec[2])
        if isinstance(spec, tuple) or spec == 'octets':
            cells = [plainly(cell, spec) for cell in cells]
        return pa.array(cells, kind)

    def _type(self, spec: Spec) -> Any:
        pa = self._arrow
        if spec == TIMESTAMP:
            return pa.timestamp('ns', tz='UTC')
        if isinstance(spec, str):
            words = {'text': pa.string(), 'octets': pa.binary()}
            return words.get(spec) or pa.from_numpy_dtype(np.dtype(spec))
        if spec[0] == 'fixed':
            return pa.list_(self._type(spec[1]), spec[2])
        if spec[0] == 'list':
            return pa.list_(self._type(spec[1]))
        return pa.struct([(name, self._type(one)) for name, one in spec[1].items()])


def _about(column: Column) -> dict[str, str] | None:
    about = {'unit': column.unit, 'elements': ', '.join(column.elements)}
    return {key: value for key, value in about.items() if value} or None
