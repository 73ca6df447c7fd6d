"""The nodes of a walk. This list is the only one: launch files and `lebot walk` both read it."""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir

from lebot_rl_ros.bringup.arguments import Values, parse_arguments
from lebot_rl_ros.robot import share_path

Parameter = str | float | bool | list[str]
EXPLORATION = 0.1  # action units, while learning
TRAINED = 'recover'  # adapter that is trained where none is named
LEARNING_TIMEOUT = 10.0  # s of a tick in lockstep, as a learner works, or starts again
REFUSED = 2  # exit status of a node that refuses its parameters or its policy


@dataclass(frozen=True)
class NodeSpec:
    """One process: an executable of this package under a name, with what it is told."""

    executable: str  # entry point, and module of lebot_rl_ros.nodes
    name: str
    namespace: str
    parameters: Mapping[str, Parameter]
    parameter_file: Path
    remappings: tuple[tuple[str, str], ...] = ()
    condition: bool = True  # whether it runs for these arguments
    respawn: bool = False  # restarted when it dies; otherwise its end is the end of the stack
    respawn_delay: float = 2.0  # s
    log_level: str = 'info'
    ends_last: bool = False  # only after the others, as it hears what they say until then

    def respawns(self, status: int) -> bool:
        """Whether it is started again after ending so; what it refused once it would again."""
        return self.respawn and status != REFUSED

    @property
    def logger(self) -> str:
        """Name of the node's logger, as --log-level wants it."""
        return '.'.join([*self.namespace.strip('/').split('/'), self.name]).lstrip('.')

    def ros_arguments(self) -> list[str]:
        """Command line of the node after its executable, as ROS 2 spells it."""
        words = [
            '--ros-args',
            '--log-level',
            f'{self.logger}:={self.log_level}',
            '-r',
            f'__node:={self.name}',
        ]
        if self.namespace:
            words += ['-r', f'__ns:=/{self.namespace.strip("/")}']
        for old, new in self.remappings:
            words += ['-r', f'{old}:={new}']
        words += ['--params-file', str(self.parameter_file)]
        for name, value in self.parameters.items():
            words += ['-p', f'{name}:={_yaml(value)}']
        return words


@dataclass(frozen=True)
class Stack:
    """All processes for one choice of arguments."""

    nodes: tuple[NodeSpec, ...]
    arguments: Values = field(default_factory=dict)

    @property
    def driver(self) -> str:
        """Name of the node that drives the joints, and the clock of the control loop."""
        return 'sim' if self.arguments['backend'] == 'mujoco' else 'servo_driver'


def walk_stack(given: Mapping[str, object]) -> Stack:
    """Describe the graph of `walk` for these arguments.

    Raises:
        ValueError: as :func:`parse_arguments`.
    """
    arguments = parse_arguments(given)
    namespace = str(arguments['namespace']).strip('/')
    config = share_path('config', 'walk.yaml')
    respawn = bool(arguments['respawn'])
    # /clock is a global name: two stacks in one domain would hear each other's.
    remappings = (('/clock', f'/{namespace}/clock'),) if namespace else ()

    def node(
        name: str, parameters: Mapping[str, Parameter], *, dies_alone: bool, condition: bool = True
    ) -> NodeSpec:
        return NodeSpec(
            executable=name,
            name=name,
            namespace=namespace,
            parameters=parameters,
            parameter_file=config,
            remappings=remappings,
            condition=condition,
            respawn=dies_alone and respawn,
            log_level=str(arguments['log_level']),
        )

    robot: dict[str, Parameter] = {'robot': str(arguments['robot'])}
    policy: dict[str, Parameter] = {'policy': str(arguments['policy'])}
    lockstep: dict[str, Parameter] = {'lockstep': bool(arguments['lockstep'])}
    seed: dict[str, Parameter] = {'seed': int(arguments['seed'])}
    learns = bool(arguments['learn'])
    store: dict[str, Parameter] = {'adapter_store': str(arguments['adapter_store'])}
    acting: dict[str, Parameter] = {
        # What is trained, the learner lets act: its newest accepted version, or the base.
        'adapter': '' if learns else str(arguments['adapter']),
        'deterministic': bool(arguments['deterministic']) and not learns,
        # reward, and the recorder; in lockstep the learner, too, so that it misses no step
        'wait_for_listeners': (
            1 + (learns and bool(arguments['lockstep'])) + bool(arguments['record'])
        ),
        'lockstep_cmd_vel': arguments['teleop'] == 'constant',  # as the driver waits for it
    }
    rewarded: dict[str, Parameter] = {'reward': str(arguments['reward'])}
    robots = _simulated if arguments['backend'] == 'mujoco' else _wired
    acts = _acts(arguments)
    nodes = (
        *robots(arguments, node),
        node(
            'policy',
            robot | policy | lockstep | seed | store | acting | _exploring(arguments),
            dies_alone=True,
            condition=acts,
        ),
        node('odometry', robot, dies_alone=True),
        node('reward', robot | policy | rewarded, dies_alone=True, condition=acts),
        node(
            'learner',
            robot | policy | lockstep | seed | store | _learning(arguments),
            dies_alone=True,
            condition=learns,
        ),
        node(
            'teleop',
            {
                'source': str(arguments['teleop']),
                'vx': float(arguments['vx']),
                'wz': float(arguments['wz']),
                'use_sim_time': arguments['backend'] == 'mujoco' or bool(arguments['lockstep']),
            },
            dies_alone=True,
            condition=arguments['teleop'] != 'none',
        ),
    )
    recorder = node(
        'recorder',
        robot | policy | lockstep | _recording(arguments, nodes),
        dies_alone=True,
        condition=bool(arguments['record']),
    )
    return Stack(nodes=(*nodes, replace(recorder, ends_last=True)), arguments=arguments)


def _acts(arguments: Values) -> bool:
    """Whether the graph has a policy; without one somebody else commands, as LeBotROS-v0 does."""
    return arguments['policy'] != 'none'


def _exploring(arguments: Values) -> dict[str, Parameter]:
    """How far the policy tries other actions, which only who is learned from should."""
    given = float(arguments['exploration'])
    return {'exploration': EXPLORATION if arguments['learn'] and given < 0.0 else max(given, 0.0)}


def _learning(arguments: Values) -> dict[str, Parameter]:
    """What the learner is told."""
    return {
        'adapter': str(arguments['adapter']) or TRAINED,
        'fresh': not arguments['adapter'],  # who names one goes on with it
        'learner': str(arguments['learner']),
        'settings': str(arguments['learn_settings']),
        'what': str(arguments['learn_what']),
        'rank': int(arguments['learn_rank']),
        'bags': str(arguments['learn_bags']),
        'folder': str(arguments['learn_folder']),
        'resume': bool(arguments['learn_resume']),
        # Who is started again after a death goes on; another run begins.
        'run': f'{os.getpid()}-{time.time_ns()}' if arguments['learn'] else '',
    }


def _recording(arguments: Values, nodes: tuple[NodeSpec, ...]) -> dict[str, Parameter]:
    """What the recorder is told; ``nodes`` are the others of its graph."""
    return {
        'folder': str(arguments['record_folder']),
        'topics': str(arguments['record_topics']).split() or [''],
        'pattern': str(arguments['record_pattern']),
        'exclude': str(arguments['record_exclude']),
        'split_seconds': float(arguments['record_split']),
        'ring': float(arguments['record_ring']),
        'wait_for': [spec.name for spec in nodes if spec.condition],
        'arguments': json.dumps(dict(arguments)),
    }


def _driver(arguments: Values, *followed: str) -> dict[str, Parameter]:
    """What a driver is told, whatever it drives; ``followed`` are topics of its own ticks."""
    constant = arguments['teleop'] == 'constant'
    simulated = arguments['backend'] != 'hardware'
    learns = bool(arguments['learn'])
    if learns and arguments['lockstep']:
        followed = (*followed, 'learner/progress')
    records = bool(arguments['record'])
    if records:
        followed = (*followed, 'recorder/progress')
    up = arguments['get_up']
    patient: dict[str, Parameter] = {'lockstep_timeout': LEARNING_TIMEOUT} if learns else {}
    return patient | {
        'get_up': learns and simulated if up == 'auto' else up == 'true',
        'robot': str(arguments['robot']),
        'lockstep': bool(arguments['lockstep']),
        'real_time_factor': float(arguments['real_time_factor']),
        'lockstep_topics': ['joint_commands', *followed, *(('cmd_vel',) if constant else ())],
        'duration': float(arguments['duration']),
        # A monitor reads the last word and then ends the stack; without one, the end of the driver
        # is the end of the stack.
        'exit_when_finished': not arguments['monitored'],
        # policy, odometry and reward, or who commands, and the recorder: none misses the start
        'wait_for_listeners': (3 if _acts(arguments) else 1) + records,
        'wait_for_monitor': bool(arguments['monitored']),
    }


def _faults(arguments: Values) -> list[str]:
    """ROS cannot write an empty list in YAML."""
    return str(arguments['faults']).split() or ['']


def _simulated(arguments: Values, node: Callable[..., NodeSpec]) -> tuple[NodeSpec, ...]:
    """The robot as one node: MuJoCo behind the topics of the drivers."""
    told = _driver(arguments) | {
        'seed': int(arguments['seed']),
        'faults': _faults(arguments),
        'randomise': bool(arguments['randomise']),
        'servos': str(arguments['servos']),
        'held': bool(arguments['held']),
        'camera_rate': float(arguments['camera_rate']),
        'headless': bool(arguments['headless']),
    }
    return (node('sim', told, dies_alone=False),)


def _wired(arguments: Values, node: Callable[..., NodeSpec]) -> tuple[NodeSpec, ...]:
    """The robot as its drivers; behind their ports an emulator, or the real devices."""
    robot: dict[str, Parameter] = {'robot': str(arguments['robot'])}
    lockstep, emulated = bool(arguments['lockstep']), arguments['backend'] == 'wire'
    servo_port, imu_port = str(arguments['servo_port']), str(arguments['imu_port'])
    camera = str(arguments['camera'])
    bus: dict[str, Parameter] = {'bus': str(arguments['bus'])}
    emulator: dict[str, Parameter] = {}
    driver = _driver(arguments, 'imu/data')
    if emulated:
        folder = str(arguments['ports']) or f'{gettempdir()}/lebot-{os.getuid()}/{os.getpid()}'
        servo_port, imu_port = f'{folder}/servos', f'{folder}/imu'
        rate, port = float(arguments['camera_rate']), 0
        if rate:
            port = _free_port()
            camera = f'http://127.0.0.1:{port}/camera.mjpg'
        emulator = {
            'ports': folder,
            'lockstep': lockstep,
            'real_time_factor': float(arguments['real_time_factor']),
            'seed': int(arguments['seed']),
            'faults': _faults(arguments),
            'randomise': bool(arguments['randomise']),
            'servos': str(arguments['servos']),
            'held': bool(arguments['held']),
            'camera_rate': rate,
            'camera_port': port,
        }
        # A laptop that plays the servos is later than they would be.
        driver |= {'wait_for_graph': True, 'reply_slack': 0.01}
    else:
        driver |= {'wait_for_listeners': 0, 'wait_for_monitor': False}
    return (
        node('emulator', robot | bus | emulator, dies_alone=False, condition=emulated),
        node(
            'servo_driver',
            driver | bus | {'port': servo_port, 'calibration': str(arguments['calibration'])},
            # A driver that died has let go of the servos: whoever looks after the robot decides
            # when they get torque again.
            dies_alone=False,
        ),
        node('imu_driver', robot | {'port': imu_port, 'lockstep': lockstep}, dies_alone=True),
        node('camera_driver', {'source': camera}, dies_alone=True, condition=bool(camera)),
    )


def _free_port() -> int:
    """A TCP port that nobody has; between here and its use somebody might take it."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def _yaml(value: Parameter) -> str:
    """A parameter as ROS 2's command line reads it: YAML, text quoted so that it stays text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return '[' + ', '.join(_yaml(entry) for entry in value) + ']'
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
