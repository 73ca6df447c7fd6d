"""Rewards from bags: those of a real walk bit for bit, and those of made-up ones by hand."""

import json

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Imu, JointState, PointCloud2

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.control.recorded_robot import recorded_robot, recorded_walk
from lebot_rl_ros.control.recorded_weights import recorded_weights, reweighted
from lebot_rl_ros.control.rescored_bag import matched, stamps, write_rescored
from lebot_rl_ros.control.rescoring import rescore
from lebot_rl_ros.control.reward_messages import RewardMessage, terms_message
from lebot_rl_ros.control.walker import load_walk
from lebot_rl_ros.data.bag.lineage import lineage
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.mdp.reward_files import load_reward
from lebot_rl_ros.mdp.reward_join import KEEP, RewardJoin
from lebot_rl_ros.mdp.rewards import DEFAULT_WEIGHTS, TERMS, RewardConfig
from lebot_rl_ros.mdp.scoring import Scorer
from lebot_rl_ros.robot import RobotState, load_robot, rotations, share_path
from lebot_rl_ros.ros.convert import set_stamp
from lebot_rl_ros.ros.records import RecordMessage, read_record
from recorded_walk import recorded_walk as record

ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns
GAIT = load_walk(ROBOT, 'walk').gait
T0 = 1_700_000_000_000_000_000
NAMES = [*TERMS, 'fall', 'down']
POINTS, JOINTS, IMU = (f'sensor_msgs/msg/{n}' for n in ('PointCloud2', 'JointState', 'Imu'))
DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'


# The join


def test_a_step_is_joined_with_the_state_it_led_to_whatever_comes_last():
    for order in ('sji', 'sij', 'jsi', 'jis', 'isj', 'ijs'):
        join = RewardJoin(20)
        give = {
            's': lambda join=join: join.step(40, 'step'),
            'j': lambda join=join: join.joints(40, 'joints'),
            'i': lambda join=join: join.imu(40, 'imu'),
        }
        out = [give[letter]() for letter in order]
        assert out == [[], [], [(40, 'step', 'joints', 'imu')]], order
        assert join.joints(40, 'again') == []


def test_on_a_robot_the_newest_sample_before_counts_once_a_later_one_is_there():
    join = RewardJoin(20)
    for stamp in (24, 29, 34, 39):
        assert join.imu(stamp, stamp) == []
    assert join.joints(40, 'joints') == join.step(40, 'step') == []
    assert join.imu(44, 44) == [(40, 'step', 'joints', 39)]
    join.joints(80, 'joints')
    join.step(80, 'step')
    assert join.imu(84, 84) == [], 'the one before, of 44, is older than a period'


def test_steps_whose_state_never_comes_are_counted_and_forgotten():
    join = RewardJoin(20)
    for number in range(KEEP + 3):
        assert join.step(number * 20, number) == []
    assert join.lost == 3
    join.imu(40, 'imu')
    assert join.joints(40, 'joints') == []
    join.imu(60, 'imu')
    assert join.joints(60, 'joints') == [(60, 3, 'joints', 'imu')]


# A made-up bag, scored by hand


def state(number, roll=0.0):
    rng = np.random.default_rng(number)
    return RobotState(
        number * PERIOD, ROBOT.stand + 0.1 * rng.standard_normal(8), rng.standard_normal(8),
        0.1 * rng.standard_normal(8), rotations.from_roll_pitch_yaw(np.array([roll, 0.0, 0.0])),
        0.1 * rng.standard_normal(3), np.array([0, 0, 9.81]),
    )  # fmt: skip


ROLLS = [0.0, 0.0, 0.1, 1.5, 1.5, 0.0, 0.0, 0.0, 0.2, 0.0]  # that each step led to
FOLLOWED = [True, True, True, True, False, False, True, True, False, True]


class Made:
    """A bag of ten steps with a fall, joints in another order, and an IMU ahead of the joints."""

    def __init__(
        self, folder, *, changes=None, namespace='', without=(), unpaid=(), late=0, reward=True
    ):
        self.states = [state(n + 1, roll) for n, roll in enumerate(ROLLS)]
        rng = np.random.default_rng(7)
        self.steps = np.zeros(len(ROLLS), step_dtype(4, 8))
        self.steps['applied_action'] = rng.standard_normal((len(ROLLS), 8))
        self.steps['command'], self.steps['mode'] = (0.3, 0.1), np.where(FOLLOWED, 2, 4)
        for n in range(len(ROLLS)):
            self.steps[n]['sec'], self.steps[n]['nanosec'] = divmod(n * PERIOD, 10**9)
            ends = divmod((n + 1) * PERIOD, 10**9)
            self.steps[n]['next_sec'], self.steps[n]['next_nanosec'] = ends
        self.changes = changes or {0: RewardConfig()}
        self.rows = self._by_hand()
        self._write(folder, namespace, without, unpaid, late, reward)
        self.path = folder

    def _by_hand(self):
        """What the scorer of the node gives, step by step."""
        scorer = Scorer(ROBOT, GAIT, next(iter(self.changes.values())))
        rows = np.zeros(len(ROLLS), reward_dtype(NAMES))
        for n, row in enumerate(rows):
            scorer.config = self.changes.get(n * PERIOD, scorer.config)
            step = self.steps[n]
            score = scorer(
                n * PERIOD, self.states[n], step['command'], step['applied_action'],
                followed=FOLLOWED[n],
            )  # fmt: skip
            row['sec'], row['nanosec'] = step['sec'], step['nanosec']
            row['reward'], row['terminated'] = score.reward, score.terminated
            row['truncated'] = score.truncated
            for name, value in score.terms.items():
                row[name] = value
        return rows

    def _write(self, folder, namespace, without, unpaid, late, reward):
        steps, rewards = RecordMessage(self.steps.dtype), RecordMessage(self.rows.dtype)
        kinds = {'policy/steps': POINTS, 'joint_states': JOINTS, 'imu/data': IMU}
        if reward:
            kinds |= {'reward/rewards': POINTS, 'reward/terms': DIAGNOSTICS}
        with BagWriter(folder) as writer:
            for name, kind in kinds.items():
                writer.add(Topic(f'{namespace}/{name}', kind))

            said = []

            def say(name, at, data):
                if name in kinds:
                    said.append(Message(f'{namespace}/{name}', T0 + at, T0 + at - 3, data))

            for n, one in enumerate(self.states):
                at = (n + 1) * PERIOD
                say('imu/data', at, serialize_message(imu_message(one)))
                say('joint_states', at + 1, serialize_message(joint_message(one, n % 2)))
                if n in without:
                    continue
                steps.rows[0], rewards.rows[0] = self.steps[n], self.rows[n]
                steps.stamp(n * PERIOD)
                rewards.stamp(n * PERIOD)
                say('policy/steps', at + 2, steps.serialized())
                if n not in unpaid:
                    say('reward/rewards', at + 3 + late, rewards.serialized())
                if n * PERIOD in self.changes:
                    config = self.changes[n * PERIOD]
                    weights = {**config.weights, 'fall': config.fall, 'down': config.down}
                    told = {'reward': {'steps': n}, 'weights': weights}
                    say('reward/terms', at + 4, terms_message(n * PERIOD, told))
            for message in sorted(said, key=lambda message: message.log_time):
                writer.write(message)


def imu_message(one):
    message = Imu()
    set_stamp(message.header.stamp, int(one.stamp))
    q, w = message.orientation, message.angular_velocity
    q.w, q.x, q.y, q.z = (float(v) for v in one.orientation)
    w.x, w.y, w.z = (float(v) for v in one.angular_velocity)
    return message


def joint_message(one, other_order):
    order = np.arange(8)[::-1] if other_order else np.arange(8)
    message = JointState(name=[ROBOT.joint_names[i] for i in order])
    set_stamp(message.header.stamp, int(one.stamp))
    message.position = one.joint_position[order].tolist()
    message.velocity = one.joint_velocity[order].tolist()
    message.effort = one.joint_effort[order].tolist()
    return message


def test_a_made_up_bag_is_scored_as_by_hand(tmp_path):
    made = Made(tmp_path / 'bag')
    with Bag(made.path) as bag:
        found = rescore(bag, ROBOT, GAIT, RewardConfig())
    np.testing.assert_array_equal(found.rows, made.rows)
    assert found.rows['terminated'].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert found.rows['fall'].tolist() == [0, 0, 0, -30, 0, 0, 0, 0, 0, 0]
    assert found.rows['down'][4:7].tolist() == [np.float32(-0.02)] * 2 + [0]
    assert found.log_times.tolist() == [T0 + (n + 1) * PERIOD + 2 for n in range(10)]
    assert found.lost == 0


def test_other_weights_scale_their_terms_and_nothing_else(tmp_path):
    made = Made(tmp_path / 'bag')
    config = reweighted(RewardConfig(), {'torque': -0.03, 'fall': -5.0, 'alive': 0.0})
    with Bag(made.path) as bag:
        rows = rescore(bag, ROBOT, GAIT, config).rows
    np.testing.assert_allclose(rows['torque'], 3 * made.rows['torque'], rtol=1e-6)
    assert rows['fall'][3] == -5.0
    assert not rows['alive'].any()
    for name in set(NAMES) - {'torque', 'fall', 'alive'}:
        np.testing.assert_array_equal(rows[name], made.rows[name], err_msg=name)
    total = sum(rows[name].astype(float) for name in NAMES)
    np.testing.assert_allclose(rows['reward'], total, rtol=1e-5)
    with pytest.raises(ValueError, match=r"unknown reward terms \['torgue'\]"):
        reweighted(RewardConfig(), {'torgue': 1.0})


def test_weights_that_changed_while_it_walked_are_taken_from_the_bag(tmp_path):
    second = RewardConfig({**DEFAULT_WEIGHTS, 'gait': 0.1 + 0.2}, -7.0, -2.0)
    made = Made(tmp_path / 'bag', changes={0: RewardConfig(), 4 * PERIOD: second})
    with Bag(made.path) as bag:
        weights = recorded_weights(bag)
        assert weights == {0: RewardConfig(), 4 * PERIOD: second}
        np.testing.assert_array_equal(rescore(bag, ROBOT, GAIT, weights).rows, made.rows)
        plain = rescore(bag, ROBOT, GAIT, RewardConfig()).rows
    assert (plain['gait'][:4] == made.rows['gait'][:4]).all()
    assert (plain['gait'][6:] != made.rows['gait'][6:]).all()


def test_without_terms_the_parameters_of_the_run_say_the_weights(tmp_path):
    def weights(parameters):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with BagWriter(folder, metadata={'parameters': parameters}) as writer:
            writer.add(Topic('/policy/steps', POINTS))
        with Bag(folder) as bag:
            return recorded_weights(bag)

    given = {f'weights.{name}': 0.0 for name in TERMS} | {'fall': -3.0, 'down': -1.0}
    (config,) = weights(json.dumps({'/policy': {}, '/reward': given})).values()
    assert config == RewardConfig(dict.fromkeys(TERMS, 0.0), -3.0, -1.0)
    for text in ('', 'no json', '[]', '{"/policy": {}}', '{"/reward": {"robot": "lebot"}}'):
        assert weights(text) == {}


def test_one_robot_of_several_is_named(tmp_path):
    Made(tmp_path / 'bag', namespace='/left')
    with BagWriter(tmp_path / 'right') as writer:
        writer.add(Topic('/right/policy/steps', POINTS))
    main(['bag', 'merge', str(tmp_path / 'bag'), str(tmp_path / 'right'), str(tmp_path / 'both')])
    with Bag(tmp_path / 'both') as bag:
        with pytest.raises(BagError, match='/left/policy/steps and /right/policy/steps'):
            rescore(bag, ROBOT, GAIT, RewardConfig())
        assert len(rescore(bag, ROBOT, GAIT, RewardConfig(), namespace='left').rows) == 10
        with pytest.raises(BagError, match='no topic /right/joint_states and no /right/imu/data'):
            rescore(bag, ROBOT, GAIT, RewardConfig(), namespace='right')


def test_joints_of_another_robot_are_named(tmp_path, twelve):
    made = Made(tmp_path / 'bag')
    with Bag(made.path) as bag, pytest.raises(BagError, match='those of twelve are'):
        rescore(bag, twelve, GAIT, RewardConfig())


# New bags


def test_rewards_are_exchanged_added_and_left_out(tmp_path):
    made = Made(tmp_path / 'bag')
    Made(tmp_path / 'holes', without=(2, 6))
    with Bag(made.path) as bag:
        every = rescore(bag, ROBOT, GAIT, RewardConfig({'alive': 2.0}))
    with Bag(tmp_path / 'holes') as bag:  # two rewards are missing: they are added
        done = write_rescored(bag, every, tmp_path / 'added', {})
    assert (done.replaced, done.added, done.left_out) == (8, 2, 0)
    with Bag(tmp_path / 'holes') as bag:
        some = rescore(bag, ROBOT, GAIT, RewardConfig({'alive': 2.0}))
    with Bag(made.path) as bag:  # two steps are missing: their old rewards must not stay
        done = write_rescored(bag, some, tmp_path / 'less', {})
    assert (done.replaced, done.added, done.left_out) == (8, 0, 2)
    with Bag(tmp_path / 'added') as bag:
        rows = bag.rows('/reward/rewards')
        np.testing.assert_array_equal(rows, every.rows)
        logs = [message.log_time for message in bag.messages()]
        assert logs == sorted(logs)
        added = list(bag.messages(['/reward/rewards']))[2]
        assert added.log_time == max(T0 + 3 * PERIOD + 2, T0 + 2 * PERIOD + 3)
    with Bag(tmp_path / 'less') as bag:
        assert stamps(bag.rows('/reward/rewards')).tolist() == [
            n * PERIOD for n in range(10) if n not in (2, 6)
        ]


def test_an_added_reward_does_not_overtake_those_before_it(tmp_path):
    """A reward node that lagged: a learner that hears the last reward first drops the others."""
    made = Made(tmp_path / 'bag', late=40 * PERIOD)
    with Bag(made.path) as bag:
        every = rescore(bag, ROBOT, GAIT, RewardConfig())
    with Bag(Made(tmp_path / 'holes', late=40 * PERIOD, unpaid=(2, 9)).path) as bag:
        write_rescored(bag, every, tmp_path / 'new', {})
    with Bag(tmp_path / 'new') as bag:
        times = [message.log_time - T0 for message in bag.messages(['/reward/rewards'])]
        np.testing.assert_array_equal(bag.rows('/reward/rewards'), made.rows)
    late = [40 * PERIOD + (n + 1) * PERIOD + 3 for n in range(10)]
    assert times == [*late[:2], late[1], *late[3:9], late[8]]


def test_a_bag_without_rewards_gets_them_with_their_weights(tmp_path):
    made = Made(tmp_path / 'bag', reward=False)
    assert main(['bag', 'reward', str(made.path), '--set', 'gait=0.25', 'fall=-4',
                 '--out', str(tmp_path / 'new')]) == 0  # fmt: skip
    config = reweighted(RewardConfig(), {'gait': 0.25, 'fall': -4.0})
    with Bag(tmp_path / 'new') as bag:
        assert recorded_weights(bag) == {0: config}
        again = rescore(bag, ROBOT, GAIT, recorded_weights(bag))
        np.testing.assert_array_equal(bag.rows('/reward/rewards'), again.rows)
        (step,) = lineage(bag.metadata)
        assert step['operation'] == 'reward'
        assert step['arguments']['set'] == {'gait': 0.25, 'fall': -4.0}
    assert len(read_transitions([tmp_path / 'new'], cache=False)[0].rows) == 10


def test_messages_made_without_ros_are_those_that_ros_makes():
    rows = np.zeros(1, reward_dtype(NAMES))
    rows['sec'], rows['nanosec'], rows['reward'], rows['down'] = 12, 34, 1.5, -0.02
    wanted = RecordMessage(rows.dtype)
    wanted.rows[0] = rows[0]
    wanted.stamp(12 * 10**9 + 34)
    made = RewardMessage(rows.dtype)(rows[0])
    assert len(made) == len(wanted.serialized())
    theirs = deserialize_message(wanted.serialized(), PointCloud2)
    assert deserialize_message(made, PointCloud2) == theirs
    assert read_record(deserialize_message(made, PointCloud2))[0] == rows[0]
    other = RewardMessage(rows.dtype, RecordMessage(reward_dtype(['speed'])).serialized())
    assert other(rows[0]) == made, 'an example with other terms is not followed'


def test_stamps_that_came_twice_are_matched_in_their_order():
    """As after a reset of a simulator."""
    rows = np.zeros(5, reward_dtype(['a']))
    rows['nanosec'] = [0, 20, 40, 0, 20]
    recorded = rows[[0, 2, 3, 4]].copy()
    assert matched(recorded, rows).tolist() == [0, 2, 3, 1]
    recorded['nanosec'][0] = 60
    assert matched(recorded, rows).tolist() == [-1, 2, 0, 1]


# A real walk


def test_a_real_walk_is_scored_again_bit_for_bit(capsys):
    bag = record()
    assert main(['bag', 'reward', str(bag)]) == 0, 'the status says whether all are equal'
    said = capsys.readouterr().out
    with Bag(bag) as opened:
        recorded = opened.rows('/reward/rewards')
        robot = recorded_robot(opened.metadata)
        walk, doubt = recorded_walk(robot, opened.metadata)
        found = rescore(opened, robot, walk.gait, recorded_weights(opened))
    assert len(recorded) > 150
    assert f'{len(recorded)} of {len(recorded)} steps equal what was recorded' in said
    assert not doubt
    assert robot.joint_names == ROBOT.joint_names
    places = matched(recorded, found.rows)
    np.testing.assert_array_equal(found.rows[places], recorded)
    assert set(recorded['reward'].tolist()) != {0.0}


def test_a_real_walk_with_another_reward_can_be_learned_from(tmp_path, capsys):
    bag, out = record(), tmp_path / 'gentle'
    words = ['bag', 'reward', str(bag), '--reward', 'velocity_gentle', '--out']
    assert main([*words, str(out)]) == 0
    gentle = load_reward('velocity_gentle')
    scale = gentle.weights['torque'] / DEFAULT_WEIGHTS['torque']
    (old,) = read_transitions([bag], cache=False)
    (new,) = read_transitions([out], cache=False)
    assert len(new.rows) >= len(old.rows) > 150
    fields = ('observation', 'action', 'next_observation', 'log_prob', 'mode')
    both = np.isin(new.rows['stamp'], old.rows['stamp'])
    for name in fields:
        np.testing.assert_array_equal(new.rows[both][name], old.rows[name], err_msg=name)
    np.testing.assert_allclose(new.rows[both]['torque'], scale * old.rows['torque'], rtol=1e-5)
    with Reader(out) as reader, Reader(bag) as before:  # all else is there as it was
        kept = ('/joint_states', '/policy/steps', '/joint_commands_applied')
        one, other = (
            [(c.topic, t, bytes(d)) for c, t, d in r.messages() if c.topic in kept]
            for r in (reader, before)
        )
        assert one == other
        store = get_typestore(Stores.ROS2_JAZZY)
        for connection, _, data in reader.messages():
            store.deserialize_cdr(data, connection.msgtype)  # strictly
    with Bag(out) as made:
        assert list(recorded_weights(made).values()) == [gentle]
    file = tmp_path / 'gentle.npz'
    assert main([*words, str(file)]) == 0
    arrays = np.load(file)
    np.testing.assert_array_equal(arrays['reward'], new.rows['reward'])
    np.testing.assert_array_equal(arrays['observation'], new.rows['observation'])
    assert main([*words, str(file)]) == 2
    assert '--force replaces it' in capsys.readouterr().err


def test_a_reward_that_was_tampered_with_is_found(tmp_path, capsys):
    made = Made(tmp_path / 'bag')
    with Bag(made.path) as bag:
        found = rescore(bag, ROBOT, GAIT, RewardConfig())
        found.rows['tilt'][5] += 0.5
        write_rescored(bag, found, tmp_path / 'false', {})
    assert main(['bag', 'reward', str(tmp_path / 'false')]) == 1
    said = capsys.readouterr().out
    assert (
        '9 of 10 steps equal what was recorded, bit for bit; the largest difference is 0.5' in said
    )
    assert main(['bag', 'reward', str(made.path)]) == 0


def test_the_table_has_sums_and_means_a_second_by_hand(tmp_path, capsys):
    made = Made(tmp_path / 'bag')
    assert main(['bag', 'reward', str(made.path), '--set', 'alive=3']) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines['alive'] == ['12.0000', '60.0000', '24.0000', '120.0000', '8']  # two lie there
    assert lines['down'] == ['-0.0400', '-0.2000', '-0.0400', '-0.2000', '0']
    assert lines['terminated'][:1] == ['1.0000']


@pytest.mark.parametrize('words, message', [
    (['--set', 'torque'], "--set 'torque': expected TERM=WEIGHT"),
    (['--set', 'torque=much'], "--set torque is 'much', expected a finite number"),
    (['--set', 'torgue=1'], "unknown reward terms ['torgue']"),
    (['--reward', 'fast'], "unknown reward 'fast'; rewards are"),
    (['--robot', 'spot'], "no robot 'spot'"),
    (['--namespace', 'left'], 'no topic /left/policy/steps'),
])  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, capsys, words, message):
    made = Made(tmp_path / 'bag')
    assert main(['bag', 'reward', str(made.path), '--out', str(tmp_path / 'x'), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'x').exists()


def test_the_robot_and_the_policy_of_the_bag_are_taken_and_doubted():
    table = share_path('config', 'robots', 'lebot.yaml').read_text()
    other = table.replace('control_rate: 50', 'control_rate: 25')
    assert recorded_robot({'robot': other}).control_rate == 25
    assert recorded_robot({'robot': other}, 'lebot').control_rate == 50
    assert recorded_robot({}).name == 'lebot'
    with pytest.raises(BagError, match='the joint table in the bag cannot be used'):
        recorded_robot({'robot': 'name: [what'})
    with pytest.raises(BagError, match='the joint table in the bag cannot be used'):
        recorded_robot({'robot': 'name: lebot'})
    assert recorded_walk(ROBOT, {})[1] == ''
    _, doubt = recorded_walk(ROBOT, {'policy': 'walk', 'policy_sha256': 'ab' * 32})
    assert 'recorded was abababab' in doubt
