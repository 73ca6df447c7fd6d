"""`lebot identify --check`: two sets of servos judged by one recording, nothing fitted."""

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.sim.identify import WINDOW, Identified, JointResult, held_paths, judged
from lebot_rl_ros.sim.identify_data import Readings, cut, window_starts
from lebot_rl_ros.sim.identify_walk import predict_walk, walk_starts, walk_windows

GIVEN = {'all': 'as given'}


def compared(old: Robot, new: Robot, readings: Readings, body: str) -> Identified:
    """Errors of both over the whole recording, in windows put end to end.

    Args:
        old: with the servos to compare with.
        new: with those in question.
        readings: of a bag that they were not fitted to, best.
        body: 'held' or 'free'.
    """
    ticks = round(WINDOW * old.control_rate)
    if body == 'held':
        starts = window_starts(readings, old.control_period_ns, ticks)
        measured = cut(readings.position, starts + 1, ticks)
        errors = [held_paths(each, readings, starts, ticks) - measured for each in (old, new)]
    else:
        starts = walk_starts(old, readings, ticks)
        windows = walk_windows(old, readings, starts, ticks)
        errors = [predict_walk(each, windows) - windows.measured for each in (old, new)]
    joints = tuple(
        JointResult(name, servo, {}, GIVEN, len(starts))
        for name, servo in zip(new.joint_names, new.joint_servos, strict=True)
    )
    return Identified(new, body, joints, *map(judged, errors))
