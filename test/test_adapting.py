"""One faulty robot stepped directly: its rows, its falls, what they cost, and who may drive it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.envs import adapting
from lebot_rl_ros.envs.adapting import GET_UP, NOISY, FaultyRobot
from lebot_rl_ros.envs.faulty_task import FaultyEnv, FaultyTask, judge, unsquash
from lebot_rl_ros.envs.velocity_task import Outcome, VelocityConfig
from lebot_rl_ros.robot import rotations
from lebot_rl_ros.safety.supervisor import Mode
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING

CALM = VelocityConfig(randomisation=NOMINAL, episode=1e6)
SLIP = ('slip:rr_hip:0.35',)


@pytest.fixture(scope='module')
def walk(lebot):
    return load_walk(lebot, 'walk')


def faulty(lebot, walk, faults=(), *, deterministic=True, seed=0, **kwargs):
    walker = Walker(lebot, walk, deterministic=deterministic, seed=seed)
    return FaultyRobot(lebot, walker, walk.gait, faults, seed=seed, **kwargs)


def topple(robot):
    """Put a robot on its side: its next step ends in a fall."""
    robot.simulation.qpos[0, 2] += 0.1
    robot.simulation.qpos[0, 3:7] = np.cos(0.6), np.sin(0.6), 0.0, 0.0  # 1.2 rad of roll


class Broken:
    """A walker that gives what is not finite."""

    def __init__(self, walker):
        self._walker = walker

    def __getattr__(self, name):
        return getattr(self._walker, name)

    def act(self, state, command):
        return np.full_like(self._walker.act(state, command), np.nan)


def test_who_falls_explores_less(lebot, walk):
    robot = faulty(lebot, walk)
    topple(robot)
    robot.step()
    assert len(robot.fallen_at) == 1
    assert robot.walker.exploration_scale == 0.5


def test_rows_are_those_of_the_topics(lebot, walk):
    robot = faulty(lebot, walk, SLIP)
    steps, rewards = robot.step()
    assert steps.dtype == step_dtype(walk.layout.size, len(lebot.joints))
    assert rewards.dtype == reward_dtype(robot.terms)
    assert steps.shape == rewards.shape == (1,)
    assert (steps['sec'][0], steps['nanosec'][0]) == (0, 0)
    assert steps['next_nanosec'][0] == 20_000_000
    assert (rewards['sec'][0], rewards['nanosec'][0]) == (0, 0)
    assert steps['mode'][0] == Mode.TRACK
    total = sum(float(rewards[name][0]) for name in robot.terms)
    assert_allclose(float(rewards['reward'][0]), total, rtol=1e-6)


@pytest.mark.parametrize('faults', [(), SLIP, ('dead:fl_knee', 'payload:0.3')])
def test_it_sees_and_earns_what_the_task_of_many_robots_gives_for_the_same_actions(
    lebot, walk, faults
):
    robot = faulty(lebot, walk, faults, deterministic=False, seed=3)
    task = FaultyTask(lebot, 1, faults, replace(CALM, gait=walk.gait, action_space=walk.space))
    seen = task.reset()
    # The task draws where its gait clock starts and the robot's starts at 0: turn it back.
    task._start[:] = 0
    seen = task._observe(task._step(task._action))
    if faults:  # there they begin in the first step, here they are there before it
        robot._begun = len(faults)
        robot._stand()
    for tick in range(40):
        steps, rewards = robot.step()
        assert_allclose(steps['observation'][0], seen[0], atol=1e-5)
        outcome = task.step(steps['action'].astype(float), restart=False)
        seen = outcome.final_observation
        for name in robot.terms:
            # The reward node knows no action before the first one, the task has the stand there.
            wanted = (
                0.0 if not tick and name == 'action_rate' else outcome.terms.get(name, [0.0])[0]
            )
            assert_allclose(float(rewards[name][0]), wanted, rtol=1e-3, atol=1e-4)


def test_a_fault_begins_at_its_time(lebot, walk):
    healthy, slipping = faulty(lebot, walk), faulty(lebot, walk, ('slip:rr_hip:0.35@0.5',))
    rows = [(healthy.step()[0], slipping.step()[0]) for _ in range(30)]
    same = [bool(np.array_equal(a['observation'], b['observation'])) for a, b in rows]
    assert same == [True] * 26 + [False] * 4  # the step at 0.5 s is the first to feel it
    slipped = slipping.simulation.horn_offset[0, lebot.joint_names.index('rr_hip')]
    assert slipped == pytest.approx(0.35)


def test_a_fall_costs_its_time_and_the_fault_stays(lebot, walk):
    robot = faulty(lebot, walk, SLIP)
    stamps, ends = [], []
    for tick in range(21):
        if tick == 20:
            topple(robot)
        steps, rewards = robot.step()
        stamps.append(int(steps['sec'][0]) * 10**9 + int(steps['nanosec'][0]))
        ends.append((int(rewards['terminated'][0]), int(rewards['truncated'][0])))
    assert ends[-1] == (1, 0)
    assert set(ends[:-1]) == {(0, 0)}
    assert float(rewards['fall'][0]) == -30.0
    walked = len(stamps) * 0.02
    assert robot.fallen_at == [pytest.approx(walked)]
    assert robot.seconds == pytest.approx(walked + GET_UP)
    steps, rewards = robot.step()
    assert int(steps['sec'][0]) * 10**9 + int(steps['nanosec'][0]) == round(
        (walked + GET_UP) * 1e9
    )
    assert not rewards['terminated'][0]
    position = steps['observation'][0][6:14]
    assert_allclose(position, 0.0, atol=1e-6)  # the servos read the standing pose,
    hip = lebot.joint_names.index('rr_hip')
    assert robot.simulation.horn_offset[0, hip] == pytest.approx(0.35)  # the horn is off
    assert_array_equal(steps['observation'][0][22:30], 0.0)  # nothing was applied before


def test_after_a_fall_it_is_the_same_robot_with_other_noise(lebot, walk):
    robot = faulty(lebot, walk, randomisation=TRAINING, seed=5)
    body = robot.simulation.models[0].body_mass.copy()
    before, _ = robot.step()
    robot._get_up()
    assert_array_equal(robot.simulation.models[0].body_mass, body)
    after, _ = robot.step()
    assert not np.array_equal(before['observation'], after['observation'])
    assert not np.allclose(
        body, faulty(lebot, walk, randomisation=TRAINING, seed=6).simulation.models[0].body_mass
    )


def test_equal_seeds_give_equal_runs(lebot, walk):
    runs = [faulty(lebot, walk, SLIP, deterministic=False, seed=seed) for seed in (1, 1, 2)]
    rows = [np.concatenate([robot.step()[0] for _ in range(20)]) for robot in runs]
    assert rows[0].tobytes() == rows[1].tobytes()
    assert rows[0].tobytes() != rows[2].tobytes()


def test_a_target_that_is_not_finite_is_not_recorded_and_moves_nothing(lebot, walk):
    robot = faulty(lebot, walk)
    robot.step()
    last = robot._limited.position.copy()
    robot.walker = Broken(robot.walker)
    steps, rewards = robot.step()
    assert len(steps) == len(rewards) == 0
    assert np.abs(robot._limited.position - last).max() < 0.1
    assert np.isfinite(robot._limited.position).all()


class Falling:
    """A task of two robots that earn 2 a step; the first falls at its second step."""

    robots = 2

    class Simulation:
        period = 0.5

        @staticmethod
        def truth():
            return SimpleNamespace(linear_velocity=np.array([[0.2, 0, 0], [0.4, 0, 0]]))

    simulation = Simulation()

    def seed(self, seed):
        self.count, self.seeded = 0, seed

    def reset(self):
        return np.zeros((2, 1))

    def step(self, action):
        self.count += 1
        down = np.array([self.count == 2, False])
        return Outcome(np.zeros((2, 1)), None, np.full(2, 2.0), down, ~down & False, {})


def test_judging_charges_falls_by_the_time_they_take():
    found = judge(Falling(), lambda observation: observation, 7, seconds=5.0, settle=0.0)
    # 2 robots x 10 steps x 2, over 2 x 5 s of walking and 6 s of getting up
    assert found.reward == pytest.approx(40.0 / 16.0)
    assert found.falls == pytest.approx(60.0 * 1 / 10.0)
    assert found.forward == pytest.approx(0.3)
    # The fall is in the second that does not count.
    found = judge(Falling(), lambda observation: observation, 7, seconds=5.0, settle=1.0)
    assert (found.reward, found.falls) == (pytest.approx(4.0), 0.0)


def test_judging_repeats_and_tells_a_fault(lebot, walk):
    config = VelocityConfig(randomisation=NOISY, episode=1e6)
    tasks = [FaultyTask(lebot, 4, faults, config) for faults in ((), SLIP)]
    act = walk.policy.act_many
    healthy, broken = (judge(task, act, 1, seconds=2.0, settle=1.0) for task in tasks)
    assert judge(tasks[0], act, 1, seconds=2.0, settle=1.0) == healthy
    assert judge(tasks[0], act, 2, seconds=2.0, settle=1.0) != healthy
    assert broken.reward < 0.8 * healthy.reward


def test_a_robot_put_back_has_its_faults_in_every_episode(lebot):
    config = replace(CALM, episode=0.04)
    task = FaultyTask(lebot, 2, ('slip:rr_hip:0.35', 'payload:0.5'), config)
    task.reset()
    heavy = task.simulation.models[0].body_mass.sum()
    for _ in range(5):
        task.step(np.zeros((2, 8)))
    assert task.simulation.models[1].body_mass.sum() == pytest.approx(heavy)
    assert heavy == pytest.approx(task.simulation.nominal.body_mass.sum() + 0.5)
    assert_allclose(task.simulation.horn_offset[:, 6], 0.35)


def test_on_a_slope_robots_head_in_all_directions_and_elsewhere_in_one(lebot):
    """What gravity is in the body tells where it is heading."""
    for faults, factors in (
        (('slope:6',), [(1, 0), (0, -1), (-1, 0), (0, 1)]),
        (SLIP, [(0, 0)] * 4),
    ):
        task = FaultyTask(lebot, 4, faults, CALM)
        for _ in range(2):
            task.reset()
            quaternions = task.simulation.qpos[:, 3:7]
            down = rotations.rotate_inverse(quaternions, np.array([0.0, 0.0, -1.0]))
            expected = -np.sin(np.radians(6.0)) * np.array(factors)
            assert_allclose(down[:, :2], expected, atol=1e-9)


def test_an_environment_counts_the_time_of_its_falls(lebot, walk):
    env = FaultyEnv(FaultyTask(lebot, 1, SLIP, CALM))
    env.reset(seed=0)
    ends = []
    for tick in range(10):
        if tick == 9:
            topple(env.task)
        ends.append(env.step(np.zeros(8))[2:4])
    assert ends == [(False, False)] * 9 + [(True, False)]
    assert env.seconds == pytest.approx(0.02 * env.steps + GET_UP)
    assert env.fallen_at == [pytest.approx(0.02 * env.steps)]
    with pytest.raises(ValueError, match='2 robots'):
        FaultyEnv(FaultyTask(lebot, 2, SLIP, CALM))


def test_squashed_actions_come_out_as_they_were(lebot):
    actions = np.linspace(-3.0, 3.0, 13, dtype=np.float32)
    assert_allclose(unsquash(np.tanh(actions)), actions, rtol=1e-4, atol=1e-6)
    assert np.isfinite(unsquash(np.array([-1.0, 1.0]))).all()
    plain, squashed = (
        FaultyEnv(FaultyTask(lebot, 1, SLIP, CALM), squashed=s) for s in (False, True)
    )
    for env in (plain, squashed):
        env.reset(seed=4)
    for _ in range(5):
        action = np.full(8, 0.3)
        a, b = plain.step(action), squashed.step(np.tanh(action))
        assert_allclose(a[0], b[0], atol=1e-6)
        assert a[1] == pytest.approx(b[1])


def test_a_fault_that_cannot_be_read_is_refused(lebot, walk):
    with pytest.raises(ValueError, match='unknown joint'):
        faulty(lebot, walk, ('slip:elbow:0.3',))
    with pytest.raises(ValueError, match='unknown kind'):
        FaultyTask(lebot, 1, ('hole:0.3',))


def test_the_noise_of_judging_is_that_of_training():
    assert NOISY.noisy
    assert NOISY.friction == NOMINAL.friction
    assert NOISY.position_noise == TRAINING.position_noise
    assert adapting.COMMAND == (0.3, 0.0)
