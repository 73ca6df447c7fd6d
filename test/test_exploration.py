"""Noise by which the robot explores: its numbers, its box, its silence, and what rows say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.control.exploration import Exploration, ExplorationConfig
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.robot import RobotState, load_robot
from lebot_rl_ros.ros import qos
from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.ros.records import read_record
from lebot_rl_ros.safety.supervisor import Mode
from policy_feed import Feed
from ros_graph import environment, fresh_domain, node_process, probe

ROBOT = load_robot()
PERIOD = 0.02  # s
WIDE = {'box': 1.0, 'box_start': 1.0}


def noise(count, std=0.1, seed=0, walking=True, **config):
    """Rows (count, 4) of noise."""
    explore = Exploration(4, PERIOD, ExplorationConfig(**config), seed)
    return np.array([explore(std, walking=walking) for _ in range(count)])


def test_the_filter_by_hand():
    drawn = np.random.default_rng([7, 1]).standard_normal((3, 4), dtype=np.float32)
    keep = math.exp(-0.2)  # 20 ms of 100 ms
    state, wanted = np.zeros(4), []
    for row in drawn:
        state = keep * state + math.sqrt(1 - keep**2) * row
        wanted.append(0.05 * state)
    np.testing.assert_allclose(noise(3, 0.05, 7, time=0.1, **WIDE), wanted, atol=1e-7)


@pytest.mark.parametrize('time', [0.0, 0.1, 0.4])
def test_its_spread_and_its_memory_are_those_asked_for(time):
    found = noise(20_000, 0.1, time=time, **WIDE)[500:]
    keep = math.exp(-PERIOD / time) if time else 0.0
    # of a mean of squares that are correlated: 80,000 numbers count for as few as 3,900
    assert found.std() == pytest.approx(0.1, rel=0.06)
    assert (found[1:] * found[:-1]).mean() / found.var() == pytest.approx(keep, abs=0.02)
    assert abs(found.mean()) < 0.01


def test_the_box_grows_with_the_time_of_walking_and_holds_every_action():
    config = ExplorationConfig(box=0.3, box_start=0.1, growth=2.0)
    explore = Exploration(4, PERIOD, config)
    boxes, most = [], []
    for step in range(150):
        boxes.append(explore.box)
        most.append(np.abs(explore(0.5, walking=True)).max())
        if step % 3 == 0:  # time that does not count
            before = explore.box
            explore(0.5, walking=False)
            assert explore.box == before
    np.testing.assert_allclose(boxes, [min(0.1 + 0.002 * i, 0.3) for i in range(150)], atol=1e-12)
    assert (np.array(most) <= np.array(boxes) * (1 + 1e-6)).all()
    assert explore.explored == pytest.approx(3.0)
    assert Exploration(4, PERIOD, ExplorationConfig(box=0.05, growth=0.0)).box == 0.05


def test_a_fall_halves_it_and_walking_brings_it_back():
    config = ExplorationConfig(growth=0.0, recovery=4.0, time=0.0)
    explore, whole = (Exploration(4, PERIOD, config, 5) for _ in range(2))
    explore.fell()
    assert (explore.scale, explore.box) == (0.5, pytest.approx(0.5 * 0.3))
    np.testing.assert_allclose(explore(0.1, walking=True), 0.5 * whole(0.1, walking=True))
    explore(0.1, walking=False)
    assert explore.scale == pytest.approx(0.5 * math.exp(PERIOD / 4.0))  # of walking alone
    for _ in range(round(4.0 * math.log(2.0) / PERIOD) - 1):
        assert explore.scale < 1.0
        explore(0.1, walking=True)
    assert explore.scale == 1.0
    assert explore.box == 0.3


def test_however_often_it_falls_some_of_it_is_left():
    explore = Exploration(4, PERIOD)
    for _ in range(9):
        explore.fell()
    assert explore.scale == 0.2
    steady = Exploration(4, PERIOD, ExplorationConfig(after_fall=1.0))
    steady.fell()
    assert steady.scale == 1.0
    at_once = Exploration(4, PERIOD, ExplorationConfig(recovery=0.0))
    at_once.fell()
    at_once(0.1, walking=True)
    assert at_once.scale == 1.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 99))
def test_it_is_silent_unless_it_walks_and_begins_anew(walking, seed):
    explore = Exploration(4, PERIOD, ExplorationConfig(time=0.2, **WIDE), seed)
    rng, state = np.random.default_rng([seed, 1]), np.zeros(4)
    keep = math.exp(-0.1)
    for walks in walking:
        found = explore(0.1, walking=walks)
        if not walks:
            state = np.zeros(4)
            assert not found.any()
            continue
        normal = rng.standard_normal(4, dtype=np.float32)
        state = keep * state + math.sqrt(1 - keep**2) * normal
        np.testing.assert_allclose(found, 0.1 * state, atol=1e-6)


def test_the_same_seed_gives_the_same_noise():
    np.testing.assert_array_equal(noise(50, seed=3), noise(50, seed=3))
    assert not np.array_equal(noise(50, seed=3), noise(50, seed=4))


@pytest.mark.parametrize('name, value', [
    ('time', -0.1), ('time', math.nan), ('box', 1.5), ('box_start', -0.1), ('growth', math.inf),
    ('after_fall', 1.1), ('recovery', -1.0),
])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f'exploration_{name} is {value}, must be from 0 to'):
        ExplorationConfig(**{name: value})


# The walker


def state(number):
    rng = np.random.default_rng(number)
    return RobotState(
        number * ROBOT.control_period_ns, ROBOT.stand + 0.1 * rng.standard_normal(8),
        rng.standard_normal(8), np.zeros(8), np.array([1.0, 0, 0, 0]),
        0.1 * rng.standard_normal(3), np.array([0, 0, 9.81]),
    )  # fmt: skip


FORWARD, STAND = np.array([0.3, 0.0]), np.zeros(2)


def rows(walker, count=20, command=FORWARD, followed=True):
    """Rows of some steps of a walker."""
    found = []
    for number in range(count):
        target = walker.act(state(number), command)
        walker.record(number)
        walker.applied(target, followed=followed)
        found.append(walker.row.copy())
    return np.array(found)


def walking(**given):
    return Walker(ROBOT, load_walk(ROBOT, 'walk'), seed=3, **given)


@pytest.mark.parametrize('deterministic', [True, False])
def test_rows_say_what_was_sampled_and_how_likely_it_was(deterministic):
    walker = walking(exploration=0.08, deterministic=deterministic)
    found = rows(walker)
    assert (found['std'] == np.float32(0.08)).all()
    away = found['action'] - found['mean']
    assert not away[0].any()  # what the driver does is not known yet
    assert away[1:].any(axis=1).all()
    assert np.abs(away).max() <= walker.box + 1e-6 < 0.102
    density = -0.5 * np.square(away / 0.08).sum(axis=1) - 8 * (
        math.log(0.08 * math.sqrt(2 * math.pi))
    )
    np.testing.assert_allclose(found['log_prob'], density, rtol=1e-4)


def test_without_exploration_every_bit_is_as_it_was():
    walker = walking()
    policy, own = walker.walk.policy, np.exp(walker.walk.policy.log_std)
    found = rows(walker)
    np.testing.assert_array_equal(found['action'], found['mean'])
    for row in found:
        np.testing.assert_array_equal(row['mean'], policy.act(row['observation']))
        np.testing.assert_array_equal(row['std'], own)
    white = rows(walking(deterministic=False))
    drawn = np.random.default_rng(3).standard_normal((20, 8), dtype=np.float32)
    np.testing.assert_array_equal(white['action'], white['mean'] + own * drawn)
    np.testing.assert_array_equal(white['std'], np.tile(own, (20, 1)))


@pytest.mark.parametrize('given', [{'command': STAND}, {'followed': False}])
def test_a_robot_that_does_not_walk_does_not_explore(given):
    walker = walking(exploration=0.08)
    rows(walker)
    found = rows(walker, **given)[1:]
    np.testing.assert_array_equal(found['action'], found['mean'])
    assert (found['std'] == np.float32(0.08)).all()


def test_a_walker_that_forgets_the_past_forgets_its_noise():
    walker = walking(exploration=0.05, noise=ExplorationConfig(time=1.0, **WIDE))
    rows(walker)  # draws for all but the first
    walker.reset()
    row = rows(walker, 1)[0]
    drawn = np.random.default_rng([3, 1]).standard_normal((20, 8), dtype=np.float32)[19]
    wanted = 0.05 * math.sqrt(1 - math.exp(-0.04)) * drawn
    np.testing.assert_allclose(row['action'] - row['mean'], wanted, atol=1e-6)


def lying(number):
    tipped = state(number)
    return replace(tipped, orientation=np.array([math.cos(0.7), math.sin(0.7), 0.0, 0.0]))


def test_a_fall_that_the_states_show_counts_once_and_rows_say_what_is_left():
    walker = walking(exploration=0.08)
    rows(walker, 2)
    for number in range(4):
        walker.act(lying(number), FORWARD)
    assert walker.exploration_scale == pytest.approx(0.5, rel=0.01)
    found = rows(walker)[1:]
    np.testing.assert_allclose(found['std'], 0.04, rtol=0.01)
    assert np.abs(found['action'] - found['mean']).max() <= walker.box + 1e-6 < 0.06
    walker.fell()
    assert walker.exploration_scale == pytest.approx(0.25, rel=0.01)


def test_who_is_carried_while_nobody_follows_does_not_fall():
    walker = walking(exploration=0.08)
    rows(walker, 2, followed=False)
    walker.act(lying(0), FORWARD)
    assert walker.exploration_scale == 1.0


def test_it_is_switched_between_two_steps():
    walker = walking()
    for std in (0.0, 0.05, 0.0, 0.1):
        walker.exploration = std
        found = rows(walker)[1:]
        assert (found['action'] != found['mean']).any() == bool(std)
        wanted = np.full(8, std) if std else np.exp(walker.walk.policy.log_std)
        np.testing.assert_allclose(found['std'], np.tile(wanted, (19, 1)), rtol=1e-6)
    assert walker.explored == pytest.approx(2 * 20 * PERIOD, abs=2.5 * PERIOD)


# The node


def put(listening, **values):
    """Set parameters of the node at once; what it answers."""
    request = SetParametersAtomically.Request()
    request.parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
    return listening.call(
        SetParametersAtomically, '/policy/set_parameters_atomically', request
    ).result


def test_exploration_of_the_node_is_set_while_it_walks():
    domain = fresh_domain()
    started = node_process(
        domain, 'policy', policy='walk', lockstep='true', seed=5, exploration_time=0.2,
        exploration_box=0.2, exploration_growth=0.0,
    )  # fmt: skip
    with started, probe(domain) as listening:
        feed = Feed(listening)

        def walk(std):
            assert put(listening, exploration=std).successful
            feed.drive(0.3, 0.0)
            for _ in range(10):
                feed.tick()
            listening.until(lambda: len(feed.steps) == 10, 'ten steps')
            return np.concatenate([read_record(message) for message in feed.steps])

        silent = walk(0.0)
        np.testing.assert_array_equal(silent['action'], silent['mean'])
        heard = walk(0.1)
        away = heard['action'] - heard['mean']
        assert away.any(axis=1).all()
        assert np.abs(away).max() <= 0.2 + 1e-6
        assert (heard['std'] == np.float32(0.1)).all()
        reply = put(listening, exploration=1.5)
        assert not reply.successful
        assert reply.reason == 'exploration is 1.5, must be from 0 to 1.0'
        refused = put(listening, exploration=math.nan, adapter='turn')
        assert not refused.successful
        listening.until(
            lambda: listening.health.get('/policy', (0, '', {}))[2].get('exploration') == '0.1',
            'the exploration as it was',
        )
        assert listening.health['/policy'][2]['swaps'] == '0'
        silent = walk(0.0)
        np.testing.assert_array_equal(silent['action'], silent['mean'])


def explored(tmp_path):
    """Rows of a lockstep walk of 2.5 s with exploration, by stamp."""
    given = {'lockstep': True, 'real_time_factor': 0, 'duration': 2.5, 'seed': 4, 'vx': 0.3}
    stack = walk_stack(given | {'monitored': True})
    domain, found, last = fresh_domain(), {}, 2_460_000_000
    for node in stack.nodes:
        if node.name == 'policy':
            node.parameters['exploration'] = 0.1
            node.parameters['wait_for_listeners'] += 1  # the test
    with probe(domain) as listening:

        def keep(message):
            found[to_ns(message.header.stamp)] = read_record(message)[0]

        listening.node.create_subscription(PointCloud2, 'policy/steps', keep, qos.EVERY)
        with Runner(stack, tmp_path, print, environment(domain)):
            listening.meet('/sim')
            listening.listen(Odometry, 'ground_truth/odom')
            listening.until(lambda: last in found, 'the end', 60.0)
    return {stamp: row for stamp, row in found.items() if stamp <= last}


def test_a_lockstep_walk_that_explores_repeats_to_the_last_bit(tmp_path):
    first, again = explored(tmp_path / 'a'), explored(tmp_path / 'b')
    assert first.keys() == again.keys()
    assert len(first) == 124
    for stamp, row in first.items():
        assert row.tobytes() == again[stamp].tobytes(), stamp
    rows = np.array(list(first.values()))
    away = (rows['action'] != rows['mean']).any(axis=1)
    walks = (rows['mode'] == Mode.TRACK) & (np.abs(rows['command']).max(axis=1) > 0.02)
    assert away[1:].sum() > 60
    # What the driver does is known a step later.
    np.testing.assert_array_equal(away[1:], walks[1:] & walks[:-1])


def test_a_node_with_exploration_that_cannot_be_refuses_to_start():
    domain = fresh_domain()
    given = {'policy': 'walk', 'exploration': 2.0}
    with node_process(domain, 'policy', **given) as process:
        assert process.wait(60) == 2
        assert 'exploration is 2.0, must be from 0 to 1.0' in process.stdout.read()
