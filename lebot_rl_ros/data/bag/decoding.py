"""Serialized messages to objects, by the definitions of their types that a bag brings along."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from lebot_rl_ros.data.bag.types import BagError


class Decoder:
    """Decodes messages of some types; what each is made of is learned when it is first met."""

    def __init__(self, definitions: Mapping[str, tuple[str, str]]) -> None:
        """Keep the definitions.

        Args:
            definitions: by type, as in sensor_msgs/msg/Imu: text, and its form, ros2msg or
                ros2idl; where the text is '', the type is looked for among Jazzy's own.
        """
        self._definitions = definitions

    def decode(self, data: bytes, name: str) -> Any:
        """A message of a type as an object with its fields.

        Raises:
            BagError: the definition or the message cannot be read.
            ModuleNotFoundError: `rosbags` is not installed; the message says what to do.
        """
        if name not in self._store.fielddefs:
            self._learn(name)
        try:
            # Octets behind the end do not count: rclpy sends such where bytes are published that
            # it serialized, as many as aligning an empty array of float64 would take. The store's
            # own deserialize_cdr refuses more than three.
            if data[:2] not in (b'\x00\x00', b'\x00\x01'):
                raise ValueError(f'encoding {data[:2].hex()} is not known; expected plain CDR')
            kind = self._store.get_msgdef(name)
            read = kind.deserialize_cdr_le if data[1] else kind.deserialize_cdr_be
            return read(data[4:], 0, kind.cls, self._store)[0]
        except Exception as error:  # the library's own kinds
            raise BagError(f'it cannot be read as {name}: {error}') from error

    @cached_property
    def _store(self) -> Any:
        try:
            from rosbags.typesys import Stores, get_typestore
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"decoding messages needs {error.name}: pip install 'lebot_rl_ros[record]'",
                name=error.name,
            ) from error
        return get_typestore(Stores.EMPTY)

    def _learn(self, name: str) -> None:
        """Take a type, and those that it is made of."""
        from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

        text, form = self._definitions.get(name, ('', ''))
        try:
            if not text:
                types = get_typestore(Stores.ROS2_JAZZY).fielddefs
            elif form == 'ros2idl':
                types = get_types_from_idl(text)
            else:
                types = get_types_from_msg(text, name)
            self._store.register({k: v for k, v in types.items() if k not in self._store.types})
        except Exception as error:  # the parser's own kinds
            raise BagError(f'the definition of {name} cannot be read: {error}') from error
        if name not in self._store.fielddefs:
            raise BagError(f'there is no definition of {name}, and it is not known here')
