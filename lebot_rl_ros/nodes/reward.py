"""The reward node: what each step of the policy earned, stamped as the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, make_dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Imu, JointState, PointCloud2

from lebot_rl_ros.control.walker import load_walk
from lebot_rl_ros.data.rows import reward_dtype
from lebot_rl_ros.mdp.reward_files import OTHERS, load_reward
from lebot_rl_ros.mdp.reward_join import Joined, RewardJoin
from lebot_rl_ros.mdp.rewards import TERMS, RewardConfig
from lebot_rl_ros.mdp.scoring import Episodes, Score, Scorer
from lebot_rl_ros.robot import RobotState, load_robot
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import JointOrder, is_finite, robot_state, set_stamp, to_ns
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.records import RecordMessage, read_record, record_dtype
from lebot_rl_ros.ros.spin import Stop, finish, run, spin
from lebot_rl_ros.safety.supervisor import Mode

TERMS_EVERY = 10  # steps between two messages for people
WEIGHTS = 'weights.'  # how the names of their parameters begin


@dataclass(frozen=True)
class RewardParameters:
    """Parameters of the node; weights stand beside it as ``weights.TERM``.

    Weights that are not given are those of ``reward``. They may be set while the robot walks.
    """

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    policy: str = parameter('walk', 'whose gait clock the gait term reads')
    reward: str = parameter('', "name in config/rewards, or path of such a file; '' is the task's")
    fall: float = parameter(RewardConfig.fall, 'reward of a fall, once', writable=True)
    down: float = parameter(
        RewardConfig.down, 'reward of a second from a fall until it walks again', writable=True
    )


class RewardNode(Node):
    """Joins a step with the state that it led to, exactly by stamp."""

    def __init__(self) -> None:
        """Declare and subscribe.

        Raises:
            ValueError: a weight is unknown or no number, or there is no such reward or policy.
        """
        super().__init__('reward')
        config = declare(self, RewardParameters)
        reward = self._declare_weights(load_reward(config.reward))
        self.robot = load_robot(config.robot)
        gait = load_walk(self.robot, config.policy).gait
        self._scorer = Scorer(self.robot, gait, reward)
        self._reweighted = True  # since weights were told
        self.add_on_set_parameters_callback(self._judge)
        self.add_post_set_parameters_callback(self._weigh)
        self._order = JointOrder(self.robot.joint_names)
        self._join: RewardJoin[PointCloud2, JointState, Imu] = RewardJoin(
            self.robot.control_period_ns
        )
        self._dtype: np.dtype | None = None
        self._episodes = Episodes()
        self._cadence, self._unfit, self._trouble = diagnostics.Cadence(), 0, ''
        self._record = RecordMessage(reward_dtype(self._scorer.names))
        self._publish = self.create_publisher(PointCloud2, names.REWARDS, qos.EVERY).publish
        self._publish_terms = self.create_publisher(
            DiagnosticArray, names.REWARD_TERMS, qos.OFFER
        ).publish
        self.create_subscription(Imu, names.IMU, self._on_imu, qos.EVERY)
        self.create_subscription(JointState, names.JOINT_STATES, self._on_joints, qos.EVERY)
        self.create_subscription(PointCloud2, names.STEPS, self._on_step, qos.EVERY)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Spin until stopped, and then judge the steps that are there."""
        spin(executor, stop)
        finish(executor, lambda: self._cadence.count)

    def _declare_weights(self, reward: RewardConfig) -> RewardConfig:
        """Parameters for the weights; those given at the start win over the file's."""
        given = self._parameter_overrides
        self._refuse_unknown(list(given))
        for name in OTHERS:
            if name not in given:
                self.set_parameters([Parameter(name, value=getattr(reward, name))])
        fields = [
            (
                name,
                float,
                parameter(reward.weights.get(name, 0.0), f'weight of {name}', writable=True),
            )
            for name in TERMS
        ]
        weights: Any = declare(self, make_dataclass('Weights', fields, frozen=True), WEIGHTS)
        return self._weighed({WEIGHTS + name: value for name, value in asdict(weights).items()})

    def _weighed(self, given: dict[str, float]) -> RewardConfig:
        """The weights as they are, but for those given by their parameters' names."""
        names = [*(WEIGHTS + name for name in TERMS), *OTHERS]
        now = {name: given.get(name, self.get_parameter(name).value) for name in names}
        weights = {name: now[WEIGHTS + name] for name in TERMS}
        return RewardConfig(weights, **{name: now[name] for name in OTHERS})

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        for name in names:
            if name.startswith(WEIGHTS) and name.removeprefix(WEIGHTS) not in TERMS:
                raise ValueError(
                    f'no parameter {name}; terms are {", ".join(TERMS)}, and beside them '
                    f'{" and ".join(OTHERS)}'
                )

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """All or none, between two steps; an unknown term is refused by name."""
        try:
            self._refuse_unknown([given.name for given in parameter_list])
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return super().set_parameters_atomically(parameter_list)

    def _judge(self, parameters: list[Parameter]) -> SetParametersResult:
        """Before rclpy sets parameters."""
        try:
            self._weighed({given.name: given.value for given in parameters})
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _weigh(self, parameters: list[Parameter]) -> None:
        """After it did: the executor calls this between two steps."""
        self._scorer.config = self._weighed({})
        self._reweighted = True

    def _on_imu(self, message: Imu) -> None:
        self._score(self._join.imu(to_ns(message.header.stamp), message))

    def _on_joints(self, message: JointState) -> None:
        self._score(self._join.joints(to_ns(message.header.stamp), message))

    def _on_step(self, message: PointCloud2) -> None:
        self._dtype = self._dtype or record_dtype(message)
        row = read_record(message, self._dtype)[0]
        led_to = int(row['next_sec']) * 1_000_000_000 + int(row['next_nanosec'])
        self._score(self._join.step(led_to, message))

    def _score(self, complete: list[Joined[PointCloud2, JointState, Imu]]) -> None:
        for _, message, joints, imu in complete:
            state = self._state(joints, imu)
            if state is None:
                self._unfit += 1
            else:
                self._publish_score(message, state)

    def _publish_score(self, message: PointCloud2, state: RobotState) -> None:
        row = read_record(message, self._dtype)[0]
        start = to_ns(message.header.stamp)
        score = self._scorer(
            start, state, row['command'], row['applied_action'], followed=row['mode'] == Mode.TRACK
        )
        self._cadence.tick()
        self._episodes.add(score)
        record = self._record.rows[0]
        record['sec'], record['nanosec'] = row['sec'], row['nanosec']
        record['reward'], record['terminated'], record['truncated'] = (
            score.reward,
            score.terminated,
            score.truncated,
        )
        for name, value in score.terms.items():
            record[name] = value
        self._record.stamp(start)
        self._publish(self._record.serialized())
        if self._reweighted or self._cadence.count % TERMS_EVERY == 0:
            self._tell(start, score)
            self._reweighted = False

    def _state(self, joints: JointState, imu: Imu) -> RobotState | None:
        try:
            state = robot_state(joints, self._order, imu)
            self._trouble = is_finite(state) and f'{is_finite(state)} is not finite'
        except ValueError as error:
            self._trouble = str(error)
        return None if self._trouble else state

    def _tell(self, stamp: int, score: Score) -> None:
        config = self._scorer.config
        weights = {**config.weights, 'fall': config.fall, 'down': config.down}
        array = DiagnosticArray(
            status=[
                diagnostics.status(
                    'reward', diagnostics.OK, '', self._episodes.values() | score.terms
                ),
                # With them a bag says how each reward came about; see docs/rewards_live.md.
                diagnostics.status('weights', diagnostics.OK, '', weights),
            ]
        )
        set_stamp(array.header.stamp, stamp)
        self._publish_terms(array)

    def _health(self) -> diagnostics.Health:
        values = {
            'rate_hz': self._cadence.rate(),
            'unjoined_steps': self._join.lost + self._unfit,
            **self._episodes.values(),
        }
        if self._trouble:
            return diagnostics.ERROR, f'no reward: {self._trouble}', values
        if not values['rate_hz']:
            return diagnostics.WARN, f'no {names.STEPS}', values
        return diagnostics.OK, 'running', values


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(RewardNode, args, loop=RewardNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
