"""Walk: `ros2 launch lebot_rl_ros walk.launch.py`; `--show-args` explains every argument.

The graph itself stands in lebot_rl_ros/bringup, where `lebot walk` reads it too.
"""

from collections.abc import Callable

from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from lebot_rl_ros.bringup.arguments import ARGUMENTS, Argument
from lebot_rl_ros.bringup.graph import NodeSpec, walk_stack


def launch_node(spec: NodeSpec) -> Node:
    """Turn a node of the graph into its launch action."""
    parameters = {
        name: ParameterValue(
            value, value_type=list[str] if isinstance(value, list) else type(value)
        )
        for name, value in spec.parameters.items()
    }
    return Node(
        package='lebot_rl_ros',
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[str(spec.parameter_file), parameters],
        remappings=list(spec.remappings),
        ros_arguments=['--log-level', f'{spec.logger}:={spec.log_level}'],
        condition=IfCondition(str(spec.condition).lower()),
        respawn=spec.respawn,
        respawn_delay=spec.respawn_delay,
        on_exit=when_ended(spec),
        output='both',
        emulate_tty=True,
    )


def when_ended(spec: NodeSpec) -> Callable[[ProcessExited, LaunchContext], Shutdown | None]:
    """What its end means for the others: theirs, unless its rule starts it again."""

    def rule(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        if context.is_shutdown or spec.respawns(event.returncode):
            return None
        return Shutdown(reason=f'{spec.name} ended with status {event.returncode}')

    return rule


def launch_stack(context: LaunchContext) -> list[Action]:
    """Read the arguments and make the nodes."""
    stack = walk_stack(
        {
            argument.name: LaunchConfiguration(argument.name).perform(context)
            for argument in ARGUMENTS
        }
    )
    chosen = ', '.join(f'{name} {value}' for name, value in stack.arguments.items() if value != '')
    return [LogInfo(msg=f'lebot walks: {chosen}'), *(launch_node(spec) for spec in stack.nodes)]


def declare(argument: Argument) -> DeclareLaunchArgument:
    """Turn an argument into its launch action."""
    default = str(argument.default)
    later = f' ({", ".join(argument.later)}: not in this version)' if argument.later else ''
    return DeclareLaunchArgument(
        argument.name,
        default_value=default.lower() if isinstance(argument.default, bool) else default,
        description=argument.description + later,
        choices=[*argument.choices, *argument.later] or None,
    )


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; nodes are made once their values are known."""
    # DDS stays on this machine unless the user has asked for the network.
    local = SetEnvironmentVariable(
        'ROS_AUTOMATIC_DISCOVERY_RANGE',
        EnvironmentVariable('ROS_AUTOMATIC_DISCOVERY_RANGE', default_value='LOCALHOST'),
    )
    return LaunchDescription(
        [*map(declare, ARGUMENTS), local, OpaqueFunction(function=launch_stack)]
    )
