"""LeBotROS-v0 on real graphs: the same task as in simulation, one commander, nothing left."""

import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest
from geometry_msgs.msg import TwistStamped
from gymnasium.utils.env_checker import check_env
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Log
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import Trigger

import lebot_rl_ros.envs
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.mdp.scoring import Scorer
from lebot_rl_ros.nodes.gym_config import RosEnvConfig
from lebot_rl_ros.nodes.gym_stack import driver_stack
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import load_robot, share_path
from lebot_rl_ros.ros.convert import JointOrder, robot_state, to_ns
from lebot_rl_ros.ros.driver_search import drivers
from lebot_rl_ros.ros.driver_services import GraphError
from lebot_rl_ros.sim.randomisation import NOMINAL
from ros_graph import environment, fresh_domain, node_process, probe, shared_memory

pytestmark = pytest.mark.ros
ROBOT = load_robot()
MEMORY = Path('/dev/shm')
STRAIGHT = (0.3, 0.0)


def make(domain, **given):
    """The environment without Gymnasium's wrappers."""
    return gymnasium.make('LeBotROS-v0', domain=domain, **given).unwrapped


@contextmanager
def attached(domain, **given):
    """One that joins a graph which is there."""
    env = make(domain, attach=True, **given)
    try:
        yield env
    finally:
        env.close()


def sim(domain, **given):
    """A simulated robot that waits for its commands, as a node alone."""
    return node_process(domain, 'sim', **{'lockstep': True, 'real_time_factor': 0.0} | given)


@pytest.fixture(scope='module')
def policy():
    return PolicyRuntime.load(share_path('policies', 'walk'))


@pytest.fixture(scope='module')
def own():
    """An environment with a robot of its own, for all who only want one that steps."""
    env = make(fresh_domain())
    env.reset()
    yield env
    env.close()


def flail(env, seed, steps=1000):
    """Act wildly until the episode is over; the last outcome."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if step % 10 == 0:
            action = rng.choice((-1.0, 1.0), len(ROBOT.joints))
        outcome = env.step(action)
        if outcome[2] or outcome[3]:
            break
    return outcome


# Without a graph.


def test_it_has_the_spaces_of_the_simulated_task_and_starts_nothing():
    env, plain = make(None), gymnasium.make('LeBotVelocity-v0')
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space
    assert env.processes == []
    with pytest.raises(gymnasium.error.ResetNeeded, match='call reset'):
        env.step(np.zeros(8))
    env.close()
    env.close()


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'commands': 'joystick'}, "commands is 'joystick'; choices are drawn, topic"),
        ({'backend': 'gazebo'}, 'choices are mujoco, wire, hardware'),
        ({'backend': 'hardware'}, 'policy:=none .* give attach=True'),
        ({'stack': {'policy': 'trot'}}, 'policy cannot be given'),
        ({'stack': {'fault': 'dead:fl_knee'}}, r"unknown arguments \['fault'\]"),
        ({'namespace': 'lb'}, "namespace is 'lb', .* attach=True"),
        ({'real_time_factor': -1.0, 'backend': 'wire'}, 'real_time_factor is -1.0'),
        ({'robot': 'nobody'}, "no robot 'nobody'; known are lebot"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(given, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make(None, **given)


def test_its_own_graph_is_the_driver_alone_and_patient():
    stack = driver_stack({'real_time_factor': 0.0})
    (node,) = stack.nodes
    assert node.name == 'sim'
    assert node.parameters['wait_for_listeners'] == 1
    assert node.parameters['lockstep_timeout'] > 600
    wired = driver_stack({'backend': 'wire', 'lockstep': True})
    assert [node.name for node in wired.nodes] == ['emulator', 'servo_driver', 'imu_driver']
    assert len({node.namespace for node in (*stack.nodes, *wired.nodes)}) == 2


def test_commands_are_drawn_as_in_the_simulated_task():
    config, theirs = RosEnvConfig(), VelocityConfig()
    for name in ('forward', 'yaw_rate', 'standing', 'straight', 'hold', 'episode', 'reward'):
        assert getattr(config, name) == getattr(theirs, name)
    rng = np.random.default_rng(0)
    drawn = np.array([config.draw(rng) for _ in range(4000)])
    assert (drawn.min(axis=0) >= (0.0, -0.65)).all()
    assert (drawn.max(axis=0) <= (0.6, 0.65)).all()
    still = (drawn == 0).all(axis=1)
    assert still.mean() == pytest.approx(0.1, abs=0.02)
    assert (drawn[~still, 1] == 0).mean() == pytest.approx(0.2 / 0.9, abs=0.03)


def test_on_a_robot_it_needs_neither_simulator_nor_torch():
    program = (
        'import sys, gymnasium, lebot_rl_ros.envs\n'
        "gymnasium.make('LeBotROS-v0', attach=True)\n"
        "print(sorted({'mujoco', 'torch'} & set(sys.modules)))\n"
    )
    words = [sys.executable, '-c', program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == '[]\n'


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'hold': 0.0}, r'hold is 0.0 s'),
        ({'patience': float('nan')}, r'patience is nan s'),
        ({'standing': 0.7, 'straight': 0.4}, r'standing is 0.7 and straight 0.4'),
    ],
)
def test_unfit_configs_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        RosEnvConfig(**given)


def test_where_no_graph_is_it_says_what_it_waited_for_and_what_helps():
    domain = fresh_domain()
    config = RosEnvConfig(search=0.2)
    with attached(domain, config=config, namespace='lb') as env:
        with pytest.raises(GraphError) as refusal:
            env.reset()
        for words in (
            'joint_states and imu/data', 'namespace /lb', f'ROS domain {domain}',
            'policy:=none', 'attach=False',
        ):  # fmt: skip
            assert words in str(refusal.value)
        assert env.driver is None


# With a robot of its own.


def test_it_keeps_to_the_interface_of_gymnasium(own):
    check_env(own)


def test_alike_seeds_and_actions_give_the_same_bits(own):
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        observation, info = own.reset(seed=11)
        run = [observation, info['command']]
        for _ in range(60):
            observation, reward, terminated, truncated, info = own.step(rng.normal(0, 0.3, 8))
            run += [
                observation,
                reward,
                terminated,
                truncated,
                *info['reward_components'].values(),
            ]
        runs.append(run)
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
    assert not np.array_equal(own.reset(seed=12)[1]['command'], runs[0][1])


def test_the_shipped_policy_walks_as_in_the_simulated_task(own, policy):
    """Same policy, same command, nominal robot: mean reward, and true distance in ten seconds."""
    steps = 500
    with probe(own._domain) as listening:
        topic = f'{own._link.node.get_namespace()}/ground_truth/odom'
        truth = listening.listen(Odometry, topic, 1000)
        listening.until(lambda: own.reset() and truth, 'the truth')
        observation, _ = own.reset(seed=0, options={'command': STRAIGHT})
        rewards = []
        for _ in range(steps):
            observation, reward, *_ = own.step(policy.act(observation))
            rewards.append(reward)

        def x(stamp):
            return next(
                (m.pose.pose.position.x for m in truth if to_ns(m.header.stamp) == stamp), None
            )

        # The truth follows the command; its last word comes with the next step.
        own.step(policy.act(observation))
        end = own.stamp - ROBOT.control_period_ns
        listening.until(lambda: x(end) is not None, 'the end of the path')
        distance = x(end)  # a reset puts it at the origin
    plain = gymnasium.make(
        'LeBotVelocity-v0', config=VelocityConfig(randomisation=NOMINAL)
    ).unwrapped
    plain.task.pinned_command = np.array(STRAIGHT)
    observation, _ = plain.reset(seed=0)
    theirs = []
    for _ in range(steps):
        observation, reward, *_ = plain.step(policy.act(observation))
        theirs.append(reward)
    there = plain.task.simulation.truth().position[0, 0]
    assert np.mean(rewards) > 3.0
    assert np.mean(rewards) == pytest.approx(np.mean(theirs), rel=0.02)
    assert distance == pytest.approx(there, rel=0.03)
    assert distance > 2.5


def test_observations_and_rewards_are_those_of_messages_joined_by_stamp(own, policy):
    """What the policy node sees and the reward node scores: state, IMU, what was applied."""
    walk, order = load_walk(ROBOT, 'walk'), JointOrder(ROBOT.joint_names)
    where = own._link.node.get_namespace()
    with probe(own._domain) as listening:
        joints, imus, applied, told = (
            listening.listen(kind, f'{where}/{topic}', 1000)
            for kind, topic in (
                (JointState, 'joint_states'), (Imu, 'imu/data'),
                (JointState, 'joint_commands_applied'), (TwistStamped, 'cmd_vel'),
            )
        )  # fmt: skip
        listening.until(lambda: own.reset() and joints and imus and applied and told, 'the topics')
        observation, info = own.reset(seed=5, options={'command': (0.2, 0.3)})
        command, ours, seen = info['command'], {}, {own.stamp: observation}
        for _ in range(30):
            stamp = own.stamp
            observation, reward, *_ = own.step(policy.act(observation))
            ours[stamp], seen[own.stamp] = (own.stamp, reward), observation

        def by_stamp(heard):
            return {to_ns(m.header.stamp): m for m in heard}

        listening.until(
            lambda: (
                set(ours) <= by_stamp(applied).keys()
                and {end for end, _ in ours.values()}
                <= by_stamp(joints).keys() & by_stamp(imus).keys()
            ),
            'all periods',
        )
    joints, imus, applied = map(by_stamp, (joints, imus, applied))
    scorer, walker = Scorer(ROBOT, walk.gait, RewardConfig()), Walker(ROBOT, walk)
    previous = None
    for stamp, (following, reward) in ours.items():
        message = applied[stamp]
        target = order(message.name, message.position)
        state = robot_state(joints[following], order, imus[following])
        followed = message.header.frame_id == 'track'
        score = scorer(stamp, state, command, walker.applied(target), followed=followed)
        if previous is not None:
            assert reward == score.reward
        previous = score
        walker.act(state, command)
        walker.record(following)
        np.testing.assert_array_equal(seen[following], walker.row['observation'])
    # `cmd_vel` says what is followed, often enough that nobody takes it for old.
    said = [m for m in told if to_ns(m.header.stamp) >= min(ours)]
    assert {(m.twist.linear.x, m.twist.angular.z) for m in said} == {(0.2, 0.3)}
    assert len(said) >= 5


def test_a_fall_terminates_and_the_next_reset_stands_it_up(own):
    own.reset(seed=0)
    _, reward, terminated, truncated, info = flail(own, 0)
    assert (terminated, truncated, info['ended']) == (True, False, 'a fall')
    components = info['reward_components']
    assert components['fall'] == RewardConfig().fall
    assert reward == sum(components.values())
    observation, _ = own.reset(seed=0, options={'command': (0.0, 0.0)})
    assert observation[5] == pytest.approx(-1.0, abs=0.01)  # gravity: upright
    for _ in range(20):
        outcome = own.step(np.zeros(8))
    assert outcome[2:4] == (False, False)


@pytest.mark.parametrize(
    ('action', 'words'),
    [
        (np.zeros(7), r'shape \(7,\), expected \(8,\), .* fl_hip'),
        (np.zeros((1, 8)), r'shape \(1, 8\), expected \(8,\)'),
        (
            np.array([0, 0, 0, np.nan, 0, 0, 0, np.inf]),
            'not finite for fr_knee, rr_knee in step 1',
        ),
    ],
)
def test_unfit_actions_never_reach_the_robot(own, action, words):
    own.reset(seed=0)
    own.step(np.zeros(8))
    before = own.stamp
    with pytest.raises(ValueError, match=words):
        own.step(action)
    assert own.stamp == before
    assert own.step(np.zeros(8))[2:4] == (False, False)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'speed': 0.3}, "known is 'command'"),
        ({'command': 0.3}, r'expected \(m/s, rad/s\)'),
        ({'command': (0.3, np.nan)}, 'two numbers'),
    ],
)
def test_unfit_options_are_refused(own, options, words):
    with pytest.raises(ValueError, match=words):
        own.reset(options=options)


def test_time_out_and_new_commands_come_when_they_are_due(own, monkeypatch):
    monkeypatch.setattr(own.task, 'config', replace(own.config, episode=0.4, hold=0.2))
    _, info = own.reset(seed=4)
    commands, ends = [info['command']], []
    for _ in range(20):
        *_, terminated, truncated, info = own.step(np.zeros(8))
        commands.append(info['command'])
        ends.append((terminated, truncated))
    assert ends == [(False, False)] * 19 + [(False, True)]
    assert info['ended'] == 'time is up'
    changes = [i for i in range(1, 21) if not np.array_equal(commands[i], commands[i - 1])]
    assert changes == [10, 20]


def test_the_drivers_safety_cuts_the_episode_and_a_reset_ends_it(own):
    own.reset(seed=0)
    own.step(np.zeros(8))
    with probe(own._domain) as operator:
        operator.call(Trigger, f'{own._link.node.get_namespace()}/servo_driver/stop')
    _, _, terminated, truncated, info = own.step(np.zeros(8))
    assert (terminated, truncated) == (False, True)
    assert info['ended'].startswith('the driver took over: crouch')
    own.reset(seed=0)
    assert own.step(np.zeros(8))[2:4] == (False, False)


@pytest.mark.slow
def test_stable_baselines_learns_on_it(own):
    """A few hundred steps: the rollout comes from the robot, and the weights change."""
    sb3 = pytest.importorskip('stable_baselines3')
    torch = pytest.importorskip('torch')
    torch.set_num_threads(1)
    learner = sb3.PPO(
        'MlpPolicy', own, n_steps=128, batch_size=64, n_epochs=2, seed=0, device='cpu'
    )
    before = [p.detach().clone() for p in learner.policy.parameters()]
    learner.learn(256)
    assert learner.num_timesteps == 256
    assert any((a != b).any() for a, b in zip(before, learner.policy.parameters(), strict=True))
    rollout = learner.rollout_buffer
    assert np.isfinite(rollout.rewards).all()
    assert rollout.observations.std() > 0.05


def test_our_methods_learn_on_it(own):
    """PPO in a world of one environment, whose robot comes and goes with it."""
    torch = pytest.importorskip('torch')
    torch.set_num_threads(1)
    method, config = find('ppo')
    world = make_world('LeBotROS-v0', 1, 0, domain=own._domain)
    try:
        learner = method(config(horizon=64, epochs=2), world.observation_space, world.action_space)
        before = learner.state()
        metrics = learner.iterate(world)
        assert world.steps == 64
    finally:
        world.close()
    assert np.isfinite(list(metrics.values())).all()
    changed = [
        name
        for name, values in learner.state().items()
        if name.startswith('network.') and not np.array_equal(values, before[name])
    ]
    assert changed


def test_closing_leaves_neither_processes_nor_memory_nor_files():
    domain = fresh_domain()
    before = shared_memory(domain)
    env = make(domain)
    env.reset(seed=0)
    (pid,), folder = env.processes, env._own.folder
    assert psutil.pid_exists(pid)
    assert folder.is_dir()
    assert shared_memory(domain) or not MEMORY.is_dir()
    env.close()
    env.close()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert shared_memory(domain) <= before


def test_nor_does_a_program_that_forgets_to_close():
    domain = fresh_domain()
    before = shared_memory(domain)
    program = (
        'import gymnasium, lebot_rl_ros.envs\n'
        "env = gymnasium.make('LeBotROS-v0').unwrapped\n"
        'env.reset(seed=0)\n'
        'print(*env.processes, env._own.folder)\n'
        "raise SystemExit('forgotten')\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        env=environment(domain), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == 'forgotten\n'
    pid, folder = done.stdout.split()
    assert not psutil.pid_exists(int(pid))
    assert not Path(folder).exists()
    assert shared_memory(domain) <= before


def test_a_robot_that_ends_cuts_the_episode_and_the_reset_after_says_why():
    env = make(fresh_domain(), config=RosEnvConfig(patience=0.5))
    try:
        observation, _ = env.reset(seed=0)
        psutil.Process(env.processes[0]).terminate()
        assert env._link.spin(env._own.failed, 20.0)
        again, reward, terminated, truncated, info = env.step(np.zeros(8))
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert 'silence: no joint_states' in info['ended']
        assert set(info['reward_components'].values()) == {0.0}
        np.testing.assert_array_equal(again, observation)
        with pytest.raises(GraphError, match='sim ended with status 0'):
            env.reset()
        assert env.processes == []
        env.reset(seed=0)  # another robot
        assert env.step(np.zeros(8))[2:4] == (False, False)
    finally:
        env.close()


def test_it_works_over_wires(policy):
    env = make(fresh_domain(), backend='wire')
    try:
        totals = []
        for _ in range(2):
            observation, _ = env.reset(seed=0, options={'command': STRAIGHT})
            total = 0.0
            for _ in range(100):
                observation, reward, terminated, truncated, info = env.step(
                    policy.act(observation)
                )
                assert (terminated, truncated) == (False, False), info
                total += reward
            totals.append(total)
        assert env.driver.path.endswith('/servo_driver')
        assert totals[0] / 100 > 2.8
        assert totals[0] == totals[1]
    finally:
        env.close()


# Joining a graph that runs.


def test_one_robot_has_one_commander():
    domain = fresh_domain()
    with sim(domain), attached(domain) as env, probe(domain) as operator:
        env.reset(seed=0)
        assert env.driver.path == '/sim'
        assert env.driver.lockstep
        with (
            attached(domain) as second,
            pytest.raises(GraphError, match=r'/gym_env_.* also publishes joint_commands'),
        ):
            second.reset()
        with node_process(domain, 'policy', policy='trot'):
            commanded = operator.listen(JointState, '/joint_commands')
            operator.until(lambda: env._link.commanders() > 1 and commanded, 'the policy')
            with pytest.raises(
                GraphError, match=r'/policy also publishes.*deactivate.*policy:=none'
            ):
                flail(env, 0, steps=51)
            with pytest.raises(GraphError, match='/policy also publishes joint_commands'):
                env.reset()
            rest = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
            assert operator.call(ChangeState, '/policy/change_state', rest).success
            env.reset(seed=0)
            assert env.step(np.zeros(8))[2:4] == (False, False)
        with sim(domain) as other:
            operator.until(lambda: drivers(env._link) == ['/sim', '/sim'], 'the other by name')
            with pytest.raises(GraphError, match='2 drivers publish joint_states: /sim, /sim'):
                env.reset()
            assert other.poll() is None


def test_commands_of_an_operator_are_followed_and_ours_make_way():
    domain = fresh_domain()
    with sim(domain), probe(domain) as operator:
        publisher = operator.node.create_publisher(TwistStamped, '/cmd_vel', 10)
        with (
            attached(domain) as drawing,
            pytest.raises(GraphError, match=r"/probe also publishes cmd_vel.*commands='topic'"),
        ):
            drawing.reset()
        with attached(domain, commands='topic') as env:
            _, info = env.reset(seed=0)
            assert info['command'].tolist() == [0.0, 0.0]
            wish = TwistStamped()
            wish.twist.linear.x, wish.twist.angular.z = 0.25, -0.1

            def followed():
                publisher.publish(wish)
                return env.step(np.zeros(8))[4]['command'].tolist() == [0.25, -0.1]

            operator.until(followed, 'the wish')
            for _ in range(60):
                *_, info = env.step(np.zeros(8))
            assert info['command'].tolist() == [0.0, 0.0]  # an old wish means stand
            with pytest.raises(ValueError, match="commands='drawn' only"):
                env.reset(options={'command': STRAIGHT})


def test_where_time_does_not_wait_a_slow_learner_has_its_episode_cut():
    domain = fresh_domain()
    with sim(domain, lockstep=False, real_time_factor=1.0), attached(domain) as env:
        env.reset(seed=0)
        assert not env.driver.lockstep
        period, begin = ROBOT.control_period_ns, env.stamp
        outcome = env.step(np.zeros(8))
        if outcome[2:4] == (False, False):  # a busy machine may have been late already
            assert env.stamp == begin + period
        # Three states go by; after more than those the driver would hold by itself.
        behind = env._link.stamp + 3 * period
        env._link.spin(lambda: env._link.stamp >= behind, 5.0)
        *_, terminated, truncated, info = env.step(np.zeros(8))
        assert (terminated, truncated) == (False, True)
        assert 'a gap of 0.' in info['ended'] or 'the driver took over: ' in info['ended']
        env.reset(seed=0)


@contextmanager
def real_robot(domain):
    """A robot that no service of the driver puts back: a person has to."""
    words = ['-r', 'sim/reset:=person/puts_it_back', '-p', 'lockstep:=true']
    words += ['-p', 'real_time_factor:=5.0', '-p', 'lockstep_timeout:=0.5']
    popen = subprocess.Popen(
        [sys.executable, '-m', 'lebot_rl_ros.nodes.sim', '--ros-args', *words],
        env=environment(domain), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield
    finally:
        popen.terminate()
        assert popen.wait(20) == 0


def test_a_real_robot_is_put_on_its_feet_by_a_person():
    domain = fresh_domain()
    config = RosEnvConfig(operator=0.2)
    with real_robot(domain), attached(domain, config=config) as env, probe(domain) as person:
        env.reset(seed=0)
        assert not env.driver.resets
        *_, terminated, _, info = flail(env, 0)
        assert terminated, info
        with pytest.raises(GraphError, match=r'lies tilted by \d+ deg.*0.2 s nobody helped'):
            env.reset()
        env._rise._config = RosEnvConfig(operator=20.0)
        heard = person.listen(Log, '/rosout')

        def help_it():
            person.until(lambda: any('put it on its feet' in m.msg for m in heard), 'a call')
            person.call(Trigger, '/person/puts_it_back')

        helper = threading.Thread(target=help_it)
        helper.start()
        observation, _ = env.reset(seed=0)
        helper.join()
        assert observation[5] == pytest.approx(-1.0, abs=0.02)
        # A stop is a person's word: no learner takes it back.
        person.call(Trigger, '/servo_driver/stop')
        env.step(np.zeros(8))
        env._rise._config = config
        with pytest.raises(GraphError, match=r'stop requested.*call servo_driver/clear_faults'):
            env.reset()
        person.call(Trigger, '/servo_driver/clear_faults')
        env._rise._config = RosEnvConfig()
        env.reset(seed=0)
        assert env.step(np.zeros(8))[2:4] == (False, False)


assert lebot_rl_ros.envs  # imported for what it registers
