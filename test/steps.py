"""Steps to score: a robot that stands, and random ones of any leading shape."""

from dataclasses import fields, replace

import numpy as np

from lebot_rl_ros.mdp.step import Step
from lebot_rl_ros.robot import RobotState


def standing(robot, *shape):
    """A robot that stands still and is asked to walk at 0.3 m/s, at phase 0."""
    joints, feet = len(robot.joints), len(robot.feet)
    state = RobotState(
        stamp=np.zeros(shape, dtype=np.int64),
        joint_position=np.tile(robot.stand, (*shape, 1)),
        joint_velocity=np.zeros((*shape, joints)),
        joint_effort=np.zeros((*shape, joints)),
        orientation=np.tile([1.0, 0, 0, 0], (*shape, 1)),
        angular_velocity=np.zeros((*shape, 3)),
        linear_acceleration=np.tile([0, 0, 9.81], (*shape, 1)),
    )
    return Step(
        state=state,
        gravity=np.tile([0.0, 0, -1], (*shape, 1)),
        velocity=np.zeros((*shape, 3)),
        foot_height=np.zeros((*shape, feet)),
        command=np.tile([0.3, 0.0], (*shape, 1)),
        phase=np.zeros(shape),
        action=np.zeros((*shape, joints)),
        previous_action=np.zeros((*shape, joints)),
    )


def with_state(step, **values):
    return replace(step, state=replace(step.state, **values))


def random_step(robot, *shape, seed=0):
    rng = np.random.default_rng(seed)
    step = standing(robot, *shape)

    def noise(array):
        return array + 0.3 * rng.standard_normal(array.shape)

    state = {
        f.name: noise(getattr(step.state, f.name)) for f in fields(RobotState) if f.name != 'stamp'
    }
    rest = {f.name: noise(getattr(step, f.name)) for f in fields(Step) if f.name != 'state'}
    return Step(state=replace(step.state, **state), **rest)


def at(step, index):
    state = {f.name: getattr(step.state, f.name)[index] for f in fields(RobotState)}
    rest = {f.name: getattr(step, f.name)[index] for f in fields(Step) if f.name != 'state'}
    return Step(state=RobotState(**state), **rest)
