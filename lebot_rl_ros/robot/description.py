"""The joint table: what a robot is made of, read from one YAML file and its URDF."""

from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lebot_rl_ros.robot.files import share_path
from lebot_rl_ros.robot.get_up_script import GetUpScript
from lebot_rl_ros.robot.kinematics import LegKinematics
from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True)
class Joint:
    """One row of the joint table. Angles in rad, joint side."""

    name: str
    id: int  # servo id on the bus
    sign: int  # joint = sign * (servo - zero)
    zero: float
    stand: float
    crouch: float
    lower: float
    upper: float
    fold: float | None = None  # None: as crouch

    def __post_init__(self) -> None:
        """Check the row against itself.

        Raises:
            ValueError: sign is not 1 or -1, or a pose lies outside the limits.
        """
        if self.sign not in (1, -1):
            raise ValueError(f'joint {self.name}: sign is {self.sign}, must be 1 or -1')
        if not self.lower < self.upper:
            raise ValueError(
                f'joint {self.name}: lower {self.lower} is not below upper {self.upper}'
            )
        for pose in ('stand', 'crouch', 'fold'):
            value = getattr(self, pose)
            if value is not None and not self.lower <= value <= self.upper:
                raise ValueError(
                    f'joint {self.name}: {pose} {value} is outside [{self.lower}, {self.upper}]'
                )


@dataclass(frozen=True)
class ServoModel:
    """A servo class, as far as simulation and limits need it."""

    stall_torque: float  # N·m at nominal_voltage
    no_load_speed: float  # rad/s at nominal_voltage
    nominal_voltage: float  # V
    kp: float  # N·m/rad
    armature: float  # kg·m²
    friction: float  # N·m
    dead_band: float  # rad
    delay: float = 0.0  # s, from the stamp of a state to its command at the servo

    @property
    def damping(self) -> float:
        """N·m·s/rad of the back-EMF: the slope of the speed-torque line."""
        return self.stall_torque / self.no_load_speed


@dataclass(frozen=True)
class Limits:
    """Limits of the targets; position limits stand in the joint table."""

    velocity: float  # rad/s
    acceleration: float  # rad/s²


@dataclass(frozen=True)
class Robot:
    """A legged robot: joints in the order that every array of the suite has."""

    name: str
    urdf: Path
    control_rate: float  # Hz
    base_link: str
    imu_link: str
    feet: tuple[str, ...]
    trot_offsets: FloatArray  # (feet,) fraction of a gait cycle
    fall_tilt: float  # rad
    servo: ServoModel
    limits: Limits
    joints: tuple[Joint, ...]
    get_up: tuple[GetUpScript, ...] = ()  # one for each way to lie that can be helped
    servos: tuple[ServoModel, ...] = ()  # of each joint, where they were identified
    joint_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Check the table as a whole.

        Raises:
            ValueError: a name or id stands twice, or the gait has another number of feet.
        """
        names = tuple(joint.name for joint in self.joints)
        object.__setattr__(self, 'joint_names', names)
        for what, values in (('name', names), ('servo id', tuple(j.id for j in self.joints))):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f'robot {self.name}: {what} {", ".join(twice)} stands twice')
        if len(self.trot_offsets) != len(self.feet):
            raise ValueError(
                f'robot {self.name}: {len(self.trot_offsets)} trot_offsets '
                f'for {len(self.feet)} feet'
            )
        if self.servos and len(self.servos) != len(names):
            raise ValueError(
                f'robot {self.name}: {len(self.servos)} servos for {len(names)} joints'
            )
        for script in self.get_up:
            script.check(
                self.joint_names,
                self.lower,
                self.upper,
                self.limits.velocity,
                self.limits.acceleration,
            )

    @property
    def joint_servos(self) -> tuple[ServoModel, ...]:
        """The servo of each joint: as identified, or the class's."""
        return self.servos or (self.servo,) * len(self.joints)

    @property
    def control_period_ns(self) -> int:
        """Nanoseconds between two control ticks."""
        return round(1e9 / self.control_rate)

    @cached_property
    def lower(self) -> FloatArray:
        """(J,) rad."""
        return np.array([joint.lower for joint in self.joints])

    @cached_property
    def upper(self) -> FloatArray:
        """(J,) rad."""
        return np.array([joint.upper for joint in self.joints])

    @cached_property
    def stand(self) -> FloatArray:
        """(J,) rad, nominal standing pose."""
        return np.array([joint.stand for joint in self.joints])

    @cached_property
    def crouch(self) -> FloatArray:
        """(J,) rad, the pose in which the robot may lose torque."""
        return np.array([joint.crouch for joint in self.joints])

    @cached_property
    def fold(self) -> FloatArray:
        """(J,) rad, legs tucked up: whatever the robot fell into, it gathers itself in this."""
        return np.array([j.crouch if j.fold is None else j.fold for j in self.joints])

    @cached_property
    def legs(self) -> LegKinematics:
        """Kinematics of the feet, from the URDF."""
        return LegKinematics(self.urdf, self.base_link, self.feet, self.joint_names)


def _record(cls: type, values: Any, where: str) -> dict[str, Any]:
    entries = [entry for entry in fields(cls) if entry.init]
    names = [entry.name for entry in entries]
    if not isinstance(values, dict):
        raise ValueError(f'{where}: expected keys {", ".join(names)}, found {values!r}')
    unknown = sorted(set(values) - set(names))
    missing = [e.name for e in entries if e.default is MISSING and e.name not in values]
    if unknown or missing:
        raise ValueError(
            f'{where}: unknown {unknown or "none"}, missing {missing or "none"}; '
            f'keys are {", ".join(names)}'
        )
    return values


def load_robot(name: str | Path = 'lebot') -> Robot:
    """Read a robot: a name in ``config/robots``, or the path of a YAML table anywhere.

    The URDF is looked for beside the table, then in the package's ``urdf`` folder.

    Raises:
        FileNotFoundError: no such table or URDF.
        ValueError: a key is missing, unknown or out of range; the message names the row.
    """
    path = Path(name)
    if path.suffix not in ('.yaml', '.yml'):
        folder = share_path('config', 'robots')
        path = folder / f'{name}.yaml'
        if not path.is_file():
            known = ', '.join(sorted(entry.stem for entry in folder.glob('*.yaml')))
            raise FileNotFoundError(
                f'no robot {str(name)!r}; known are {known}, or give a path to a YAML table'
            )
    table = dict(_record(Robot, yaml.safe_load(path.read_text()), str(path)))
    urdf = path.parent / table['urdf']
    table['urdf'] = urdf if urdf.is_file() else share_path('urdf', table['urdf'])
    table['feet'] = tuple(table['feet'])
    table['trot_offsets'] = np.array(table['trot_offsets'], dtype=float)
    table['servo'] = ServoModel(**_record(ServoModel, table['servo'], f'{path}: servo'))
    table['limits'] = Limits(**_record(Limits, table['limits'], f'{path}: limits'))
    table['joints'] = tuple(
        Joint(**_record(Joint, row, f'{path}: joints[{index}]'))
        for index, row in enumerate(table['joints'])
    )
    table['get_up'] = tuple(
        GetUpScript.of(_record(GetUpScript, row, f'{path}: get_up[{index}]'))
        for index, row in enumerate(table.get('get_up', ()))
    )
    table['servos'] = tuple(
        ServoModel(**_record(ServoModel, row, f'{path}: servos[{index}]'))
        for index, row in enumerate(table.get('servos', ()))
    )
    return Robot(**table)
