"""How one robot was put together: sign, zero and found travel of its joints, in a file."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lebot_rl_ros.robot import Robot

SCHEMA = 1
HEAD = (
    '# Written by `lebot bus calibrate`. Angles in rad: zero of the servo, travel of the joint.\n'
)


@dataclass(frozen=True)
class JointCalibration:
    """Takes the place of a row's sign and zero: joint = sign * (servo - zero)."""

    sign: int
    zero: float  # rad, the servo's angle where the joint's is 0
    lower: float | None = None  # rad, joint side, where it was found to stop; None: not looked for
    upper: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Of one robot; joints that it does not have stay as the joint table says."""

    robot: str  # name in the joint table
    joints: Mapping[str, JointCalibration] = field(default_factory=dict)
    date: str = ''  # ISO 8601, UTC, of the last change

    def apply(self, robot: Robot) -> Robot:
        """The robot with signs and zeros of this calibration in its table.

        Raises:
            ValueError: it is of another robot, or of a joint that the robot does not have.
        """
        if self.robot != robot.name:
            raise ValueError(f'the calibration is of robot {self.robot!r}, not of {robot.name!r}')
        strange = [name for name in self.joints if name not in robot.joint_names]
        if strange:
            raise ValueError(
                f'the calibration has joint {strange[0]!r}; {robot.name} has '
                f'{", ".join(robot.joint_names)}'
            )
        rows = (
            replace(joint, sign=found.sign, zero=found.zero)
            if (found := self.joints.get(joint.name))
            else joint
            for joint in robot.joints
        )
        return replace(robot, joints=tuple(rows))

    def updated(self, robot: Robot, joint: str, **values: Any) -> 'Calibration':
        """With new values of one joint, from now; what it has not yet comes from the table."""
        row = robot.joints[robot.joint_names.index(joint)]
        old = self.joints.get(joint) or JointCalibration(row.sign, row.zero)
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        return replace(self, joints={**self.joints, joint: replace(old, **values)}, date=now)

    def short_travel(self, robot: Robot) -> list[str]:
        """Joints that stop before the table's limits, in words: a servo would stall there."""
        lines = []
        for row in robot.joints:
            found = self.joints.get(row.name)
            if found is None or found.lower is None or found.upper is None:
                continue
            if row.lower < found.lower or row.upper > found.upper:
                lines.append(
                    f'{row.name}: travel found is {found.lower:.2f} to {found.upper:.2f} rad, '
                    f'the joint table allows {row.lower:.2f} to {row.upper:.2f} rad'
                )
        return lines


def calibration_path(robot: Robot) -> Path:
    """Where a robot's calibration lies: ``lebot/calibration`` in the user's configuration."""
    home = os.environ.get('XDG_CONFIG_HOME') or Path.home() / '.config'
    return Path(home) / 'lebot' / 'calibration' / f'{robot.name}.yaml'


def load_calibration(robot: Robot, path: str | Path = '') -> Calibration:
    """Read a robot's calibration; without ``path`` the user's, which is empty if not there.

    Raises:
        FileNotFoundError: ``path`` is given and not there.
        ValueError: it cannot be used; the message has file, key, value and what is right.
    """
    file = Path(path) if path else calibration_path(robot)
    if not path and not file.is_file():
        return Calibration(robot.name)
    try:
        table = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is not YAML: {error}') from error
    table = _keys(table, str(file), ('schema', 'robot', 'date', 'joints'))
    if table['schema'] != SCHEMA:
        raise ValueError(f'{file}: schema is {table["schema"]!r}, must be {SCHEMA}')
    for key in ('robot', 'date'):
        if not isinstance(table[key], str):
            raise ValueError(f'{file}: {key} is {table[key]!r}, must be a text')
    if not isinstance(table['joints'], dict):
        raise ValueError(f'{file}: joints is {table["joints"]!r}, must be a table by joint name')
    joints = {name: _joint(row, f'{file}: joints.{name}') for name, row in table['joints'].items()}
    calibration = Calibration(table['robot'], joints, table['date'])
    try:
        calibration.apply(robot)
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    return calibration


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write it in place of an old one; readers see the old file or the new one."""
    rows = {
        name: {entry.name: getattr(joint, entry.name) for entry in fields(joint)}
        for name, joint in calibration.joints.items()
    }
    table = {
        'schema': SCHEMA,
        'robot': calibration.robot,
        'date': calibration.date,
        'joints': rows,
    }
    text = HEAD + yaml.safe_dump(table, sort_keys=False, default_flow_style=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    try:
        with os.fdopen(handle, 'w') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _keys(table: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(table, dict) or set(table) != set(names):
        found = ', '.join(map(str, table)) if isinstance(table, dict) else repr(table)
        raise ValueError(f'{where}: keys must be {", ".join(names)}; found {found or "none"}')
    return table


def _joint(row: Any, where: str) -> JointCalibration:
    row = _keys(row, where, tuple(entry.name for entry in fields(JointCalibration)))
    if row['sign'] not in (1, -1) or isinstance(row['sign'], bool):
        raise ValueError(f'{where}.sign is {row["sign"]!r}, must be 1 or -1')
    for key in ('zero', 'lower', 'upper'):
        value = row[key]
        if value is None and key != 'zero':
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or abs(value) > 4 * np.pi:
            raise ValueError(f'{where}.{key} is {value!r}, must be an angle in rad')
    if None not in (row['lower'], row['upper']) and not row['lower'] < row['upper']:
        raise ValueError(f'{where}.lower is {row["lower"]}, must be below upper, {row["upper"]}')
    return JointCalibration(**row)
