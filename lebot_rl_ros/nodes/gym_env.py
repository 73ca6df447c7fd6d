"""LeBotROS-v0: the live graph as a Gymnasium environment; it takes the policy node's part."""

import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.mdp.observations import LIMIT
from lebot_rl_ros.nodes.gym_checks import checked_action, pinned_command
from lebot_rl_ros.nodes.gym_config import RosEnvConfig
from lebot_rl_ros.nodes.gym_reset import TRACK, Riser
from lebot_rl_ros.nodes.gym_stack import OwnStack, driver_stack
from lebot_rl_ros.nodes.gym_task import LiveTask
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.driver_link import DriverLink, Seen
from lebot_rl_ros.ros.driver_search import Driver, find_driver, refuse_conflicts
from lebot_rl_ros.ros.driver_services import GraphError

Array = npt.NDArray[Any]
COMMANDS = ('drawn', 'topic')
LOOK_EVERY = 10  # steps between two looks at who else commands


class LeBotROSEnv(gymnasium.Env[Array, Array]):
    """One robot behind its topics, simulated or real.

    Observation, action and reward are those of the shipped policy and of the reward node. A fall
    terminates; time-out, a gap between states, silence, or the driver's safety truncates, and
    ``info['ended']`` says in words what it was. Nothing is started or joined before the first
    reset.
    """

    metadata = {'render_modes': []}  # noqa: RUF012

    def __init__(
        self,
        robot: str = 'lebot',
        config: RosEnvConfig | None = None,
        *,
        policy: str = 'walk',
        commands: str = 'drawn',
        attach: bool = False,
        namespace: str = '',
        domain: int | None = None,
        backend: str = 'mujoco',
        real_time_factor: float = 0.0,
        lockstep: bool = True,
        stack: Mapping[str, object] | None = None,
    ) -> None:
        """Check all that can be checked without a graph.

        Args:
            robot: name in config/robots, or path of a table.
            config: commands, episodes, rewards, patience.
            policy: whose observation, gait clock and action scale these are: name or path.
            commands: 'drawn' here and told on ``cmd_vel``, or taken from that 'topic'.
            attach: to a driver that runs, instead of starting a simulated robot.
            namespace: of the driver to attach to.
            domain: ROS domain; without it the environment variable's, or 0.
            backend: of the own robot: mujoco, or wire (real drivers, emulated devices).
            real_time_factor: of the own robot; 0 is as fast as it goes.
            lockstep: the own robot waits for every action.
            stack: more arguments of ``lebot walk`` for the own robot, as faults or randomise.

        Raises:
            ValueError: an argument that is none of its choices, or means nothing here.
            FileNotFoundError: no such robot or policy.
        """
        if commands not in COMMANDS:
            raise ValueError(f'commands is {commands!r}; choices are {", ".join(COMMANDS)}')
        if namespace and not attach:
            raise ValueError(
                f'namespace is {namespace!r}, but the environment starts a robot in a namespace '
                'of its own; give attach=True to join one that runs'
            )
        self.robot, self.config = load_robot(robot), config or RosEnvConfig()
        self.task = task = LiveTask(self.robot, policy, self.config)
        self._drawn, self._attach = commands == 'drawn', attach
        self._namespace, self._domain = namespace, domain
        self._arguments: dict[str, object] = {}
        if not attach:
            self._arguments = {
                'robot': robot,
                'backend': backend,
                'real_time_factor': real_time_factor,
                'lockstep': lockstep,
                **(stack or {}),
            }
            driver_stack(self._arguments)
        self.observation_space = gymnasium.spaces.Box(
            -LIMIT, LIMIT, (task.layout.size,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.robot.joints),), np.float32)
        self._finish: Callable[[], Any] = bool  # nothing to end yet
        self._own: OwnStack | None = None
        self._link: DriverLink | None = None
        self.driver: Driver | None = None
        self._seen: Seen | None = None

    @property
    def stamp(self) -> int:
        """Of the state that the newest observation shows, ns: the key of the step to come."""
        return -1 if self._seen is None else self._seen.stamp

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that the environment has started."""
        return [] if self._own is None else self._own.pids

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode on a robot that stands: observation (O,), and the command in the info.

        Args:
            seed: of the draws made here: commands, and in lockstep the phase of the gait.
            options: ``{'command': (vx, wz)}`` asks for this speed (m/s) and yaw rate (rad/s) for
                the whole episode.

        Raises:
            ValueError: no driver, two of them, another who commands, a robot that does not come
                to stand, or an option that is none; the message says what helps.
        """
        super().reset(seed=seed)
        pinned = pinned_command(options, drawn=self._drawn)
        link = self._link or self._connect()
        if self._own and self._own.failed():
            failed = self._own.failed()
            self.close()
            raise GraphError(f'the robot has ended: {failed}; the next reset starts another')
        refuse_conflicts(link)
        self._commanders = link.commanders()
        self._seen = self._rise(int(self.np_random.integers(self._rise.phases)))
        self.task.begin(self._seen, pinned)
        observation = self._observe(self._seen)
        return observation, {'command': self.task.command.copy()}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Answer the newest state with an action (J,), policy units, and wait for the next one.

        Raises:
            ValueError: the action is not finite or of another shape, or somebody else commands
                the robot too.
        """
        link, before = self._link, self._seen
        if link is None or before is None:
            raise gymnasium.error.ResetNeeded('LeBotROS-v0: call reset() before step()')
        task, age = self.task, self.task.age
        target = task.target(checked_action(action, self.robot.joint_names, age))
        if age % LOOK_EVERY == 0 and link.commanders() > self._commanders:
            refuse_conflicts(link)
        link.drain()
        link.send(before.stamp, target)
        # Where time does not wait, states may have gone by: the gap to the next cuts the episode.
        after = max(before.stamp, link.stamp)
        following = link.wait(after, self.config.patience)
        if following is None:
            return self._silence(before, link.lacking(after))
        self._seen = following
        score, ended = task.score(before, following)
        info: dict[str, Any] = {'reward_components': dict(score.terms)}
        if ended:
            info['ended'] = ended if following.mode == TRACK else f'{ended}{self._word()}'
        observation = self._observe(following)
        info['command'] = task.command.copy()
        truncated = bool(ended) and not score.terminated
        return observation, score.reward, score.terminated, truncated, info

    def close(self) -> None:
        """Leave the graph; end what was started."""
        self._own = self._link = self._seen = self.driver = None
        self._finish()

    def _connect(self) -> DriverLink:
        """Start or find a driver."""
        ends = ExitStack()
        # Also if nobody closes the environment: DDS leaves shared memory, processes a folder.
        self._finish = weakref.finalize(self, ends.close)
        try:
            if not self._attach:
                self._own = OwnStack(self._arguments, self._domain)
                ends.callback(self._own.close)
            self._link = link = DriverLink(
                self.robot,
                self._own.namespace if self._own else self._namespace,
                self._domain,
                follow_cmd_vel=not self._drawn,
            )
            ends.callback(link.close)
            self.driver = find_driver(
                link,
                self.config.start if self._own else self.config.search,
                alone=self._own is not None,
                failed=self._own.failed if self._own else str,
            )
        except BaseException:
            self.close()
            raise
        self._rise = Riser(link, self.driver, self.config, self.task.gait)
        return link

    def _observe(self, seen: Seen) -> Array:
        """What the policy would see now, under the command that holds from here on."""
        link, task = self._link, self.task
        assert link is not None
        if link.velocity is None:
            task.draw(self.np_random)
            link.tell(seen.stamp, task.command)
        else:
            task.command = np.array(link.velocity(seen.stamp))
        self._observation = task.observe(seen)
        return self._observation.copy()

    def _silence(
        self, before: Seen, lacking: str
    ) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """The step of which nothing is known: no reward, and the last observation once more."""
        failed = self._own.failed() if self._own else ''
        words = f'no {lacking} for {self.config.patience:g} s after {before.stamp / 1e9:.2f} s'
        info: dict[str, Any] = {
            'reward_components': dict.fromkeys(self.task.terms, 0.0),
            'ended': f'silence: {words}{failed and "; "}{failed}',
            'command': self.task.command.copy(),
        }
        return self._observation.copy(), 0.0, False, True, info

    def _word(self) -> str:
        """What the driver says of itself, to be added to what it did."""
        assert self.driver is not None
        assert self._link is not None
        message = self._link.said.get(self.driver.path, {}).get('message', '')
        return f', {message}' if message else ''
