"""Shapings by name: YAML files in ``config/rewards``, and words such as ``main_engine=-1``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from lebot_rl_ros.envs.shaping import Shaping
from lebot_rl_ros.mdp.reward_files import finite, read_table
from lebot_rl_ros.robot import share_path

SETTINGS = ('scale', 'discount', 'mode')
KEYS = ('env', 'about', 'weights', 'potential', *SETTINGS)


@dataclass(frozen=True)
class NamedShaping:
    """A shaping, and what a file says of it."""

    name: str
    shaping: Shaping = field(default_factory=Shaping)
    env: str = ''  # id of the environment that it is made for; '' where words do not say
    about: str = ''


def shaping_names() -> list[str]:
    """Names of the shapings that come with the package."""
    return sorted(path.stem for path in share_path('config', 'rewards').glob('*.yaml'))


def load_shaping(name: str | Path) -> NamedShaping:
    """Read a shaping by name, or by the path of its YAML file.

    Raises:
        ValueError: there is none, or something in it is unknown or out of range; the message
            names the file, the key and the choices.
    """
    path = Path(name)
    if path.suffix != '.yaml':
        if str(name) not in shaping_names():
            raise ValueError(
                f'unknown reward {str(name)!r}; rewards are {", ".join(shaping_names())}, '
                f'the path of a .yaml file, or words like main_engine=-1'
            )
        path = share_path('config', 'rewards', f'{name}.yaml')
    table = read_table(path)
    for key in table:
        if key not in KEYS:
            raise ValueError(f'{path}: unknown key {key!r}; keys are {", ".join(KEYS)}')
    pairs = [(key, table[key]) for key in SETTINGS if key in table]
    for group, prefix in (('weights', ''), ('potential', 'potential.')):
        given = table.get(group) or {}
        if not isinstance(given, dict):
            raise ValueError(f'{path}: {group} is {given!r}, expected a table of terms')
        pairs += [(f'{prefix}{key}', value) for key, value in given.items()]
    return NamedShaping(
        path.stem,
        _change(Shaping(), pairs, str(path)),
        str(table.get('env', '')),
        str(table.get('about', '')).strip(),
    )


def parse_shapings(words: Sequence[str]) -> list[NamedShaping]:
    """Read words: a name or file begins a shaping, ``KEY=VALUE`` after it changes it.

    ``KEY`` is a term, ``potential.NAME``, scale, discount or mode. Words that begin with one of
    those are a shaping of the environment's own reward.

    Raises:
        ValueError: as in :func:`load_shaping`, or a word is none of these.
    """
    found: list[NamedShaping] = []
    for word in words:
        key, equals, text = word.partition('=')
        if not equals:
            found.append(load_shaping(word))
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f'{word}: {text!r} is no value') from error
        last = found.pop() if found else NamedShaping('')
        name = f'{last.name} {word}'.strip()
        shaping = _change(last.shaping, [(key, value)], word)
        found.append(replace(last, name=name, shaping=shaping))
    return found


def _change(shaping: Shaping, pairs: Iterable[tuple[Any, Any]], where: str) -> Shaping:
    """A shaping with some values in place of its own, each checked."""
    weights, potential = dict(shaping.weights), dict(shaping.potential)
    settings: dict[str, Any] = {}
    for key, value in pairs:
        if key == 'mode':
            settings[key] = value
        elif key in SETTINGS:
            settings[key] = finite(value, f'{where}: {key}')
        elif str(key).startswith('potential.'):
            potential[str(key).partition('.')[2]] = finite(value, f'{where}: {key}')
        else:
            weights[str(key)] = finite(value, f'{where}: {key}')
    try:
        return replace(shaping, weights=weights, potential=potential, **settings)
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error
