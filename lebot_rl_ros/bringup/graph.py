"""The nodes of a walk. This list is the only one: launch files and `lebot walk` both read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lebot_rl_ros.bringup.arguments import Values, parse_arguments
from lebot_rl_ros.robot import share_path

Parameter = str | float | bool | list[str]
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
    constant = arguments['teleop'] == 'constant'

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
    acting: dict[str, Parameter] = {
        'adapter': str(arguments['adapter']),
        'adapter_store': str(arguments['adapter_store']),
        'deterministic': bool(arguments['deterministic']),
        'wait_for_listeners': 1,  # reward
    }
    topics = ['joint_commands', 'cmd_vel'] if constant else ['joint_commands']
    return Stack(
        nodes=(
            node(
                'sim',
                robot
                | lockstep
                | seed
                | {
                    'real_time_factor': float(arguments['real_time_factor']),
                    'lockstep_topics': topics,
                    'duration': float(arguments['duration']),
                    # A monitor reads the last word and then ends the stack; without one, the
                    # end of the simulation is the end of the stack.
                    'exit_when_finished': not arguments['monitored'],
                    'faults': str(arguments['faults']).split() or [''],
                    'randomise': bool(arguments['randomise']),
                    'camera_rate': float(arguments['camera_rate']),
                    # policy, odometry and reward: none of them misses the start
                    'wait_for_listeners': 3,
                    'wait_for_monitor': bool(arguments['monitored']),
                    'headless': bool(arguments['headless']),
                },
                dies_alone=False,
            ),
            node('policy', robot | policy | lockstep | seed | acting, dies_alone=True),
            node('odometry', robot, dies_alone=True),
            node('reward', robot | policy, dies_alone=True),
            node(
                'teleop',
                {
                    'source': str(arguments['teleop']),
                    'vx': float(arguments['vx']),
                    'wz': float(arguments['wz']),
                    'use_sim_time': True,
                },
                dies_alone=True,
                condition=arguments['teleop'] != 'none',
            ),
        ),
        arguments=arguments,
    )


def _yaml(value: Parameter) -> str:
    """A parameter as ROS 2's command line reads it: YAML, text quoted so that it stays text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return '[' + ', '.join(_yaml(entry) for entry in value) + ']'
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
