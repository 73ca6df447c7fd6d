"""What a walk can be asked for: the arguments that `ros2 launch` and `lebot walk` share."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """One argument. The type of ``default`` is the argument's."""

    name: str
    default: str | float | bool
    description: str
    choices: tuple[str, ...] = ()
    later: tuple[str, ...] = ()  # choices that this version does not have yet
    only: tuple[str, ...] = ()  # backends for which it means something; all if empty


SIMULATED = ('mujoco', 'wire')
REPLAYING = ('td3',)  # learners that can use steps of a bag
WIRED = ('wire', 'hardware')

ARGUMENTS = (
    Argument(
        'backend',
        'mujoco',
        'where the robot is: simulated behind its topics (mujoco) or behind its serial wires '
        '(wire), or real (hardware)',
        ('mujoco', 'wire', 'hardware'),
        ('gazebo',),
    ),
    Argument(
        'bus', 'feetech', 'servos of wire and hardware', ('feetech', 'dynamixel'), only=WIRED
    ),
    Argument(
        'servo_port', '/dev/lebot-servos', 'serial port of the servos, by id', only=('hardware',)
    ),
    Argument('imu_port', '/dev/lebot-imu', 'serial port of the IMU, by id', only=('hardware',)),
    Argument('camera', '', "device, file or URL of the camera; '' for none", only=('hardware',)),
    Argument('calibration', '', "of the joints, a YAML file; '' is this user's", only=WIRED),
    Argument(
        'ports', '', "folder for the emulated ports; '' is one of this process", only=('wire',)
    ),
    Argument('robot', 'lebot', 'name in config/robots, or path of a joint table'),
    Argument(
        'policy',
        'walk',
        'name in policies, path of a policy folder, trot (open loop), or none: somebody else '
        'commands, as the environment LeBotROS-v0',
    ),
    Argument(
        'adapter',
        '',
        'of the policy from the start: NAME[@VERSION][:WEIGHT] joined by +, or path of a folder; '
        'with learn the NAME that is trained on; if none is given recover, from the base',
    ),
    Argument('adapter_store', '', "folder of adapters; without it this user's"),
    Argument('namespace', '', 'of all nodes and topics'),
    Argument('vx', 0.3, 'forward speed to command, m/s'),
    Argument('wz', 0.0, 'yaw rate to command, rad/s'),
    Argument(
        'teleop',
        'constant',
        'who commands: constant (vx, wz), joy, or none',
        ('constant', 'joy', 'none'),
    ),
    Argument('duration', 0.0, 'seconds of robot time, then crouch; 0: until stopped'),
    Argument(
        'real_time_factor',
        1.0,
        'speed of the simulation; 0: as fast as it goes, in lockstep',
        only=SIMULATED,
    ),
    Argument(
        'lockstep',
        False,
        'the simulation waits for the policy at every tick; always so at real_time_factor 0',
        only=SIMULATED,
    ),
    Argument('seed', 0, 'of every random draw'),
    Argument(
        'faults',
        '',
        'injected into the simulation, as in slip:rr_hip:0.35@10, or into its wires, as in '
        'drop:fl_knee:0.2@5-8, separated by spaces',
        only=SIMULATED,
    ),
    Argument('randomise', False, 'draw the simulated robot as in training', only=SIMULATED),
    Argument(
        'servos',
        '',
        "of the simulated robot, a file that `lebot identify` wrote; '' is the joint table's",
        only=SIMULATED,
    ),
    Argument(
        'held', False, 'the simulated body hangs clamped in the air, legs free', only=SIMULATED
    ),
    Argument('deterministic', True, 'false samples the actions, to explore'),
    Argument('headless', True, 'false opens a window on the simulation', only=('mujoco',)),
    Argument(
        'camera_rate', 0.0, 'Hz of the simulated camera, robot time; 0: none', only=SIMULATED
    ),
    Argument(
        'monitored',
        False,
        'robot time begins when someone listens to ground_truth/odom, and after duration the '
        'simulation stays; else it ends, and everything with it',
    ),
    Argument('respawn', True, 'restart nodes that die, by their rule'),
    Argument('log_level', 'info', 'of all nodes', ('debug', 'info', 'warn', 'error', 'fatal')),
    Argument('learn', False, 'train an adapter while walking; adapter then names it'),
    Argument(
        'learner', 'td3', 'how it learns', ('td3', 'ppo', 'actor_critic', 'streaming_actor_critic')
    ),
    Argument('learn_what', 'lora', 'what is trained', ('lora', 'bias', 'last_layer', 'all')),
    Argument('learn_rank', 4, 'of lora'),
    Argument('learn_settings', '', 'of the learner, NAME=VALUE separated by spaces'),
    Argument(
        'learn_folder', '', "of the learner's checkpoints and curves; '' is one of this user"
    ),
    Argument(
        'learn_bags', '', 'folders of bags whose steps are learned from, too, separated by spaces'
    ),
    Argument('learn_resume', False, "go on from the folder's checkpoint, whatever run it is of"),
    Argument(
        'exploration',
        -1.0,
        'standard deviation of correlated noise on actions, policy units; negative: 0.1 while '
        'learning, else none',
    ),
    Argument('reward', '', "name in config/rewards, or path of such a file; '' is the task's own"),
    Argument(
        'get_up',
        'auto',
        'after a fall get up by a script; auto: while learning in simulation',
        ('auto', 'true', 'false'),
    ),
    Argument('record', False, 'record a bag of all that is said'),
    Argument(
        'record_folder', '', "of the bag; '' is a new one of this user; no old bag is changed"
    ),
    Argument(
        'record_topics',
        '',
        "to record, separated by spaces; '', without a pattern too, is all of the namespace and "
        'what robots share',
    ),
    Argument('record_pattern', '', 'regular expression that topics to record contain'),
    Argument(
        'record_exclude',
        'image_raw$',
        "regular expression of topics to leave out, if they are not listed; '': none",
    ),
    Argument('record_split', 0.0, 's of a bag in one file; 0: all'),
    Argument(
        'record_ring',
        0.0,
        's that are kept in memory, and written at a fall or when the service recorder/save asks; '
        '0: everything is written',
    ),
)
ADAPTER_NAME = re.compile('[a-z][a-z0-9_-]*')
BY_NAME = {argument.name: argument for argument in ARGUMENTS}

Values = Mapping[str, str | float | bool]


def parse_arguments(given: Mapping[str, object]) -> dict[str, str | float | bool]:
    """Fill in defaults and turn text into the arguments' types.

    Raises:
        ValueError: an unknown argument, a value of the wrong type, a choice that is none or not
            yet one, or an argument that means nothing for this backend or without learning.
    """
    unknown = [name for name in given if name not in BY_NAME]
    if unknown:
        raise ValueError(f'unknown arguments {unknown}; known are {", ".join(BY_NAME)}')
    values: dict[str, str | float | bool] = {}
    for argument in ARGUMENTS:
        value = given.get(argument.name, argument.default)
        values[argument.name] = _convert(argument, value)
    if values['real_time_factor'] == 0:
        values['lockstep'] = True
    backend = values['backend']
    for argument in ARGUMENTS:
        meant = backend in (argument.only or (backend,))
        if not meant and values[argument.name] != argument.default:
            raise ValueError(
                f'{argument.name} is {values[argument.name]!r}, but the backend is {backend}; '
                f'it is for {" and ".join(argument.only)}'
            )
    if backend == 'wire' and values['real_time_factor'] not in (0.0, 1.0):
        raise ValueError(
            f'real_time_factor is {values["real_time_factor"]}; the wires of backend wire know 1 '
            'and 0 (as fast as it goes, in lockstep)'
        )
    if values['learn']:
        _check_learning(values)
    elif values['learn_bags']:
        raise ValueError(
            f'learn_bags is {values["learn_bags"]!r}, which nobody learns from; give learn'
        )
    return values


def _check_learning(values: Values) -> None:
    if values['policy'] in ('trot', 'none'):
        raise ValueError(f'policy is {values["policy"]}, which has nothing to learn with learn')
    adapter = str(values['adapter'])
    if adapter and not ADAPTER_NAME.fullmatch(adapter):
        raise ValueError(
            f'adapter is {adapter!r}; with learn it is the name of what is trained, as recover: '
            'a letter, then letters, digits, - and _, all small'
        )
    if values['learn_bags'] and values['learner'] not in REPLAYING:
        raise ValueError(
            f'learner is {values["learner"]}, which learns from the newest steps alone; with '
            f'learn_bags it is {" or ".join(REPLAYING)}'
        )
    if int(values['learn_rank']) < 1:
        raise ValueError(f'learn_rank is {values["learn_rank"]}, must be 1 or more')


def _convert(argument: Argument, value: object) -> str | float | bool:
    text = str(value).strip()
    if isinstance(argument.default, bool):
        text = text.lower()
    if text in argument.later:
        choices = ', '.join(argument.choices)
        raise ValueError(f'{argument.name}: {text} is not in this version; choices are {choices}')
    if isinstance(argument.default, bool):
        if text not in ('true', 'false'):
            raise ValueError(f'{argument.name} is {text!r}; choices are true, false')
        return text == 'true'
    if isinstance(argument.default, (int, float)):
        try:
            number = type(argument.default)(text)
            if math.isfinite(number):
                return number
            raise ValueError(number)
        except ValueError:
            kind = 'a whole number' if isinstance(argument.default, int) else 'a number'
            raise ValueError(f'{argument.name} is {text!r}; expected {kind}') from None
    if argument.choices and text not in argument.choices:
        raise ValueError(f'{argument.name} is {text!r}; choices are {", ".join(argument.choices)}')
    return text
