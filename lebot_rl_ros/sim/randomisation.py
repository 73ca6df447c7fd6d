"""How far a simulated robot may differ from its drawing, and the draw of one robot."""

from dataclasses import dataclass

import mujoco
import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.conditions import LOAD_POSITION, strap
from lebot_rl_ros.sim.model import FLOOR

Range = tuple[float, float]


@dataclass(frozen=True)
class Randomisation:
    """Ranges that every reset draws from; the defaults draw nothing and add no noise."""

    friction: Range = (0.8, 0.8)  # of the floor
    mass: Range = (1.0, 1.0)  # factor on every link
    payload: Range = (1.0, 1.0)  # factor on the body's mass
    centre_of_mass: float = 0.0  # m, half-width of the shift of the body's, in x and y
    strength: Range = (1.0, 1.0)  # factor on stall torque, per servo
    supply: Range = (1.0, 1.0)  # factor on the nominal voltage, all servos alike
    kp: Range = (1.0, 1.0)  # factor on the gain, per servo
    latency: Range = (0.0, 0.0)  # s, from command to servo
    dead_band: Range = (1.0, 1.0)  # factor
    horn_offset: float = 0.0  # rad, half-width, per servo
    imu_mount: float = 0.0  # rad, half-width, roll and pitch
    lost_commands: float = 0.0  # probability that a command never arrives
    push_interval: float = 0.0  # s between pushes, 0 for none
    push_velocity: float = 0.0  # m/s, largest sudden change of velocity
    position_noise: float = 0.0  # rad
    velocity_noise: float = 0.0  # rad/s
    gyro_noise: float = 0.0  # rad/s
    tilt_noise: float = 0.0  # rad
    acceleration_noise: float = 0.0  # m/s²
    slope: Range = (0.0, 0.0)  # rad, of the floor, rising in a random direction
    load: Range = (0.0, 0.0)  # kg strapped on the body
    load_position: tuple[float, float, float] = LOAD_POSITION  # m, base_link

    @property
    def noisy(self) -> bool:
        """Whether any sensor has noise."""
        return bool(
            self.position_noise
            or self.velocity_noise
            or self.gyro_noise
            or self.tilt_noise
            or self.acceleration_noise
        )


NOMINAL = Randomisation()

# What a cheap robot is like; the shipped policy is trained on it.
TRAINING = Randomisation(
    friction=(0.4, 0.9),
    mass=(0.9, 1.1),
    payload=(0.8, 1.2),
    centre_of_mass=0.01,
    strength=(0.9, 1.1),  # below, a servo cannot turn fast enough for 0.5 m/s
    kp=(0.8, 1.2),
    latency=(0.0, 0.03),
    dead_band=(1.0, 2.0),
    horn_offset=0.05,
    imu_mount=0.05,
    lost_commands=0.01,
    push_interval=5.0,
    push_velocity=0.25,
    position_noise=0.003,
    velocity_noise=0.1,
    gyro_noise=0.05,
    tilt_noise=0.01,
    acceleration_noise=0.2,
)


@dataclass(frozen=True)
class Draw:
    """What one robot was given; the rest is written into its model."""

    supply: float  # of the nominal voltage
    latency: float  # s
    dead_band: float  # of the servo's own
    horn_offset: FloatArray  # (J,) rad, true angle = servo angle + horn_offset
    imu_mount: FloatArray  # (2,) rad, roll and pitch of the sensor in the body
    slope: float  # rad, of the floor
    direction: float  # rad from world x, in which the floor rises
    load: float  # kg on the body


def randomise(
    ranges: Randomisation,
    robot: Robot,
    nominal: mujoco.MjModel,
    model: mujoco.MjModel,
    scratch: mujoco.MjData,
    rng: np.random.Generator,
) -> Draw:
    """Write a fresh draw into ``model``, starting from ``nominal``; earlier faults are gone."""
    joints = len(robot.joints)
    base = model.body(robot.base_link).id
    mass = np.full(model.nbody, rng.uniform(*ranges.mass))
    mass[base] *= rng.uniform(*ranges.payload)
    model.body_mass[:] = nominal.body_mass * mass
    model.body_inertia[:] = nominal.body_inertia * mass[:, None]
    model.body_ipos[:] = nominal.body_ipos
    model.body_iquat[:] = nominal.body_iquat
    model.body_sameframe[:] = nominal.body_sameframe
    model.body_ipos[base, :2] += rng.uniform(-1, 1, 2) * ranges.centre_of_mass
    for name in ('geom_friction', 'geom_pos', 'geom_quat', 'geom_sameframe'):
        getattr(model, name)[:] = getattr(nominal, name)
    model.geom_friction[model.geom(FLOOR).id, 0] = rng.uniform(*ranges.friction)
    model.dof_frictionloss[:] = nominal.dof_frictionloss
    kp = rng.uniform(*ranges.kp, joints)
    model.actuator_gainprm[:, 0] = nominal.actuator_gainprm[:, 0] * kp
    model.actuator_biasprm[:, 1] = nominal.actuator_biasprm[:, 1] * kp
    model.actuator_forcerange[:] = nominal.actuator_forcerange * rng.uniform(
        *ranges.strength, (joints, 1)
    )
    low, high = ranges.supply
    draw = Draw(
        supply=low if low == high else rng.uniform(low, high),
        latency=rng.uniform(*ranges.latency),
        dead_band=rng.uniform(*ranges.dead_band),
        horn_offset=rng.uniform(-1, 1, joints) * ranges.horn_offset,
        imu_mount=rng.uniform(-1, 1, 2) * ranges.imu_mount,
        # What was added later comes last, and draws only where it is asked for: so a seed still
        # gives the same robots.
        slope=rng.uniform(*ranges.slope) if any(ranges.slope) else 0.0,
        direction=rng.uniform(-np.pi, np.pi) if any(ranges.slope) else 0.0,
        load=rng.uniform(*ranges.load) if any(ranges.load) else 0.0,
    )
    if draw.load:
        strap(model, base, draw.load, ranges.load_position)
    mujoco.mj_setConst(model, scratch)
    return draw
