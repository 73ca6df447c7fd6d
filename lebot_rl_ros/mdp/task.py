"""From sensed state to Step: the one path that node, simulator and bag share."""

import numpy as np

from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.step import Step
from lebot_rl_ros.robot import Robot, RobotState, rotations
from lebot_rl_ros.robot.odometry import foot_heights, leg_odometry
from lebot_rl_ros.robot.state import FloatArray


def make_step(
    robot: Robot,
    gait: Gait,
    state: RobotState,
    command: FloatArray,
    action: FloatArray,
    previous_action: FloatArray,
    *,
    feet_too: bool = True,
) -> Step:
    """Derive everything that terms look at; see :class:`Step` for shapes.

    Observations need no feet: without ``feet_too`` the fields from leg kinematics have no
    elements, and a term that reads them fails loudly.
    """
    gravity = rotations.gravity_in_body(state.orientation)
    if not feet_too:
        nothing = np.empty(0)
        return Step(
            state,
            gravity,
            nothing,
            nothing,
            np.asarray(command),
            gait.phase(state.stamp),
            action,
            previous_action,
        )
    feet = robot.legs(state.joint_position, state.joint_velocity)
    height = foot_heights(feet, gravity)
    return Step(
        state=state,
        gravity=gravity,
        velocity=leg_odometry(robot, feet, gravity, state.angular_velocity),
        foot_height=height - height.min(axis=-1, keepdims=True),
        command=np.asarray(command),
        phase=gait.phase(state.stamp),
        action=action,
        previous_action=previous_action,
    )
