"""What the policy does in a tick: state in, joint target out, and the row that records it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.control.exploration import Exploration, ExplorationConfig
from lebot_rl_ros.control.fade import Fade
from lebot_rl_ros.data.rows import step_dtype
from lebot_rl_ros.mdp.commands import ActionSpace, Gait, moving
from lebot_rl_ros.mdp.observations import History, ObservationLayout
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.mdp.trot import TrotPolicy
from lebot_rl_ros.policy.files import Tensors, load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot, RobotState, share_path
from lebot_rl_ros.robot.state import FloatArray


class Policy(Protocol):
    """What the walker needs of a policy; :class:`PolicyRuntime` is the one that ships."""

    log_std: npt.NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Hash of the weights."""

    def act(self, observation: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Mean action (J,) for one observation."""

    def value(self, observation: FloatArray) -> float:
        """Expected return."""


@dataclass(frozen=True)
class Walk:
    """A policy together with the task that it was made for."""

    policy: Policy
    layout: ObservationLayout
    gait: Gait
    space: ActionSpace
    tensors: Tensors = field(default_factory=dict)  # the policy's, to merge adapters into


class Adapted(Protocol):
    """A policy with the adapter in it; :class:`lebot_rl_ros.control.adapters.Prepared` is one."""

    @property
    def version(self) -> int:
        """Of the adapter; 0 for the base alone and for mixtures."""

    @property
    def sha256(self) -> str:
        """Of the adapter, 64 hexadecimal digits; zeros for the base alone."""

    @property
    def runtime(self) -> Policy:
        """What acts."""


def policy_path(name: str) -> Path:
    """Folder of a policy: a path, or a name in the package's ``policies``."""
    return Path(name) if '/' in name or Path(name).is_dir() else share_path('policies', name)


def load_walk(robot: Robot, name: str) -> Walk:
    """Load a policy and check it against the robot; ``trot`` is the open-loop one.

    Raises:
        FileNotFoundError: no such policy.
        PolicyError: the files are damaged, or made for another robot; the message names both
            sides.
    """
    if name == 'trot':
        gait, space, layout = Gait(), ActionSpace(), ObservationLayout.of(robot)
        return Walk(TrotPolicy(robot, layout, gait, space), layout, gait, space)
    tensors, manifest = load_policy(policy_path(name))
    seen = manifest.observation
    layout = ObservationLayout.of(robot, tuple(seen['names']), int(seen['history']))
    gait = Gait(**manifest.gait)
    manifest.check(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_pose=tuple(robot.stand.tolist()),
        control_rate=robot.control_rate,
        observation={
            'names': layout.names,
            'widths': layout.widths,
            'scales': layout.scales,
            'history': layout.history,
        },
        action_scale=manifest.action_scale,
        gait=manifest.gait,
    )
    runtime, space = PolicyRuntime(tensors, manifest), ActionSpace(manifest.action_scale)
    return Walk(runtime, layout, gait, space, tensors)


class Walker:
    """Acts once per state; keeps the last step's row until it is known what was applied."""

    def __init__(
        self,
        robot: Robot,
        walk: Walk,
        *,
        deterministic: bool = True,
        seed: int = 0,
        exploration: float = 0.0,
        noise: ExplorationConfig | None = None,
    ) -> None:
        """Warm up, so that the first tick is as fast as the others.

        Args:
            robot: what walks.
            walk: the policy and its task.
            deterministic: without exploration act as the mean says; else sample, each step for
                itself, with the policy's own standard deviation.
            seed: of what is sampled.
            exploration: standard deviation, action units, of correlated noise, which then takes
                the place of that; the attribute may be set at any time.
            noise: what that noise is like.
        """
        self.robot, self.walk, self.deterministic = robot, walk, deterministic
        self.exploration = exploration
        joints = len(robot.joints)
        self._rng = np.random.default_rng(seed)
        self._explore = Exploration(joints, 1.0 / robot.control_rate, noise, seed)
        self._followed = self._down = False
        self._history = History(walk.layout)
        self._applied: FloatArray = np.zeros(joints)
        self._previous: FloatArray = np.zeros(joints)
        self._mean: npt.NDArray[np.float32] = np.zeros(joints, dtype=np.float32)
        self._policy, self._fade = walk.policy, Fade(walk.policy, joints)
        self._adapter_version = 0
        self._adapter_sha256 = np.zeros(32, dtype=np.uint8)
        self.row = np.zeros((), dtype=step_dtype(walk.layout.size, joints))
        self._own_std: npt.NDArray[np.float32] = np.exp(walk.policy.log_std)
        self._std = self._own_std  # of the last action
        self.row['base_sha256'] = _digest(walk.policy.sha256)
        for _ in range(10):
            walk.policy.act(np.zeros(walk.layout.size, dtype=np.float32), out=self._mean)
            walk.policy.value(np.zeros(walk.layout.size, dtype=np.float32))

    def reset(self) -> None:
        """Forget the past, as after a gap in the stream of states."""
        self._history.reset()
        self._explore(0.0, walking=False)

    def swap(self, adapted: Adapted, blend_ticks: int = 0) -> None:
        """Let another policy act from the next :meth:`act` on; the step before stays as it is.

        Args:
            adapted: warm, and no longer used by another thread.
            blend_ticks: ticks in which the mean action goes over, as :class:`Fade` says.
        """
        self._policy = adapted.runtime
        self._fade.swap(adapted.runtime, blend_ticks)
        self._adapter_version, self._adapter_sha256 = adapted.version, _digest(adapted.sha256)
        self._own_std = np.exp(adapted.runtime.log_std)

    def fell(self) -> None:
        """Hear of a fall that no state showed: explore less."""
        self._explore.fell()

    def _watch_falls(self, gravity: FloatArray) -> None:
        """A fall counts once, and only while the driver follows: who is carried does not fall."""
        down = bool(fallen(self.robot, gravity))
        if down and not self._down and self._followed:
            self._explore.fell()
        self._down = down

    @property
    def explored(self) -> float:
        """Robot time spent exploring, s."""
        return self._explore.explored

    @property
    def exploration_scale(self) -> float:
        """Share of the exploration that falls have left."""
        return self._explore.scale

    @property
    def box(self) -> float:
        """How far exploration may take the action from the mean now, action units."""
        return self._explore.box

    def applied(self, target: FloatArray, *, followed: bool = True) -> FloatArray:
        """Tell what the servos got; returns it in action units.

        Args:
            target: (J,) rad.
            followed: the driver followed the policy, and not its own safety.
        """
        self._followed = followed
        self._previous, self._applied = self._applied, self.walk.space.action(self.robot, target)
        return self._applied

    def act(self, state: RobotState, command: FloatArray) -> FloatArray:
        """Joint target (J,) rad for a state. It may be non-finite: the caller judges it.

        Args:
            state: of one robot.
            command: (2,) m/s forward and rad/s about z.
        """
        step = make_step(
            self.robot,
            self.walk.gait,
            state,
            command,
            self._applied,
            self._previous,
            feet_too=False,
        )
        self._observation = self._history(self.walk.layout.observe(self.robot, step))
        self._fade(self._observation, out=self._mean)
        action: FloatArray = self._mean
        self._std = self._own_std
        std = self.exploration  # set by others at any time: read once
        if std:
            self._watch_falls(step.gravity)
            walking = self._followed and bool(moving(command))
            self._std = np.full_like(self._mean, std * self._explore.scale)
            action = action + self._explore(std, walking=walking)
        elif not self.deterministic:
            action = action + self._std * self._rng.standard_normal(len(action), dtype=np.float32)
        self._action, self._command = action, command
        return self.walk.space.target(self.robot, action)

    def record(self, stamp: int) -> None:
        """Begin the row of the step just taken; work that can wait until the command is out."""
        row = self.row
        row['sec'], row['nanosec'] = divmod(stamp, 1_000_000_000)
        row['observation'], row['command'] = self._observation, self._command
        row['action'], row['mean'], row['std'] = self._action, self._mean, self._std
        row['adapter_version'] = self._adapter_version
        row['adapter_sha256'], row['blend'] = self._adapter_sha256, self._fade.share
        noise = (self._action - self._mean) / self._std
        row['log_prob'] = (
            -0.5 * np.square(noise).sum()
            - np.log(self._std).sum()
            - 0.5 * len(noise) * np.log(2 * np.pi)
        )
        row['value'] = self._policy.value(self._observation)

    def complete(self, next_stamp: int, applied_action: FloatArray, mode: int) -> None:
        """Finish the row: what was applied, and which state it led to."""
        self.row['next_sec'], self.row['next_nanosec'] = divmod(next_stamp, 1_000_000_000)
        self.row['applied_action'], self.row['mode'] = applied_action, mode


def _digest(sha256: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(sha256), dtype=np.uint8)
