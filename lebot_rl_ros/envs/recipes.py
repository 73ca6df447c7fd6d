"""What an adapter is trained for and judged by: one YAML file each, in ``config/adapters``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.robot import share_path

Entry = TypeVar('Entry')
Command = tuple[float, float]  # m/s forward, rad/s about z


@dataclass(frozen=True)
class Lora:
    """What of the base is adapted; names and meanings are PEFT's."""

    r: int = 2
    lora_alpha: float = 16.0
    use_rslora: bool = False
    bias: str = 'none'
    target_modules: tuple[str, ...] = ('actor.0', 'actor.1', 'actor.2')


@dataclass(frozen=True)
class Training:
    """How long to learn, and how fast."""

    steps: int = 1_500_000  # of all robots together
    robots: int = 256  # side by side
    rehearsal: float = 0.25  # share of them that does the base's own task, so that it is kept
    learning_rate: float = 1e-3  # of the adapter, and of the critic beside it
    full_learning_rate: float = 1e-3  # where all weights are trained
    entropy_coefficient: float = 0.0  # more keeps the exploration up
    start_std: float = 0.3  # action units, of the exploration at the start
    critic_warmup: int = 5  # iterations before the policy learns

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a value out of its range; the message has the key and the range.
        """
        for name in ('steps', 'robots', 'learning_rate', 'full_learning_rate'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')
        if not 0.0 < self.start_std <= 1.0:
            raise ValueError(f'start_std is {self.start_std}, must be in (0, 1]')
        if self.critic_warmup < 0:
            raise ValueError(f'critic_warmup is {self.critic_warmup}, must be 0 or more')
        if self.rehearsal not in REHEARSALS or self.robots % SHARDS:
            raise ValueError(
                f'rehearsal is {self.rehearsal} of {self.robots} robots; choices are '
                f'{", ".join(map(str, REHEARSALS))} of a multiple of {SHARDS}'
            )


SHARDS = 4  # groups of robots that are simulated side by side; part of what is learned
REHEARSALS = tuple(i / SHARDS for i in range(SHARDS))


@dataclass(frozen=True)
class Judging:
    """Which commands the adapter is judged by, under the same conditions as in training."""

    commands: tuple[Command, ...] = ()
    robots: int = 8  # for each command
    seconds: float = 11.0  # of each: one to get going, then whole windows of 2 s


@dataclass(frozen=True)
class Recipe:
    """One file."""

    name: str = ''
    about: str = ''  # what the adapter is for
    why: str = ''  # why these conditions, with what was measured
    text: str = field(default='', repr=False)  # of the file
    task: VelocityConfig = field(default_factory=VelocityConfig)
    judging: Judging = field(default_factory=Judging)
    lora: Lora = field(default_factory=Lora)
    training: Training = field(default_factory=Training)

    def task_for(self, own: VelocityConfig) -> VelocityConfig:
        """Return the task with what a base brings: its gait, action scale and history."""
        return replace(
            self.task, gait=own.gait, action_space=own.action_space, history=own.history
        )


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in share_path('config', 'adapters').glob('*.yaml'))


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe by name, or by the path of its file.

    Raises:
        ValueError: there is no such recipe, or something in it is unknown or out of range; the
            message names the file, the key and the choices.
    """
    path = Path(name)
    if path.suffix != '.yaml':
        if str(name) not in recipe_names():
            raise ValueError(
                f'unknown recipe {str(name)!r}; recipes are {", ".join(recipe_names())}, '
                f'or the path of a .yaml file'
            )
        path = share_path('config', 'adapters', f'{name}.yaml')
    try:
        text = path.read_text()
        table = yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f'recipe {path} cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'recipe {path} is not YAML: {error}') from error
    recipe = _fill(Recipe(), table, str(path), hidden=('name', 'text'))
    if not recipe.judging.commands:
        raise ValueError(f'{path}: judging.commands is empty; give at least one [m/s, rad/s]')
    return replace(recipe, name=path.stem, text=text)


def _fill(default: Entry, table: Any, where: str, hidden: tuple[str, ...] = ()) -> Entry:
    """A dataclass with the values of a table in place of its own, each checked by its type."""
    if not isinstance(table, dict):
        raise ValueError(f'{where} is {table!r}, expected a table of keys')
    known = [entry.name for entry in fields(default) if entry.name not in hidden]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ValueError(f'{where}: unknown key {key!r}; keys are {", ".join(known)}')
    separator = '.' if '.yaml: ' in where else ': '
    given = {
        key: _convert(getattr(default, key), value, f'{where}{separator}{key}')
        for key, value in table.items()
    }
    try:
        return replace(default, **given)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error


def _convert(default: Any, value: Any, where: str) -> Any:
    if is_dataclass(default) and not isinstance(default, type):
        return _fill(default, value, where)
    if isinstance(default, Mapping):  # of numbers: those given replace those there
        if not isinstance(value, dict):
            raise ValueError(f'{where} is {value!r}, expected a table of keys')
        return {**default, **{k: _number(v, f'{where}.{k}') for k, v in value.items()}}
    if isinstance(default, tuple):
        return _sequence(default, value, where)
    if isinstance(default, float):
        return _number(value, where)
    kind = type(default)
    if type(value) is not kind:
        raise ValueError(f'{where} is {value!r}, expected {NAMES[kind]}')
    return value.strip() if isinstance(value, str) else value


NAMES = {str: 'text', int: 'a whole number', bool: 'true or false'}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f'{where} is {value!r}, expected a number')
    return float(value)


def _sequence(default: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f'{where} is {value!r}, expected a list')
    if not default:
        return tuple(_numbers(2, pair, f'{where}[{i}]') for i, pair in enumerate(value))
    if isinstance(default[0], str):
        return tuple(_convert('', item, f'{where}[{i}]') for i, item in enumerate(value))
    numbers = _numbers(len(default), value, where)
    if len(numbers) == 2 and numbers[0] > numbers[1]:  # every pair but a command is a range
        raise ValueError(f'{where} is {value!r}, expected the lower number first')
    return numbers


def _numbers(count: int, value: Any, where: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f'{where} is {value!r}, expected {count} numbers')
    return tuple(_number(item, f'{where}[{i}]') for i, item in enumerate(value))
