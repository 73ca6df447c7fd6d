"""The learner node: steps and rewards come, adapters that passed the gate go to the policy."""

import os
import time
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.control.answering import Answering, Pairs
from lebot_rl_ros.learning.online.session import Swap
from lebot_rl_ros.learning.online.threads import use_threads
from lebot_rl_ros.nodes.learner_health import judged
from lebot_rl_ros.nodes.learning_start import make_run
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import diagnostics, names
from lebot_rl_ros.ros.learner_topics import LearnerInput, LearnerTopics
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.ros.swap_client import Meeting, SwapClient

LOOK = 0.05  # s of wall time between two looks at what no message tells
FAREWELL = 1.0  # s at the end for the policy to go back to what was accepted


@dataclass(frozen=True)
class LearnerParameters:
    """Parameters of the node; thresholds stand beside it, ``gate.NAME`` and ``probation.NAME``."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    policy: str = parameter('walk', 'the base: name in policies, or path of a folder')
    adapter: str = parameter('recover', 'name of the adapter that is trained')
    fresh: bool = parameter(False, 'begin with the base, not with the newest accepted version')
    adapter_store: str = parameter('', "folder of adapters; '' is this user's")
    learner: str = parameter('td3', 'td3, ppo, actor_critic or streaming_actor_critic')
    settings: str = parameter('', 'of the learner, NAME=VALUE separated by spaces')
    what: str = parameter('lora', 'what is trained: lora, bias, last_layer or all')
    rank: int = parameter(4, 'of lora', range=(1, 128))
    seed: int = parameter(0, 'of every random draw')
    bags: str = parameter('', 'folders of bags to learn from, too, separated by spaces')
    enabled: bool = parameter(True, 'learn from the start; the service learner/enable changes it')
    lockstep: bool = parameter(False, 'answer every state on learner/progress')
    patience: float = parameter(3.0, 's of wall time to wait for the step that ended at a state')
    offer_every: int = parameter(250, 'steps between two versions that are offered to the gate')
    folder: str = parameter('', "of checkpoints and curves; '' is one of this user")
    run: str = parameter('', 'a checkpoint of another run is not gone on from')
    resume: bool = parameter(False, 'go on from a checkpoint whatever run it is of')
    checkpoint_every: float = parameter(5.0, 's of wall time between two checkpoints')
    statistics_every: int = parameter(50, 'steps between two words on learner/statistics')
    tensorboard: bool = parameter(True, 'write the statistics as TensorBoard files, too')
    nice: int = parameter(10, 'added to the niceness of the process', range=(0, 19))
    threads: int = parameter(1, 'that the learning may use', range=(1, 64))


class LearnerNode(Node):
    """Hands rows to a session and its versions to the policy; all in one thread."""

    def __init__(self) -> None:
        """Build the session or go on from its checkpoint; then join the graph.

        Raises:
            ValueError: a parameter that cannot be; the message has the choices.
            OSError: the folder of the run cannot be made.
        """
        super().__init__('learner')
        self.config = config = declare(self, LearnerParameters)
        self._nice = os.nice(config.nice)
        use_threads(config.threads)
        self._period = 1.0 / load_robot(config.robot).control_rate
        self._answering, self._pairs = Answering(config.patience), Pairs()
        self.run = make_run(self, config)
        self.enabled, self.ready, self._ending = config.enabled, False, False
        self._swap: Swap | None = None  # the session's, on its way
        self._end: int | None = None  # state to answer once no swap is on its way
        self._due: int | None = None  # state up to which there is something to work on
        self._taken = 0  # messages
        self.foreign = ''  # hash of another base whose steps come
        self._worked = self.load = 0.0  # s of work; the same for each second of the robot
        self._told = self.run.rows
        self._cadence = diagnostics.Cadence()
        self._topics = LearnerTopics(self)
        self.input = LearnerInput(self, self._on_steps, self._on_rewards)
        if config.lockstep:
            self.input.states(self._on_state)
        self.create_service(SetBool, names.ENABLE_LEARNER, self._on_enable)
        self.create_service(Trigger, names.SAVE_LEARNER, self._on_save)
        self.client = SwapClient(self, config.adapter)
        self.client.wanted = self.run.acting if self.enabled else self.run.accepted
        self._meeting = Meeting(self, ('policy', 'reward'))
        self.create_timer(LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self.get_logger().info(
            f'{config.learner} on {config.what} of {config.policy}: {config.adapter} '
            f'{self.run.origin}; {self.client.wanted or "the base"} shall act'
        )

    def serve(self, executor: Executor, stop: Stop) -> None:
        """Spin until stopped; then leave what was accepted acting, and the last checkpoint."""
        while not stop:
            before = self._taken
            executor.spin_once(timeout_sec=0.1 if self._due is None else 0.0)
            # Where time does not wait, all that has come is taken before any of it is worked on:
            # a version on trial is judged by the newest steps, however slow the learning is.
            if self._due is not None and self._taken == before:
                due, self._due = self._due, None
                self._work(due)
        self._ending = True
        end = time.monotonic() + FAREWELL
        client, accepted = self.client, self.run.accepted
        while time.monotonic() < end and client.wanted != accepted and not client.other:
            executor.spin_once(timeout_sec=0.05)
            # Where all ends, the policy does, too, and need not be asked.
            if not client.busy and time.monotonic() > end - FAREWELL / 2:
                if not client.there:
                    break
                client.request(accepted, self._restored)
        trouble = self.run.close()
        if trouble:
            self.get_logger().error(trouble)

    def _on_state(self, stamp: int) -> None:
        self._answering.heard(stamp)
        self._answer()

    def _on_steps(self, rows: Any) -> None:
        self._taken += 1
        if self._learns:
            self.run.session.steps(rows)
        for row in rows:
            base = row['base_sha256'].tobytes().hex()
            self.foreign = '' if base == self.run.base_sha256 else base
            end = int(row['next_sec']) * 1_000_000_000 + int(row['next_nanosec'])
            self._complete(self._pairs.step(_stamp(row), end))

    def _on_rewards(self, rows: Any) -> None:
        self._taken += 1
        if self._learns:
            self.run.session.rewards(rows)
        for row in rows:
            self._complete(self._pairs.reward(_stamp(row)))

    def _complete(self, end: int | None) -> None:
        """A step has its reward, too: learn, and answer the state ``end`` that it led to."""
        if end is None:
            return
        self._cadence.tick()
        self.run.rows += self._learns
        if not self.config.lockstep:
            self._due = end
            return
        self._work(end)
        if self.client.busy:
            self._end = end  # a swap falls between two known ticks
        else:
            self._finish(end)

    def _work(self, end: int) -> None:
        """Let the session learn and judge, and hand on what it wants."""
        if not self._learns or self.client.busy:
            return
        begun = time.perf_counter()
        self._swap = swap = self.run.work()
        self._tell_verdicts()
        acting = self.run.acting if swap is None else swap.label
        self._topics.trial(end, '' if acting == self.run.accepted else acting)
        if swap is not None:
            self.client.request(swap.label, self._swapped)
        else:
            self.run.write_if_due()
        self._worked += time.perf_counter() - begun
        steps = self.run.rows - self._told
        if steps >= self.config.statistics_every:
            self.load, self._worked = self._worked / (steps * self._period), 0.0
            self._told = self.run.rows
            values = self.run.session.statistics() | {'load': self.load}
            self.run.write_curves(values)
            self._topics.statistics(end, values)

    def _swapped(self, successful: bool, reason: str) -> None:
        """The policy has answered what the session asked for."""
        swap, self._swap = self._swap, None
        if swap is not None:
            self.run.session.swapped(swap, successful, reason)
            self._tell_verdicts()
            if not successful:
                self.get_logger().warning(f'{swap.label or "the base"} does not act: {reason}')
        self._released()

    def _restored(self, successful: bool, reason: str) -> None:
        """The policy has answered what this node asked for, so that the session goes on."""
        if not successful and not self.client.lost:
            self.client.other = f'{self.client.said or "the base alone"} acts, as {reason}'
        self._released()

    def _released(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            self._finish(end)

    def _finish(self, end: int) -> None:
        self._answering.worked(end)
        self._answer()

    def _answer(self) -> None:
        """Let a simulation in lockstep go on, if this state is done."""
        if self.config.lockstep and self.ready and self._end is None:
            stamp = self._answering.answer()
            if stamp is not None:
                self._topics.progress(stamp)

    def _look(self) -> None:
        """What no message tells: who has come, what was lost, what is late."""
        if not self.ready:
            met = not self._meeting.missing() and self.client.said is not None
            self.ready = met and not self.client.lost and not self.client.busy
        if self.client.lost and not self.client.busy and not self._ending:
            self.client.request(self.client.wanted, self._restored)
        self._answer()
        self._topics.repeat()

    @property
    def _learns(self) -> bool:
        """Whether steps are learned from: those of another's adapter are not."""
        return self.enabled and not self.client.other

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Learn or not; what nobody has accepted does not act while nobody learns."""
        self.enabled, self.client.other = request.data, ''
        self.client.wanted = self.run.acting if request.data else self.run.accepted
        self.client.lost = self.client.said != self.client.wanted
        response.success = True
        acting = self.client.wanted or 'the base'
        response.message = f'learning, with {acting}' if request.data else f'{acting} stays'
        self.get_logger().info(response.message)
        return response

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = self.run.save(), True
        except OSError as error:
            response.message = f'{self.run.checkpoint.path}: {error.strerror or error}'
        return response

    def _tell_verdicts(self) -> None:
        events = self.run.session.events
        while events:
            self._topics.verdict(self.run.told(events.popleft()))
            self.get_logger().info(self.run.last_verdict)

    def _health(self) -> diagnostics.Health:
        rate = self._cadence.rate()
        values = {
            'rate_hz': rate,
            'rows': self.run.rows,
            'learner': self.config.learner,
            **self.run.values(),
            'load': round(self.load, 3),
            'unanswered_states': self._answering.blind,
            'nice': self._nice,
            'threads': self.config.threads,
        }
        missing = [] if self.ready else self._meeting.missing()
        level, message = judged(self, missing, rate)
        return level, message, values


def _stamp(row: Any) -> int:
    return int(row['sec']) * 1_000_000_000 + int(row['nanosec'])


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(LearnerNode, args, loop=LearnerNode.serve)


if __name__ == '__main__':
    raise SystemExit(main())
