"""Messages as columns of a table: by the fields of their type, their joints, their rows.

Nested messages are flattened: ``angular_velocity.x`` is the column ``angular_velocity_x``, which
needs no quotes in SQL. Numbers of a JointState are found by the joint's name: ``position_fl_hip``.
Rows of records (``policy/steps``) are rows of the table. Headers give ``stamp`` and ``frame_id``.

What a cell holds is written as a spec: a numpy code of a number (``f8``), ``text``, ``octets``,
``('fixed', code, width)``, ``('list', spec)`` or ``('struct', {name: spec})``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.types import BagError, Topic
from lebot_rl_ros.data.bag.units import record_unit, unit_of

JOINT_STATE = 'sensor_msgs/msg/JointState'
JOINT_FIELDS = ('position', 'velocity', 'effort')
HEADER, TIME, DURATION = (
    'std_msgs/msg/Header',
    'builtin_interfaces/msg/Time',
    'builtin_interfaces/msg/Duration',
)
DIGEST = '_sha256'  # how the names of hashes end
SECOND = 1_000_000_000  # ns
CODES = {
    'bool': '?', 'byte': 'u1', 'char': 'u1', 'int8': 'i1', 'uint8': 'u1', 'int16': 'i2',
    'uint16': 'u2', 'int32': 'i4', 'uint32': 'u4', 'int64': 'i8', 'uint64': 'u8', 'float32': 'f4',
    'float64': 'f8', 'string': 'text', 'wstring': 'text',
}  # fmt: skip

Spec = Any  # as above
Get = Callable[[Any], Any]


@dataclass(frozen=True)
class Column:
    """One column, and how its cells are found in a message."""

    name: str
    spec: Spec
    get: Get
    unit: str = ''
    elements: tuple[str, ...] = ()  # what the numbers in a cell belong to, as joints
    group: str = ''  # columns of one group are one array in NPZ, beside each other


def message_columns(topic: Topic, fields: Mapping[str, Any], first: Any) -> tuple[Column, ...]:
    """Columns of a topic that has no records.

    Args:
        topic: of the bag.
        fields: of every type that is in it, as `rosbags` reads a definition.
        first: a decoded message of it, which says what joints there are.

    Raises:
        BagError: a type is not defined.
    """
    if topic.type == JOINT_STATE:
        return _joint_columns(topic, first)
    return tuple(_flat(topic.type, '', fields, lambda message: message, topic.type))


def row_columns(dtype: np.dtype, joints: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns of rows (N,): cells are whole arrays. Hashes are hexadecimal text.

    Args:
        dtype: of the rows.
        joints: names for the arrays that have as many numbers.
    """
    names = list(dtype.names or ())
    columns = []
    for name in names:
        prefix = name.removesuffix('sec')
        if name.endswith('nanosec') and name.removesuffix('nanosec') + 'sec' in names:
            continue
        if name.endswith('sec') and f'{prefix}nanosec' in names:
            columns.append(Column(f'{prefix}stamp', 'i8', _stamp(prefix), 'ns'))
            continue
        element, shape = (dtype[name].subdtype or (dtype[name], ()))[:2]
        code = element.str[1:]
        if name.endswith(DIGEST) and shape:
            columns.append(Column(name, 'text', _hexadecimal(name)))
            continue
        spec = ('fixed', code, int(shape[0])) if shape else code
        named = tuple(joints) if shape and shape[0] == len(joints) else ()
        columns.append(Column(name, spec, _field(name), record_unit(name), named))
    return tuple(columns)


def plainly(value: Any, spec: Spec) -> Any:
    """A decoded value as plain Python, as its spec says."""
    if spec == 'octets':
        return bytes(value)
    if isinstance(spec, str):
        return value
    kind, inner = spec[0], spec[1]
    if kind == 'list':
        return [plainly(entry, inner) for entry in value]
    if kind == 'struct':
        return {name: plainly(_part(value, name), one) for name, one in inner.items()}
    return np.asarray(value)


def _joint_columns(topic: Topic, first: Any) -> tuple[Column, ...]:
    joints = list(first.name)
    columns = [
        Column('stamp', 'i8', lambda message: _nanoseconds(message.header.stamp), 'ns'),
        Column('frame_id', 'text', lambda message: message.header.frame_id),
    ]
    for field in JOINT_FIELDS:
        if not len(getattr(first, field)):
            continue
        for joint in joints:
            get = _joint(topic.name, field, joint, frozenset(joints))
            unit = unit_of(topic.type, f'{field}_')
            columns.append(Column(f'{field}_{joint}', 'f8', get, unit, (joint,), field))
    return tuple(columns)


def _joint(topic: str, field: str, joint: str, known: frozenset[str]) -> Get:
    def get(message: Any) -> float:
        names, values = message.name, getattr(message, field)
        if frozenset(names) != known:
            raise BagError(
                f'{topic}: joints change from {", ".join(sorted(known))} to {", ".join(names)}'
            )
        return float(values[names.index(joint)]) if len(values) else float('nan')

    return get


def _flat(kind: str, prefix: str, fields: Mapping[str, Any], get: Get, top: str) -> list[Column]:
    """Columns of a message that stands in another one under a prefix."""
    columns: list[Column] = []
    for name, description in _fields(kind, fields):
        value = description[1]
        here = _attribute(get, name)
        if _is_message(description):
            if value == HEADER and name == 'header':
                stamp = _attribute(here, 'stamp')
                columns.append(Column(f'{prefix}stamp', 'i8', _after(stamp, _nanoseconds), 'ns'))
                columns.append(Column(f'{prefix}frame_id', 'text', _attribute(here, 'frame_id')))
            elif value in (TIME, DURATION):
                columns.append(Column(prefix + name, 'i8', _after(here, _nanoseconds), 'ns'))
            else:
                columns += _flat(value, f'{prefix}{name}_', fields, here, top)
        else:
            spec = _spec(description, fields)
            columns.append(Column(prefix + name, spec, here, unit_of(top, prefix + name)))
    return columns


def _spec(description: Any, fields: Mapping[str, Any]) -> Spec:
    from rosbags.interfaces import Nodetype

    kind, value = description
    if kind == Nodetype.BASE:
        return CODES[value[0]]
    if kind == Nodetype.NAME:
        if value in (TIME, DURATION):
            return 'i8'
        return ('struct', {name: _spec(one, fields) for name, one in _fields(value, fields)})
    inner = _spec(value[0], fields)
    number = isinstance(inner, str) and inner != 'text'
    if kind == Nodetype.ARRAY and number:
        return ('fixed', inner, int(value[1]))
    return 'octets' if inner == 'u1' else ('list', inner)


def _is_message(description: Any) -> bool:
    from rosbags.interfaces import Nodetype

    return bool(description[0] == Nodetype.NAME)


def _fields(kind: str, fields: Mapping[str, Any]) -> Any:
    if kind not in fields:
        raise BagError(f'the bag has no definition of {kind}')
    return fields[kind][1]


def _attribute(get: Get, name: str) -> Get:
    return lambda message: getattr(get(message), name)


def _after(get: Get, then: Get) -> Get:
    return lambda message: then(get(message))


def _part(value: Any, name: str) -> Any:
    part = getattr(value, name)
    return _nanoseconds(part) if hasattr(part, 'nanosec') else part


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * SECOND + int(time.nanosec)


def _field(name: str) -> Get:
    return lambda rows: rows[name]


def _stamp(prefix: str) -> Get:
    return lambda rows: rows[f'{prefix}sec'].astype(np.int64) * SECOND + rows[f'{prefix}nanosec']


def _hexadecimal(name: str) -> Get:
    def get(rows: npt.NDArray[Any]) -> list[str]:
        return [digest.tobytes().hex() for digest in rows[name]]

    return get
