"""Rewards: weights from files and while it walks, what a fall costs, and what the node says."""

import math
import signal

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import Imu, JointState, PointCloud2

from lebot_rl_ros.data.rows import step_dtype
from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.reward_files import load_reward, reward_names
from lebot_rl_ros.mdp.rewards import DEFAULT_WEIGHTS, TERMS, RewardConfig
from lebot_rl_ros.mdp.scoring import Episodes, Score, Scorer
from lebot_rl_ros.robot import RobotState, load_robot, rotations
from lebot_rl_ros.ros import qos
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.records import RecordMessage, read_record
from lebot_rl_ros.safety.supervisor import Mode
from ros_graph import fresh_domain, node_process, probe

ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns
FORWARD = np.array([0.3, 0.0])


def state(number, roll=0.0, seed=0):
    rng = np.random.default_rng([seed, number])
    return RobotState(
        number * PERIOD, ROBOT.stand + 0.1 * rng.standard_normal(8), rng.standard_normal(8),
        0.1 * rng.standard_normal(8), rotations.from_roll_pitch_yaw(np.array([roll, 0.0, 0.0])),
        0.1 * rng.standard_normal(3), np.array([0, 0, 9.81]),
    )  # fmt: skip


# What a fall costs


def scored(plan, config=None):
    """Scores of steps; ``plan``: of each, the roll (rad) it led to and whether it was followed."""
    scorer = Scorer(ROBOT, Gait(), config or RewardConfig())
    return [
        scorer(i * PERIOD, state(i + 1, roll), FORWARD, np.zeros(8), followed=followed)
        for i, (roll, followed) in enumerate(plan)
    ]


def test_a_fall_and_the_time_until_it_walks_again_are_charged():
    lying, up = [(1.5, False)] * 3, [(0.0, False)] * 2
    scores = scored([(0.0, True), (1.5, True), *lying, *up, (0.0, True), (0.0, False)])
    flags = [(s.terminated, s.truncated, s.down) for s in scores]
    gone, walks, cut = (False, True, True), (False, False, False), (False, True, False)
    assert flags == [walks, (True, False, False), *[gone] * 5, walks, cut]
    assert [s.terms['fall'] for s in scores] == [0.0, -30.0, *[0.0] * 7]
    for score in scores[2:7]:  # it earns nothing else: 1 a second at 50 Hz
        assert {k: v for k, v in score.terms.items() if v} == {'down': -0.02}
        assert score.reward == -0.02
    for score in (*scores[:2], *scores[7:]):
        assert score.terms['down'] == 0.0
        assert score.terms['alive'] == 1.5
    for score in scores:
        assert list(score.terms) == [*TERMS, 'fall', 'down']
        assert score.reward == pytest.approx(sum(score.terms.values()))


def test_a_driver_that_takes_over_without_a_fall_costs_nothing_more():
    scores = scored([(0.0, True), (0.0, False), (1.5, False), (0.0, True)])
    assert [s.truncated for s in scores] == [False, True, True, False]
    assert not any(s.down or s.terminated or s.terms['down'] or s.terms['fall'] for s in scores)


def test_the_weight_of_lying_there_is_a_setting_and_holds_a_second():
    config = RewardConfig(DEFAULT_WEIGHTS, -5.0, down=-3.0)
    scores = scored([(1.5, True)] + [(1.5, False)] * 50, config)
    assert scores[0].terms['fall'] == -5.0
    assert sum(s.reward for s in scores[1:]) == pytest.approx(-3.0)


def test_the_return_of_an_episode_has_its_fall_and_the_way_up():
    episodes, none = Episodes(), {'alive': 1.0}
    walk = Score(none, terminated=False, truncated=False)
    fall = Score({'fall': -30.0}, terminated=True, truncated=False)
    down = Score({'down': -0.5}, terminated=False, truncated=True, down=True)
    cut = Score(none, terminated=False, truncated=True)
    told = []
    for score in (walk, walk, fall, down, down, walk, walk, cut, cut):
        episodes.add(score)
        told.append((episodes.total, episodes.count, episodes.last_return, episodes.last_steps))
    totals, counts, returns, steps = zip(*told, strict=True)
    assert totals == (1.0, 2.0, -28.0, -28.5, -29.0, 1.0, 2.0, 0.0, 0.0)
    assert counts == (0, 0, 1, 1, 1, 1, 1, 2, 2)
    assert returns[2:] == (-28.0, -28.5, -29.0, -29.0, -29.0, 3.0, 3.0)
    assert steps[2:] == (3, 4, 5, 5, 5, 3, 3)
    assert episodes.falls == 1
    assert episodes.mean_reward == pytest.approx((6 * 1.0 - 30.0 - 1.0) / 9)


# Files


def test_every_shipped_reward_of_the_walk_is_read_and_those_of_others_are_not():
    names = reward_names()
    assert {'velocity_careful', 'velocity_gentle'} <= set(names)
    assert not any(name.startswith('lander') for name in names)
    for name in names:
        config = load_reward(name)
        assert config != RewardConfig()
        assert list(config.weights) == list(DEFAULT_WEIGHTS)
    gentle = load_reward('velocity_gentle')
    assert gentle.weights['torque'] == -0.05
    assert gentle.weights['gait'] == DEFAULT_WEIGHTS['gait']
    assert (gentle.fall, gentle.down) == (-30.0, -1.0)
    assert load_reward('') == RewardConfig()


def test_a_reward_of_ones_own(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('weights: {torque: 1e-2, gait: 0, fall: -5, down: -2}\n')
    wanted = RewardConfig({**DEFAULT_WEIGHTS, 'torque': 0.01, 'gait': 0.0}, -5.0, -2.0)
    assert load_reward(file) == load_reward(str(file)) == wanted
    file.write_text('about: nothing\n')
    assert load_reward(file) == RewardConfig()


@pytest.mark.parametrize('text, message', [
    ('weights: {torgue: -1}', "mine.yaml: unknown term 'torgue'; terms are track_linear_velocity"),
    ('weights: {torque: much}', "mine.yaml: torque is 'much', expected a finite number"),
    ('weights: {fall: .nan}', 'fall is nan, expected a finite number'),
    ('weights: {torque: true}', 'torque is True, expected a finite number'),
    ('weights: [torque]', r"weights is \['torque'\], expected a table of terms"),
    ('weight: {torque: 1}', "unknown key 'weight'; keys are env, about, weights"),
    ('discount: 0.9', 'discount is for training in simulation'),
    ('env: LunarLander-v3', 'is for LunarLander-v3, whose terms are others'),
    ('- torque', "is \\['torque'\\], expected a table of keys"),
    ('a: {', 'is not YAML'),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(tmp_path, text, message):
    file = tmp_path / 'mine.yaml'
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_reward(file)


def test_a_reward_that_is_none_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"unknown reward 'fast'; rewards are .*velocity_gentle"):
        load_reward('fast')
    with pytest.raises(ValueError, match=r'none\.yaml cannot be read: No such file'):
        load_reward(tmp_path / 'none.yaml')
    with pytest.raises(ValueError, match='weight of torque is inf, must be finite'):
        RewardConfig({'torque': math.inf})


# The node


class Feed:
    """Plays policy and driver to a reward node."""

    def __init__(self, listening):
        self.probe, self.number = listening, 49
        make = listening.node.create_publisher
        self.senders = [
            make(kind, topic, qos.EVERY)
            for kind, topic in (
                (JointState, 'joint_states'), (Imu, 'imu/data'), (PointCloud2, 'policy/steps')
            )
        ]  # fmt: skip
        self.rewards = listening.listen(PointCloud2, 'reward/rewards', qos.EVERY)
        self.terms = listening.listen(DiagnosticArray, 'reward/terms', qos.EVERY)
        for sender in self.senders:
            listening.until(sender.get_subscription_count, f'a listener of {sender.topic}')
        for topic in ('reward/rewards', 'reward/terms'):
            listening.until(lambda t=topic: listening.node.count_publishers(t), topic)
        listening.meet('/reward')
        self.record = RecordMessage(step_dtype(34, 8))

    def step(self, roll=0.0, mode=Mode.TRACK):
        """One step; its row of reward/rewards."""
        stamp = self.send(roll, mode)
        self.probe.until(
            lambda: self.rewards and to_ns(self.rewards[-1].header.stamp) == stamp, 'its reward'
        )
        return read_record(self.rewards[-1])[0]

    def send(self, roll=0.0, mode=Mode.TRACK):
        """Publish all of one step; its stamp in ns."""
        self.number += 1
        stamp, after = self.number * PERIOD, state(self.number + 1, roll)
        row = self.record.rows[0]
        row['sec'], row['nanosec'] = divmod(stamp, 1_000_000_000)
        row['next_sec'], row['next_nanosec'] = divmod(stamp + PERIOD, 1_000_000_000)
        row['command'], row['mode'] = FORWARD, mode
        self.record.stamp(stamp)
        joints, imu = JointState(name=list(ROBOT.joint_names)), Imu()
        joints.position, joints.velocity, joints.effort = (
            values.tolist()
            for values in (after.joint_position, after.joint_velocity, after.joint_effort)
        )
        q, w = imu.orientation, imu.angular_velocity
        q.w, q.x, q.y, q.z = after.orientation.tolist()
        w.x, w.y, w.z = after.angular_velocity.tolist()
        for message in (joints, imu):
            set_stamp(message.header.stamp, stamp + PERIOD)
        for sender, message in zip(
            self.senders, (joints, imu, self.record.serialized()), strict=True
        ):
            sender.publish(message)
        return stamp

    def put(self, service=SetParametersAtomically, **values):
        """Set parameters; the service's answers."""
        name = {SetParametersAtomically: 'set_parameters_atomically'}.get(
            service, 'set_parameters'
        )
        request = service.Request()
        request.parameters = [
            Parameter(key.replace('__', '.'), value=value).to_parameter_msg()
            for key, value in values.items()
        ]
        answer = self.probe.call(service, f'/reward/{name}', request)
        return answer.result if service is SetParametersAtomically else answer.results

    def told(self, number):
        """The weights that were told with the step of this number."""

        def of():
            return [m for m in self.terms if to_ns(m.header.stamp) == number * PERIOD]

        self.probe.until(of, f'the terms of step {number}')
        status = {status.name: status for status in of()[0].status}['weights']
        return {pair.key: float(pair.value) for pair in status.values}


def agree(rows, first, plan, config_of):
    """Whether rows are what the core computes; ``config_of``: the weights of each step."""
    scorer = Scorer(ROBOT, Gait(), config_of(0))
    assert list(rows[0].dtype.names[5:]) == scorer.names
    for i, (row, (roll, mode)) in enumerate(zip(rows, plan, strict=True)):
        number = first + i
        scorer.config = config_of(i)
        score = scorer(
            number * PERIOD, state(number + 1, roll), FORWARD, np.zeros(8),
            followed=mode == Mode.TRACK,
        )  # fmt: skip
        assert row['reward'] == pytest.approx(score.reward, rel=1e-5)
        assert (row['terminated'], row['truncated']) == (score.terminated, score.truncated)
        for name, value in score.terms.items():
            assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_who_is_stopped_with_steps_to_judge_judges_them():
    """As at the end of a run that is faster than the node."""
    domain = fresh_domain()
    with node_process(domain, 'reward', policy='trot') as process, probe(domain) as listening:
        feed = Feed(listening)
        first = feed.step()
        process.send_signal(signal.SIGSTOP)
        stamps = [feed.send() for _ in range(40)]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
        listening.until(lambda: len(feed.rewards) == 41, 'rewards of all steps')
        assert [to_ns(message.header.stamp) for message in feed.rewards[1:]] == stamps
    assert first['truncated'] == 0


def test_weights_change_between_two_steps_all_at_once_or_not_at_all():
    domain = fresh_domain()
    given = {'policy': 'trot', 'reward': 'velocity_gentle', 'weights.gait': 0.0}
    with node_process(domain, 'reward', **given) as process, probe(domain) as listening:
        feed = Feed(listening)
        plan = [(0.0, Mode.TRACK)] * 5 + [(1.5, Mode.TRACK), (1.4, Mode.RELAXED)]
        rows = [feed.step(*step) for step in plan[:2]]
        for refused, reason in (
            ({'weights__torque': math.nan, 'fall': -1.0}, 'weight of torque is nan, must be fini'),
            ({'weights__torgue': -1.0, 'fall': -1.0}, 'no parameter weights.torgue; terms are tr'),
            ({'fall': 'much'}, ''),
            ({'reward': 'velocity_careful'}, ''),  # what it starts with
        ):
            answer = feed.put(**refused)
            assert not answer.successful
            assert answer.reason.startswith(reason)
        assert feed.put(weights__torque=-0.5, down=-10.0).successful
        rows += [feed.step(*step) for step in plan[2:4]]
        alone = feed.put(SetParameters, weights__gait=2.0, weights__torgue=1.0, fall=-7.0)
        assert [answer.successful for answer in alone] == [True, False, True]
        rows += [feed.step(*step) for step in plan[4:]]
        start = load_reward('velocity_gentle')
        base = {**start.weights, 'gait': 0.0}
        changed = {**base, 'torque': -0.5}
        weights = [
            *[RewardConfig(base)] * 2,
            *[RewardConfig(changed, down=-10.0)] * 2,
            *[RewardConfig({**changed, 'gait': 2.0}, -7.0, -10.0)] * 3,
        ]
        agree(rows, 50, plan, weights.__getitem__)
        assert rows[0]['gait'] == 0.0 < rows[4]['gait']
        assert rows[5]['fall'] == -7.0
        assert rows[6]['reward'] == rows[6]['down'] == pytest.approx(-0.2)
        for step in (0, 2, 4):  # the first under new weights tells them
            wanted, told = weights[step], feed.told(50 + step)
            assert told == {**wanted.weights, 'fall': wanted.fall, 'down': wanted.down}
        assert process.poll() is None


@pytest.mark.parametrize('given, message', [
    ({'weights.torgue': 1.0}, 'no parameter weights.torgue; terms are track_linear_velocity'),
    ({'weights.torque': '.nan'}, 'weight of torque is nan, must be finite'),
    ({'weights.torque': 'much'}, "parameter weights.torque of reward is 'much', must be a float"),
    ({'reward': 'fast'}, "unknown reward 'fast'; rewards are"),
])  # fmt: skip
def test_a_node_that_cannot_score_refuses_to_start(given, message):
    with node_process(fresh_domain(), 'reward', policy='trot', **given) as process:
        assert process.wait(60) == 2
        assert message in process.stdout.read()
