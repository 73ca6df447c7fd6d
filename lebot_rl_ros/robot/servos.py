"""Identified servos on disk: what a joint's own servo is like, for the simulator to load."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from lebot_rl_ros.robot.description import Robot, ServoModel

SCHEMA = 1
RANGES: Mapping[str, tuple[float, float]] = {  # of what a file may say
    'stall_torque': (0.01, 200.0),
    'no_load_speed': (0.1, 100.0),
    'nominal_voltage': (1.0, 60.0),
    'kp': (0.1, 1000.0),
    'armature': (1e-6, 10.0),
    'friction': (0.0, 50.0),
    'dead_band': (0.0, 0.5),
    'delay': (0.0, 0.2),
}
UNITS: Mapping[str, str] = {
    'stall_torque': 'N·m',
    'no_load_speed': 'rad/s',
    'nominal_voltage': 'V',
    'kp': 'N·m/rad',
    'armature': 'kg·m²',
    'friction': 'N·m',
    'dead_band': 'rad',
    'delay': 's',
}
HEAD = """\
# Servos of {robot} as identified; `servos` of lebot walk and lebot train base takes this file.
# {units}.
# uncertainty: one standard error; held: what the motion could not tell, left as it was, and why.
"""


@dataclass(frozen=True)
class ServoFile:
    """Servos by joint, how sure they are, and where they come from."""

    robot: str
    servos: Mapping[str, ServoModel]
    uncertainty: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            ValueError: one that is out of range; the message has joint, parameter and range.
        """
        for joint, servo in self.servos.items():
            check_servo(servo, joint)


def check_servo(servo: ServoModel, where: str) -> None:
    """Refuse what no servo is like.

    Raises:
        ValueError: with the parameter, its value and the valid range.
    """
    for name, (low, high) in RANGES.items():
        value = getattr(servo, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            raise ValueError(
                f'{where}: {name} is {value!r}, must be a number of {low:g} to {high:g} '
                f'{UNITS[name]}'
            )


def write_servos(path: Path, file: ServoFile) -> None:
    """Write atomically, numbers with as many digits as they are worth."""
    content = {
        'schema': SCHEMA,
        'robot': file.robot,
        'servos': {joint: _rounded(asdict(servo)) for joint, servo in file.servos.items()},
        'uncertainty': {joint: _rounded(errors) for joint, errors in file.uncertainty.items()},
        'held': {joint: dict(reasons) for joint, reasons in file.held.items() if reasons},
        'provenance': dict(file.provenance),
    }
    units = ', '.join(f'{name} {unit}' for name, unit in UNITS.items())
    text = HEAD.format(robot=file.robot, units=units) + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, width=140
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    draft.write_text(text)
    draft.replace(path)


def read_servos(path: str | Path) -> ServoFile:
    """Read and check a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file, of another schema, or a value is missing, unknown or out
            of range.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no servo file {path}; `lebot identify BAG --out FILE` makes one')
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f'{path}: no YAML: {error}') from None
    if not isinstance(content, dict) or not isinstance(content.get('servos'), dict):
        raise ValueError(f'{path}: no servo file: it has no table `servos`')
    if content.get('schema') != SCHEMA:
        found = content.get('schema')
        raise ValueError(f'{path}: schema is {found!r}; this version reads {SCHEMA}')
    servos = {
        str(joint): _servo(values, f'{path}: {joint}')
        for joint, values in content['servos'].items()
    }
    return ServoFile(
        robot=str(content.get('robot', '')),
        servos=servos,
        uncertainty=content.get('uncertainty') or {},
        held=content.get('held') or {},
        provenance=content.get('provenance') or {},
    )


def with_servos(robot: Robot, path: str | Path) -> Robot:
    """The robot with the servos of a file; '' leaves it as it is.

    Raises:
        ValueError: as :func:`read_servos`, or the file is of another robot or other joints; the
            message names both.
    """
    if not str(path):
        return robot
    file = read_servos(path)
    if file.robot != robot.name:
        raise ValueError(f'{path} is of robot {file.robot!r}, but this is {robot.name!r}')
    if set(file.servos) != set(robot.joint_names):
        raise ValueError(
            f'{path} has the joints {", ".join(file.servos)}; '
            f'{robot.name} has {", ".join(robot.joint_names)}'
        )
    return replace(robot, servos=tuple(file.servos[name] for name in robot.joint_names))


def _servo(values: Any, where: str) -> ServoModel:
    names = [entry.name for entry in fields(ServoModel)]
    if not isinstance(values, dict) or set(values) != set(names):
        raise ValueError(f'{where}: keys are {_keys(values)}; they must be {", ".join(names)}')
    servo = ServoModel(**values)
    check_servo(servo, where)
    return servo


def _keys(values: Any) -> str:
    return ', '.join(map(str, values)) if isinstance(values, dict) else repr(values)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f'{value:.5g}') for name, value in values.items()}
