"""Walk: `ros2 launch lebot_rl_ros walk.launch.py`; `--show-args` explains every argument.

The graph itself stands in lebot_rl_ros/bringup, where `lebot walk` reads it too.
"""

from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from lebot_rl_ros.bringup.arguments import ARGUMENTS, parse_arguments
from lebot_rl_ros.bringup.graph import NodeSpec, walk_stack


def launch_node(spec: NodeSpec) -> Node:
    """Turn a node of the graph into its launch action."""
    parameters = {
        name: ParameterValue(
            value, value_type=list[str] if isinstance(value, list) else type(value)
        )
        for name, value in spec.parameters.items()
    }
    ends = [] if spec.respawn else [Shutdown(reason=f'{spec.name} ended')]
    return Node(
        package='lebot_rl_ros',
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[str(spec.parameter_file), parameters],
        remappings=list(spec.remappings),
        ros_arguments=['--log-level', f'{spec.name}:={spec.log_level}'],
        condition=IfCondition(str(spec.condition).lower()),
        respawn=spec.respawn,
        respawn_delay=spec.respawn_delay,
        on_exit=ends,
        output='both',
        emulate_tty=True,
    )


def launch_stack(context: LaunchContext) -> list[Action]:
    """Read the arguments and make the nodes."""
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    stack = walk_stack(given)
    note = LogInfo(msg=f'lebot walks: {parse_arguments(given)}')
    return [note, *(launch_node(spec) for spec in stack.nodes)]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; nodes are made once their values are known."""
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=str(argument.default).lower()
            if isinstance(argument.default, bool)
            else str(argument.default),
            description=argument.description,
            choices=[*argument.choices, *argument.later] or None,
        )
        for argument in ARGUMENTS
    ]
    # DDS stays on this machine unless the user has asked for the network.
    local = SetEnvironmentVariable(
        'ROS_AUTOMATIC_DISCOVERY_RANGE',
        EnvironmentVariable('ROS_AUTOMATIC_DISCOVERY_RANGE', default_value='LOCALHOST'),
    )
    return LaunchDescription([*declared, local, OpaqueFunction(function=launch_stack)])
