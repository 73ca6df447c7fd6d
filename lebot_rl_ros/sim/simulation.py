"""Many robots side by side, each advanced by one control period per call, on all threads.

One robot or a thousand run through the same lines, so what a policy was trained on is what the
simulated robot node does.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco import rollout

from lebot_rl_ros.robot import Robot, RobotState, rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.conditions import strap, tilt_floor
from lebot_rl_ros.sim.delay_line import DelayLine
from lebot_rl_ros.sim.model import build_model, copies, standing_height
from lebot_rl_ros.sim.randomisation import NOMINAL, Randomisation, randomise

TIMESTEP = 0.005  # s, one physics substep
GRAVITY = 9.81  # m/s²
HELD = 0.5  # m, of a body that is held, above where it stood

Load = tuple[float, tuple[float, float, float]]  # kg, and m in base_link


@dataclass(frozen=True)
class Truth:
    """What only the simulator knows; for evaluation, never for rewards of the robot."""

    position: FloatArray  # (N, 3) m, world
    orientation: FloatArray  # (N, 4) w x y z
    linear_velocity: FloatArray  # (N, 3) m/s, base_link
    angular_velocity: FloatArray  # (N, 3) rad/s, base_link


class Simulation:
    """``robots`` independent copies of a robot, each on a floor of its own, flat if not told.

    Arrays have the leading shape (N,). Every draw comes from ``seed``, and the result does not
    depend on the number of threads.
    """

    def __init__(
        self,
        robot: Robot,
        robots: int = 1,
        *,
        seed: int = 0,
        randomisation: Randomisation = NOMINAL,
        period: float | None = None,
        threads: int = 0,
        held: bool = False,
    ) -> None:
        """Build the models and reset all robots.

        Args:
            robot: what to simulate.
            robots: how many, N.
            seed: of every random draw.
            randomisation: ranges drawn from at each reset.
            period: seconds of one control period; the robot's own by default.
            threads: worker threads; 0 steps on the caller's.
            held: bodies are clamped in the air, ``HELD`` m up; only the legs move.
        """
        self.robot, self.robots, self.randomisation = robot, robots, randomisation
        self.period = period or 1.0 / robot.control_rate
        self.substeps = round(self.period / TIMESTEP)
        if self.substeps < 1 or not np.isclose(self.substeps * TIMESTEP, self.period):
            raise ValueError(
                f'control period {self.period} s is not a multiple of the substep, {TIMESTEP} s'
            )
        self.rng = np.random.default_rng(seed)
        self.nominal = build_model(robot, TIMESTEP, held=held)
        self._lift = HELD if held else 0.0
        self.models = copies(self.nominal, robots)
        self._scratch = [mujoco.MjData(self.nominal) for _ in range(max(threads, 1))]
        self._rollout = rollout.Rollout(nthread=threads)
        joints, nq = len(robot.joints), self.nominal.nq
        self._qpos_address = np.array(
            [self.nominal.joint(name).qposadr[0] for name in robot.joint_names]
        )
        self._qvel_address = np.array(
            [self.nominal.joint(name).dofadr[0] for name in robot.joint_names]
        )
        size = mujoco.mj_stateSize(self.nominal, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._states = np.zeros((robots, self.substeps, size))
        self._state = np.zeros((robots, size))
        self._qpos, self._qvel = (
            self._state[:, 1 : 1 + nq],
            self._state[:, 1 + nq : 1 + nq + self.nominal.nv],
        )
        self._stall, self._kp, self._damping, dead_band, delay = np.array(
            [(s.stall_torque, s.kp, s.damping, s.dead_band, s.delay) for s in robot.joint_servos]
        ).T
        # One column where all joints are alike.
        alike = len({(s.delay, s.dead_band) for s in robot.joint_servos}) == 1
        self._delay, self._band = (x[:1] if alike else x for x in (delay, dead_band))
        most = (float(delay.max()) + randomisation.latency[1]) / TIMESTEP
        self.line = DelayLine(robots, joints, self.substeps, len(self._delay), most)
        self._control = np.zeros((robots, self.substeps, joints))
        self._dead_band = np.zeros((robots, 1, len(self._band)))
        self.horn_offset = np.zeros((robots, joints))
        self._drawn_force = np.tile(self.nominal.actuator_forcerange, (robots, 1, 1))
        self._strength = np.ones((robots, joints))
        self._torque = np.ones((robots, joints))  # share that the servos' own limits leave
        self._supply = np.ones(robots)
        self._mount = np.tile([1.0, 0.0, 0.0, 0.0], (robots, 1))
        self._mount_matrix = np.tile(np.eye(3), (robots, 1, 1))
        self._previous_velocity = np.zeros((robots, 3))
        self._ticks = np.zeros(robots, dtype=np.int64)
        self.loads: list[list[Load]] = [[] for _ in range(robots)]  # to be drawn; physics has them
        self.reset()

    def seed(self, seed: int) -> None:
        """Restart every random draw and the clock, for the next reset."""
        self.rng = np.random.default_rng(seed)
        self._ticks[:] = 0

    def reset(
        self, which: npt.NDArray[np.bool_] | None = None, *, pose: FloatArray | None = None
    ) -> None:
        """Put robots back at the origin, standing or in ``pose`` (J,) rad, with a fresh draw."""
        pose = self.robot.stand if pose is None else pose
        height = self._height(pose)
        for i in range(self.robots) if which is None else np.flatnonzero(which).tolist():
            draw = randomise(
                self.randomisation,
                self.robot,
                self.nominal,
                self.models[i],
                self._scratch[0],
                self.rng,
            )
            self._drawn_force[i] = self.models[i].actuator_forcerange
            self._strength[i] = 1.0
            self._supply[i] = draw.supply
            self.set_torque(i, on=True)
            self.line.set(i, self._delays(draw.latency), pose)
            self._dead_band[i] = self._band * draw.dead_band
            self.horn_offset[i] = draw.horn_offset
            self._mount[i] = rotations.from_roll_pitch_yaw(np.array([*draw.imu_mount, 0.0]))
            mujoco.mju_quat2Mat(self._mount_matrix[i].reshape(9), self._mount[i])
            self._state[i] = 0.0
            self._qpos[i, 2:4] = height, 1.0
            self._qpos[i, self._qpos_address] = pose + draw.horn_offset
            self._previous_velocity[i] = 0.0
            self.loads[i] = [(draw.load, self.randomisation.load_position)] if draw.load else []
            if draw.slope:
                tilt_floor(
                    self.models[i], self._qpos[i], self._qvel[i], draw.slope, draw.direction
                )

    def step(self, targets: FloatArray) -> None:
        """Advance one control period with position targets (N, J) rad, as the servos are told."""
        ranges = self.randomisation
        if ranges.lost_commands:
            lost = self.rng.random((self.robots, 1)) < ranges.lost_commands
            targets = np.where(lost, self.line.newest, targets)
        self.line.push(targets)
        if ranges.push_interval:
            self._push()
        np.copyto(self._previous_velocity, self._qvel[:, :3])
        control = self.line.arrived()
        position = (self._qpos[:, self._qpos_address] - self.horn_offset)[:, None]
        error = control - position
        # The dead band is judged once a period, not once a substep: the resting error is the
        # servo's, the way there not.
        error -= np.clip(error, -self._dead_band, self._dead_band)
        np.add(error, position + self.horn_offset[:, None], out=self._control)
        self._rollout.rollout(
            self.models, self._scratch, self._state, self._control,
            nstep=self.substeps, state=self._states, skip_checks=True,
        )  # fmt: skip
        self._state[:] = self._states[:, -1]
        self._ticks += 1

    def sense(self) -> RobotState:
        """What the robots' own sensors say now, with noise; stamps count ns since the start."""
        ranges, n, joints = self.randomisation, self.robots, len(self.robot.joints)
        position = self._qpos[:, self._qpos_address] - self.horn_offset
        velocity = self._qvel[:, self._qvel_address]
        orientation = rotations.multiply(self._qpos[:, 3:7], self._mount)
        gyro = np.einsum('nij,ni->nj', self._mount_matrix, self._qvel[:, 3:6])
        change = (self._qvel[:, :3] - self._previous_velocity) / self.period
        change[:, 2] += GRAVITY
        acceleration = rotations.rotate_inverse(orientation, change)
        if ranges.noisy:
            noise = self.rng.standard_normal((n, 2 * joints + 9))
            position = position + ranges.position_noise * noise[:, :joints]
            velocity = velocity + ranges.velocity_noise * noise[:, joints : 2 * joints]
            gyro = gyro + ranges.gyro_noise * noise[:, -9:-6]
            acceleration = acceleration + ranges.acceleration_noise * noise[:, -6:-3]
            wobble = np.concatenate(
                (np.ones((n, 1)), 0.5 * ranges.tilt_noise * noise[:, -3:]), axis=1
            )
            wobble /= np.linalg.norm(wobble, axis=1, keepdims=True)
            orientation = rotations.multiply(orientation, wobble)
        return RobotState(
            stamp=self._ticks * round(self.period * 1e9),
            joint_position=position,
            joint_velocity=velocity,
            joint_effort=self._effort(),
            orientation=orientation,
            angular_velocity=gyro,
            linear_acceleration=acceleration,
        )

    def truth(self) -> Truth:
        """Where the robots really are."""
        orientation = self._qpos[:, 3:7].copy()
        return Truth(
            position=self._qpos[:, :3].copy(),
            orientation=orientation,
            linear_velocity=rotations.rotate_inverse(orientation, self._qvel[:, :3]),
            angular_velocity=self._qvel[:, 3:6].copy(),
        )

    def set_torque(self, index: int, *, on: bool) -> None:
        """Switch all servos of one robot."""
        self.limit_torque(index, np.full(len(self.robot.joints), float(on)))

    def limit_torque(self, index: int, share: FloatArray) -> None:
        """Leave each servo of one robot this share (J,) of its torque, 0 to 1; 0 is off."""
        self._torque[index] = share
        self._write_force(index)

    def set_supply(self, index: int, volts: float) -> None:
        """Feed one robot's servos this voltage, until the next reset.

        Stall torque and no-load speed follow the voltage; the slope between them does not.
        """
        self._supply[index] = volts / self.robot.servo.nominal_voltage
        self._write_force(index)

    def weaken(self, index: int, joint: int, factor: float) -> None:
        """Leave one servo this share of its torque, until the next reset."""
        self._strength[index, joint] *= factor
        self._write_force(index)

    def strap(self, index: int, mass: float, position: tuple[float, float, float]) -> None:
        """Strap a load (kg) on one robot's body, at a place (m) in base_link, until its reset."""
        model = self.models[index]
        strap(model, model.body(self.robot.base_link).id, mass, position)
        mujoco.mj_setConst(model, self._scratch[0])
        self.loads[index].append((mass, position))

    def _write_force(self, index: int) -> None:
        share = self._strength[index] * self._torque[index] * self._supply[index]
        self.models[index].actuator_forcerange[:] = self._drawn_force[index] * share[:, None]

    @property
    def qpos(self) -> FloatArray:
        """(N, nq) generalised positions, a view: for rendering, and to place the robot."""
        return self._qpos

    @property
    def qvel(self) -> FloatArray:
        """(N, nv) generalised velocities, a view."""
        return self._qvel

    def _delays(self, drawn: float) -> FloatArray:
        """In substeps, one or (J,): what was identified is the middle of what may be drawn."""
        if not self._delay.any():
            return np.array([float(round(drawn / TIMESTEP))])
        middle = sum(self.randomisation.latency) / 2
        # 15 ms are 3 substeps, not 2.9999999999999996.
        return np.maximum(np.round((self._delay + drawn - middle) / TIMESTEP, 6), 0.0)

    def _effort(self) -> FloatArray:
        """Torque at the horns (N·m) by the servo model, at the end of the period."""
        error = self._control[:, -1] - self._qpos[:, self._qpos_address]
        stall = self._stall * self._strength * (self._torque * self._supply[:, None])
        drive = np.clip(self._kp * error, -stall, stall)
        return drive - self._damping * self._qvel[:, self._qvel_address]

    def _push(self) -> None:
        ranges = self.randomisation
        pushed = self.rng.random(self.robots) < self.period / ranges.push_interval
        kick = self.rng.uniform(-ranges.push_velocity, ranges.push_velocity, (self.robots, 2))
        self._qvel[:, :2] += pushed[:, None] * kick

    def _height(self, pose: FloatArray) -> float:
        if pose is self.robot.stand:
            return standing_height(self.robot) + self._lift
        feet = self.robot.legs(pose, np.zeros_like(pose))
        return float(self.robot.legs.foot_radius - feet.position[2].min()) + 0.002 + self._lift
