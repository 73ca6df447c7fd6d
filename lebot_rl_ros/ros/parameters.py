"""Parameters from frozen dataclasses: the dataclass is the schema."""

from dataclasses import field, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

Config = TypeVar('Config')


def parameter(default: Any, description: str, **more: Any) -> Any:
    """A field of such a dataclass; ``more`` is what :func:`declare` reads of its metadata."""
    return field(default=default, metadata={'description': description, **more})


def declare(node: Node, cls: type[Config], prefix: str = '') -> Config:
    """Declare a parameter for each field of a frozen dataclass and return it filled in.

    A field's ``metadata['description']`` becomes the parameter's; so does ``metadata['range']``,
    the first and last whole number allowed. Parameters are read-only, but for those with
    ``metadata['writable']``: what is returned then holds only their first value. ``prefix`` stands
    before every name. Tuples of strings are string arrays, in which empty strings are left out
    (ROS cannot write an empty list in YAML).

    Raises:
        ValueError: a parameter has another type than its field or is out of its range, or the
            dataclass refuses the values.
    """
    values: dict[str, Any] = {}
    for entry in fields(cls):  # type: ignore[arg-type]
        default = (
            list(entry.default) or [''] if isinstance(entry.default, tuple) else entry.default
        )
        description = ParameterDescriptor(
            description=entry.metadata.get('description', ''),
            read_only=not entry.metadata.get('writable'),
        )
        name = prefix + entry.name
        if 'range' in entry.metadata:
            lowest, highest = entry.metadata['range']
            description.integer_range = [IntegerRange(from_value=lowest, to_value=highest, step=1)]
        try:
            value = node.declare_parameter(name, default, description).value
        except InvalidParameterTypeException as error:
            given = node._parameter_overrides.get(name, Parameter(name)).value
            raise ValueError(
                f'parameter {name} of {node.get_name()} is {given!r}, '
                f'must be a {type(default).__name__}'
            ) from error
        except InvalidParameterValueException as error:
            raise ValueError(f'parameter {name} of {node.get_name()}: {error}') from error
        values[entry.name] = (
            tuple(text for text in value if text) if isinstance(default, list) else value
        )
    return cls(**values)
