"""The text that names adapters: ``turn``, ``turn@2``, ``turn:0.5``, ``turn@2:0.7+ice:0.3``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lebot_rl_ros.policy.adapters import AdapterError

NAME = re.compile(r'[a-z][a-z0-9_-]*')
LOWEST, HIGHEST = -1.0, 2.0  # of a weight: more leaves what the adapter was trained for far behind
GRAMMAR = "expected '' for the base alone, NAME[@VERSION][:WEIGHT] joined by '+', or a path with /"
_TERM = re.compile(r'([^@:]*)(?:@([^@:]*))?(?::([^@:]*))?')
_WEIGHT = re.compile(r'-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE]-?[0-9]+)?')


@dataclass(frozen=True)
class Term:
    """One adapter of a text: of a store by its name, or a folder by its path."""

    name: str
    version: int | None = None  # None: the newest that may be used
    weight: float = 1.0
    path: str | None = None  # then the name is empty

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        version = '' if self.version is None else f'@{self.version}'
        return f'{self.name}{version}' + ('' if self.weight == 1.0 else f':{self.weight!r}')


def parse_mix(text: str) -> tuple[Term, ...]:
    """Read a text that names adapters; no store is asked.

    Args:
        text: '' for the base alone; terms joined by '+'; or, with a '/' in it, one path.

    Raises:
        AdapterError: the text is not of that form; the message has the term and what is wrong.
    """
    if not text.isprintable():
        raise AdapterError(f'adapter {text!r} has characters that cannot be printed; {GRAMMAR}')
    if not text.strip():
        return ()
    if '/' in text:
        return (Term('', path=text),)
    return tuple(_parse_term(term.strip(), text) for term in text.split('+'))


def format_mix(terms: Iterable[Term]) -> str:
    """Text that :func:`parse_mix` reads as these terms."""
    return '+'.join(str(term) for term in terms)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an adapter.

    Raises:
        AdapterError: with the form that a name has.
    """
    if not NAME.fullmatch(name):
        raise AdapterError(
            f'adapter name {name!r}: expected a small letter, then small letters, digits, _ or -'
        )


def _parse_term(term: str, text: str) -> Term:
    where = f'{term!r} in adapter {text!r}' if term != text else f'adapter {text!r}'
    match = _TERM.fullmatch(term)
    if match is None or not term:
        raise AdapterError(f'{where}: {"malformed" if term else "empty term"}; {GRAMMAR}')
    name, version, weight = match.groups()
    try:
        check_name(name)
    except AdapterError as error:
        raise AdapterError(f'{where}: {error}; {GRAMMAR}') from error
    if version is not None and not re.fullmatch('0*[1-9][0-9]{0,8}', version):
        raise AdapterError(f'{where}: version is {version!r}, expected a whole number from 1')
    if weight is not None and not (
        _WEIGHT.fullmatch(weight) and LOWEST <= float(weight) <= HIGHEST
    ):
        raise AdapterError(
            f'{where}: weight is {weight!r}, expected a number from {LOWEST:g} to {HIGHEST:g}'
        )
    return Term(
        name, None if version is None else int(version), 1.0 if weight is None else float(weight)
    )
