"""The policy node: a joint_states message comes, joint_commands goes."""

from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, PointCloud2

from lebot_rl_ros.control.adapters import AdapterSource, Prepared, default_store
from lebot_rl_ros.control.exploration import ExplorationConfig, check
from lebot_rl_ros.control.pacing import CMD_VEL_SLACK
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.nodes.policy_parameters import PolicyParameters
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.adapters import AdapterSwap
from lebot_rl_ros.ros.convert import JointMessage, is_finite, robot_state
from lebot_rl_ros.ros.parameters import declare
from lebot_rl_ros.ros.realtime import ask_for_realtime, share_interpreter, work_beside
from lebot_rl_ros.ros.records import RecordMessage
from lebot_rl_ros.ros.spin import run
from lebot_rl_ros.ros.tick_inputs import TickInputs
from lebot_rl_ros.ros.trial_watch import UNWATCHED, TrialWatch
from lebot_rl_ros.safety.supervisor import Mode

GAP = 0.5  # s without a state, or backwards: what came before is forgotten
STALE_IMU = 0.1  # s


class PolicyNode(LifecycleNode):
    """Runs a policy: the base with an adapter. Callbacks cache; :meth:`_try_tick` acts."""

    def __init__(self) -> None:
        """Declare; with ``autostart`` also configure and activate.

        Raises:
            ValueError: the policy cannot drive this robot; nothing has moved.
        """
        super().__init__('policy')
        self.config = declare(self, PolicyParameters)
        self._active = False
        self._error = ''
        self._inputs: Any = None  # TickInputs, once configured
        self._exploration = self.config.exploration
        self._adapters = AdapterSwap[Prepared](
            self,
            now=lambda: max(self._inputs.last if self._inputs else 0, 0) / 1e9,
            begin=lambda: work_beside(self.config.realtime_priority),
        )
        # The one added last is asked first: what it refuses must not have swapped an adapter.
        self.add_on_set_parameters_callback(_judge_exploration)
        self.add_post_set_parameters_callback(self._explore)
        self._always = {*self.publishers, *self.subscriptions, *self.timers}
        if self.config.autostart:
            self.trigger_configure()
            if self._error:
                raise ValueError(self._error)
            self.trigger_activate()
        share_interpreter()  # with the thread that prepares adapters
        self._scheduling = ask_for_realtime(self.config.realtime_priority)

    def destroy_node(self) -> None:
        """Answer who still waits for an adapter, then leave."""
        self._adapters.close()
        super().destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy and check it against the robot; refuse before anything moves."""
        config = self.config
        try:
            self.robot = load_robot(config.robot)
            walk = load_walk(self.robot, config.policy)
            self._walker = Walker(
                self.robot,
                walk,
                deterministic=config.deterministic,
                seed=config.seed,
                exploration=check('exploration', self._exploration),
                noise=ExplorationConfig(
                    time=config.exploration_time,
                    box=config.exploration_box,
                    growth=config.exploration_growth,
                    after_fall=config.exploration_after_fall,
                    recovery=config.exploration_recovery,
                ),
            )
            source = AdapterSource(walk, default_store(config.adapter_store))
            self._adapters.begin(source, self._walker.swap)
        except (ValueError, OSError) as error:
            self._error = str(error)
            self.get_logger().fatal(self._error)
            return TransitionCallbackReturn.FAILURE
        self._error = ''
        self._applied_action: FloatArray = np.zeros(len(self.robot.joints))
        self._applied_mode = Mode.RELAXED
        self._pending = False
        self._hold_target: FloatArray | None = None
        self._trouble = ''
        self.ticks = self.held = self.unrecorded = self.resent = 0
        self._cadence = diagnostics.Cadence()
        self._message = JointMessage(self.robot.joint_names)
        self._steps = RecordMessage(self._walker.row.dtype)
        self._publish_command = self.create_publisher(
            JointState, names.JOINT_COMMANDS, qos.OFFER
        ).publish
        self._step_publisher = self.create_publisher(PointCloud2, names.STEPS, qos.EVERY)
        self._publish_step = self._step_publisher.publish
        self._inputs = TickInputs(
            self,
            self.robot.joint_names,
            lockstep=config.lockstep,
            stamped=config.stamped_cmd_vel,
            timeout=config.command_timeout,
            slack=CMD_VEL_SLACK if config.lockstep_cmd_vel else np.inf,
            wanted=self._wanted,
            act=self._tick,
            applied=self._on_applied,
        )
        self._trial = TrialWatch(
            self,
            round(config.trial_patience * self.robot.control_rate),
            lambda label: self._adapters.take_back(label, UNWATCHED),
        )
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self.get_logger().info(
            f'policy {config.policy} ({walk.policy.sha256[:12]}) fits {self.robot.name}; '
            f'{self._adapters.acting} acts'
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act; the driver stands the robot up, cmd_vel makes it walk."""
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent; the driver holds, then crouches."""
        self._active = self._pending = self._inputs.waiting = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the topics; configuring joins them anew."""
        self._active = False
        self._adapters.end()
        for publisher in {*self.publishers} - self._always:
            self.destroy_publisher(publisher)
        for subscription in {*self.subscriptions} - self._always:
            self.destroy_subscription(subscription)
        for timer in {*self.timers} - self._always:
            self.destroy_timer(timer)
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent for good; the process goes on until it is interrupted."""
        self._adapters.end('the policy is shut down')
        self.on_cleanup(state)
        return super().on_shutdown(state)

    def _explore(self, parameters: list[Parameter]) -> None:
        """Parameters were set, maybe in the thread of the adapters: one number, for all ticks."""
        for given in parameters:
            if given.name == 'exploration':
                self._exploration = given.value

    def _on_applied(self, target: FloatArray, mode: str) -> None:
        self._hold_target = target
        self._applied_mode = Mode.__members__.get(mode.upper(), Mode.RELAXED)
        self._applied_action = self._walker.applied(
            target, followed=self._applied_mode == Mode.TRACK
        )

    def _wanted(self, stamp: int) -> bool:
        """Whether to act on the state of this stamp."""
        last = self._inputs.last
        if not self._active or (last < 0 and self._unheard()):
            return False
        if stamp == last:
            self.resent += 1  # the sender has not had the answer: give the same one
            self._publish_command(self._message.serialized())
        return stamp != last

    def _unheard(self) -> bool:
        """Whether the first step would be lost, as those who record it do not listen yet."""
        return self._step_publisher.get_subscription_count() < self.config.wait_for_listeners

    def _tick(self, last: int, stamp: int) -> None:
        """Act on what is there; the step before is complete and goes out."""
        self.ticks += 1
        self._cadence.tick()
        command = self._inputs.command(stamp)
        jump = last >= 0 and not 0 < stamp - last <= GAP * 1e9
        if jump:
            self._walker.reset()
            self._pending = False
        trouble = f'the clock jumped by {(stamp - last) / 1e9:.3f} s' if jump else ''
        if trouble or not self._act(stamp, command):
            self._hold(stamp, trouble or self._trouble)
            return
        if self._pending:
            if self._inputs.applied_ns != last:
                self.unrecorded += 1
            else:
                self._walker.complete(stamp, self._applied_action, self._applied_mode)
                self._steps.rows[0] = self._walker.row
                self._steps.stamp(last)
                self._publish_step(self._steps.serialized())
                self._trial.acted(self._adapters.label)
        self._walker.record(stamp)
        self._pending = True

    def _act(self, stamp: int, command: FloatArray) -> bool:
        """Infer and publish; False, the reason in ``_trouble``, if input or output is unfit."""
        inputs = self._inputs
        try:
            state = robot_state(inputs.joints, inputs.order, inputs.imu)
        except ValueError as error:
            self._trouble = f'joint_states: {error}'
            return False
        broken = is_finite(state)
        if broken:
            self._trouble = f'{broken} is not finite'
            return False
        if stamp - inputs.imu_ns > STALE_IMU * 1e9:
            self._trouble = f'imu/data is {(stamp - inputs.imu_ns) / 1e9:.2f} s old'
            return False
        self._walker.exploration = self._exploration
        target = self._walker.act(state, command)
        if not np.isfinite(target).all():
            self._trouble = 'the policy gave an action that is not finite'
            return False
        self._trouble = ''
        self._send(stamp, target)
        self._adapters.acted()
        return True

    def _hold(self, stamp: int, reason: str) -> None:
        """Command what was applied last, and say why."""
        self.held += 1
        self._pending = False
        self._trouble = reason
        self.get_logger().error(f'holding: {reason}', throttle_duration_sec=1.0)
        if self._hold_target is not None:
            self._send(stamp, self._hold_target)

    def _send(self, stamp: int, target: FloatArray) -> None:
        self._message.stamp(stamp)
        self._message.position[:] = target
        self._publish_command(self._message.serialized())

    def _health(self) -> diagnostics.Health:
        inputs = self._inputs
        age = inputs.command.age
        values = {
            'rate_hz': self._cadence.rate(),
            'ticks': self.ticks,
            'held': self.held,
            'unrecorded_steps': self.unrecorded,
            'imu_age_s': round((inputs.last - inputs.imu_ns) / 1e9, 4) if inputs.imu else 'never',
            'cmd_vel_age_s': round(age, 4) if age < 1e9 else 'never',
            'command': inputs.command.newest.tolist(),
            'policy': self.config.policy,
            'exploration': self._exploration,
            'exploration_scale': round(self._walker.exploration_scale, 4),
            'exploration_box': round(self._walker.box, 4),
            'explored_s': round(self._walker.explored, 2),
            'scheduling': self._scheduling,
            **self._adapters.values(),
        }
        if not self._active:
            return diagnostics.WARN, 'inactive', values
        if self._trouble:
            return diagnostics.ERROR, f'holding: {self._trouble}', values
        if not values['rate_hz']:
            return diagnostics.WARN, f'no {inputs.missing}', values
        standing = inputs.command.standing
        return diagnostics.OK, 'standing: no cmd_vel' if standing else 'walking', values


def _judge_exploration(parameters: list[Parameter]) -> SetParametersResult:
    try:
        for given in parameters:
            if given.name == 'exploration' and isinstance(given.value, float):
                check('exploration', given.value)
    except ValueError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(PolicyNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
