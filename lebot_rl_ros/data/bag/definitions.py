"""What a message of a type looks like: its definition in ros2msg form, and its RIHS01 hash.

They stand in every bag, so that a reader needs no ROS install and no guess. They come from the
type store of `rosbags` (Jazzy's own types), else from the .msg files of a sourced ROS install;
the hash is that of REP-2016.
"""

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lebot_rl_ros.data.bag.types import BagError, Topic

ENCODING = 'ros2msg'


def complete(topic: Topic) -> Topic:
    """The topic with its definition and hash; a definition that it has is left as it is.

    Raises:
        BagError: The type is not known and the topic brings no definition of it.
    """
    if topic.definition and topic.hash:
        return topic
    found = _look_up(topic.type)
    if found is None:
        if topic.definition:  # readable by its definition; the hash is optional in the format
            return topic
        raise BagError(
            f'{topic.name}: the type {topic.type!r} is not known here; source the ROS install '
            'that has it, or give Topic(definition=..., hash=...)'
        )
    definition, digest = found
    return replace(topic, definition=topic.definition or definition, hash=topic.hash or digest)


def known(type_name: str) -> bool:
    """Whether messages of a type, as in sensor_msgs/msg/Imu, can be recorded as they are."""
    return _look_up(type_name) is not None


def needs_record(error: ImportError) -> ImportError:
    """The error for a missing package that says how to get it."""
    return ImportError(
        f"bags need {error.name}: pip install 'lebot_rl_ros[record]'", name=error.name
    )


@cache
def _look_up(type_name: str) -> tuple[str, str] | None:
    store = _store()
    if type_name not in store.fielddefs and not _learn(store, type_name):
        return None
    definition, _ = store.generate_msgdef(type_name, ros_version=2)
    return definition, _hash(store, type_name, definition)


def _hash(store: Any, type_name: str, definition: str) -> str:
    """The RIHS01 hash; for ROS 2 a `char` of a .msg file is a `uint8`, for `rosbags` it is not."""
    if not re.search(r'^char\b', definition, re.MULTILINE):
        return str(store.hash_rihs01(type_name))
    from rosbags.typesys.store import Typestore

    twin = Typestore()
    twin.fielddefs = {
        name: (constants, [(field, _without_char(kind)) for field, kind in fields])
        for name, (constants, fields) in store.fielddefs.items()
    }
    return str(twin.hash_rihs01(type_name))


def _without_char(kind: Any) -> Any:
    if kind == ('char', 0):
        return ('uint8', 0)
    return tuple(map(_without_char, kind)) if isinstance(kind, tuple) else kind


@cache
def _store() -> Any:
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise needs_record(error) from error
    return get_typestore(Stores.ROS2_JAZZY)


def _learn(store: Any, type_name: str) -> bool:
    """Add a type, and those that it is made of, from .msg files below AMENT_PREFIX_PATH."""
    from rosbags.typesys import get_types_from_msg

    found: dict[str, Any] = {}
    wanted = [type_name]
    while wanted:
        name = wanted.pop()
        if name in store.fielddefs or name in found:
            continue
        text = _installed(name)
        if text is None:
            return False
        try:
            found.update(get_types_from_msg(text, name))
        except Exception as error:  # the parser's own kinds; the file is none of ours
            raise BagError(f'{name}: its .msg file cannot be read: {error}') from error
        wanted += _parts(found[name])
    store.register(found)
    return True


def _parts(fields: Any) -> list[str]:
    """The types that a message is made of, out of the parser's nested pairs."""
    from rosbags.interfaces import Nodetype

    parts = []
    for _, description in fields[1]:
        kind, value = description
        if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            kind, value = value[0]
        if kind == Nodetype.NAME:
            parts.append(str(value))
    return parts


def _installed(type_name: str) -> str | None:
    package, _, rest = type_name.partition('/')
    for prefix in filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        path = Path(prefix) / 'share' / package / f'{rest}.msg'
        if path.is_file():
            return path.read_text()
    return None
