"""What the robot is: joints, limits, poses, kinematics, and the two records everything speaks."""

from lebot_rl_ros.robot.description import Joint, Limits, Robot, ServoModel, load_robot
from lebot_rl_ros.robot.files import share_path
from lebot_rl_ros.robot.kinematics import LegKinematics
from lebot_rl_ros.robot.state import JointCommand, RobotState

__all__ = [
    'Joint',
    'JointCommand',
    'LegKinematics',
    'Limits',
    'Robot',
    'RobotState',
    'ServoModel',
    'load_robot',
    'share_path',
]
