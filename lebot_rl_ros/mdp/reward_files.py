"""Rewards of the walk by name: YAML files in ``config/rewards``, or anywhere.

`lebot compare rewards` reads the same files, and there they may say more: what leads a learner in
simulation only. Here a file says weights.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lebot_rl_ros.mdp.rewards import TERMS, RewardConfig
from lebot_rl_ros.robot import share_path

ENV = 'LeBotVelocity-v0'  # whose terms those of the walk are
KEYS = ('env', 'about', 'weights')
SIMULATED = ('potential', 'scale', 'discount', 'mode')  # keys that only training knows
OTHERS = ('fall', 'down')  # weights that are not per control period


def reward_names() -> list[str]:
    """Names of the rewards for the walk that come with the package."""
    files = sorted(share_path('config', 'rewards').glob('*.yaml'))
    return [path.stem for path in files if read_table(path).get('env') == ENV]


def load_reward(name: str | Path) -> RewardConfig:
    """Read a reward: a name in ``config/rewards``, the path of a file, or '' for the task's own.

    What a file does not weigh keeps the weight of the task.

    Raises:
        ValueError: there is none, or something in it is unknown or no number; the message names
            the file, the key, the value and the choices.
    """
    if not name:
        return RewardConfig()
    path = Path(name)
    if path.suffix != '.yaml':
        if str(name) not in reward_names():
            raise ValueError(
                f'unknown reward {str(name)!r}; rewards are {", ".join(reward_names())}, '
                f'or the path of a .yaml file'
            )
        path = share_path('config', 'rewards', f'{name}.yaml')
    table = read_table(path)
    for key in table:
        if key in SIMULATED:
            raise ValueError(f'{path}: {key} is for training in simulation; the walk has weights')
        if key not in KEYS:
            raise ValueError(f'{path}: unknown key {key!r}; keys are {", ".join(KEYS)}')
    env = table.get('env', ENV)
    if env != ENV:
        raise ValueError(f'{path} is for {env}, whose terms are others; the walk is {ENV}')
    given = table.get('weights') or {}
    if not isinstance(given, dict):
        raise ValueError(f'{path}: weights is {given!r}, expected a table of terms')
    known = (*TERMS, *OTHERS)
    for term in given:
        if term not in known:
            raise ValueError(f'{path}: unknown term {term!r}; terms are {", ".join(known)}')
    numbers = {term: finite(value, f'{path}: {term}') for term, value in given.items()}
    config = RewardConfig()
    others = {term: numbers.pop(term) for term in OTHERS if term in numbers}
    return replace(config, weights={**config.weights, **numbers}, **others)


def read_table(path: Path) -> dict[Any, Any]:
    """Read a file with a reward, whoever's.

    Raises:
        ValueError: it cannot be read, is not YAML, or no table.
    """
    try:
        table = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f'reward {path} cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'reward {path} is not YAML: {error}') from error
    if not isinstance(table, dict):
        raise ValueError(f'{path} is {table!r}, expected a table of keys')
    return table


def finite(value: Any, where: str) -> float:
    """A number of such a file; ValueError, with ``where``, if it is none or not finite."""
    # YAML takes 1e-3, without a point, for text.
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f'{where} is {value!r}, expected a finite number')
    return number
