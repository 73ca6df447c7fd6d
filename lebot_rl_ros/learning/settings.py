"""Configs from words and from files: every value is checked against the field's type."""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar('T')
WORDS = {'true': True, 'yes': True, 'on': True, 'false': False, 'no': False, 'off': False}


def describe_fields(
    cls: type[Any],
    given: Mapping[str, Any] = types.MappingProxyType({}),
    where: str = '',
    separator: str = ', ',
) -> str:
    """Every field of a config with its type and default, for a message.

    Args:
        cls: the config.
        given: values that stand in place of defaults.
        where: where they do.
        separator: between fields.
    """
    hints = typing.get_type_hints(cls)
    return separator.join(
        f'{field.name}: {_name(hints[field.name])} = {_default(field)!r}'
        + (f'; {where}: {given[field.name]!r}' if field.name in given else '')
        for field in dataclasses.fields(cls)
    )


def parse_settings(cls: type[Any], words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words for a config; lists are ``64,64`` and nothing is ``none``.

    Raises:
        ValueError: no such field, or a value that does not fit it; the message lists the fields.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition('=')
        key = key.strip().replace('-', '_')
        if not equals:
            raise ValueError(f'{word!r} is not KEY=VALUE; fields are {describe_fields(cls)}')
        _known(cls, key)
        values[key] = _read(cls, key, text.strip(), hints[key])
    return values


def config_from(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a config from plain values as JSON gives them; what is not given has its default.

    Raises:
        ValueError: no such field, or a value that does not fit it; the message lists the fields.
    """
    hints = typing.get_type_hints(cls)
    fitting = {}
    for key, value in values.items():
        _known(cls, key)
        fits, fitting[key] = _fit(value, hints[key])
        if not fits:
            raise _misfit(cls, key, value, hints[key])
    return cls(**fitting)


def _known(cls: type[Any], key: str) -> None:
    if key not in {field.name for field in dataclasses.fields(cls)}:
        raise ValueError(f'{cls.__name__} has no field {key!r}; fields are {describe_fields(cls)}')


def _misfit(cls: type[Any], key: str, value: Any, hint: Any) -> ValueError:
    return ValueError(
        f'{key} of {cls.__name__} is {value!r}, must be {_name(hint)}; '
        f'fields are {describe_fields(cls)}'
    )


def _read(cls: type[Any], key: str, text: str, hint: Any) -> Any:
    """Every way in which a text can be read, until one fits the type."""
    readings: list[Any] = []
    if text.lower() in ('none', 'null'):
        readings.append(None)
    if text.lower() in WORDS:
        readings.append(WORDS[text.lower()])
    parts = [part for part in text.strip('()[] ').split(',') if part.strip()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            readings.append(kind(text))
        with contextlib.suppress(ValueError):
            readings.append([kind(part) for part in parts])
    for value in [*readings, text, [part.strip() for part in parts]]:
        fits, value = _fit(value, hint)
        if fits:
            return value
    raise _misfit(cls, key, text, hint)


def _fit(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether a plain value is of a type, and the value as that type: lists become tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True, value
    if origin in (typing.Union, types.UnionType):
        # The narrow types first: '3' for `str | float` is a number.
        for option in sorted(arguments, key=lambda option: option is str):
            fits, fitted = _fit(value, option)
            if fits:
                return True, fitted
        return False, value
    if origin is typing.Literal:
        return value in arguments, value
    if origin in (tuple, list) or hint in (tuple, list):
        return _fit_sequence(value, hint, origin or hint, arguments)
    if hint is type(None):
        return value is None, None
    if hint is bool:
        return isinstance(value, bool), value
    if hint is int:
        whole = isinstance(value, float) and value.is_integer()  # as 1e5 is
        if whole or (isinstance(value, int) and not isinstance(value, bool)):
            return True, int(value)
        return False, value
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value):  # a manifest is JSON, which knows no infinity
            return True, float(value)
        return False, value
    return isinstance(value, origin or hint), value


def _fit_sequence(
    value: Any, hint: Any, kind: Any, arguments: tuple[Any, ...]
) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    open_ended = kind is list or (len(arguments) == 2 and arguments[1] is ...)
    wanted = list(arguments[:1] or [Any]) * len(value) if open_ended else list(arguments)
    if not arguments:
        wanted = [Any] * len(value)
    if len(wanted) != len(value):
        return False, value
    fitted = [_fit(item, want) for item, want in zip(value, wanted, strict=True)]
    return all(fits for fits, _ in fitted), kind(item for _, item in fitted)


def _name(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return 'None' if hint is type(None) else hint.__name__
    return str(hint).replace('typing.', '')


def _default(field: 'dataclasses.Field[Any]') -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default
