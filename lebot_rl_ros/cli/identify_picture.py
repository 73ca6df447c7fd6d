"""What the servos did, and what the simulator says with the old parameters and with the new."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify import WINDOW, Identified, held_paths
from lebot_rl_ros.sim.identify_data import Readings, window_starts
from lebot_rl_ros.sim.identify_walk import predict_walk, walk_starts, walk_windows

SHOWN = 4  # windows, one after the other


def draw(path: Path, robot: Robot, readings: Readings, found: Identified) -> None:
    """Write a PNG: every joint where the old parameters were worst.

    Predictions begin anew at what was measured every ``WINDOW`` s.

    Args:
        path: of the picture.
        robot: with the old parameters.
        readings: that were identified from.
        found: the new ones.
    """
    from matplotlib.figure import Figure

    ticks = round(WINDOW * robot.control_rate)
    if found.body == 'held':
        starts = window_starts(readings, robot.control_period_ns, ticks)
    else:
        starts = walk_starts(robot, readings, ticks)
    old, new = (_paths(each, readings, found.body, starts, ticks) for each in (robot, found.robot))
    columns = 2
    rows = -(-len(robot.joints) // columns)
    figure = Figure(figsize=(13, 2.3 * rows + 0.6), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for joint, name in enumerate(robot.joint_names):
        first = _worst(old[..., joint], starts, ticks, readings.position[:, joint])
        for window in range(first, min(first + SHOWN, len(starts))):
            at = starts[window] + np.arange(ticks + 1)
            time = (readings.stamp[at] - readings.stamp[starts[first]]) / 1e9
            begin = readings.position[at[0], joint]
            label = window == first
            axes[joint].plot(
                time, readings.command[at, joint], color='0.75', drawstyle='steps-post',
                label='commanded' if label else None,
            )  # fmt: skip
            axes[joint].plot(
                time, readings.position[at, joint], 'k.', markersize=4,
                label='measured' if label else None,
            )  # fmt: skip
            for paths, style, who in ((old, 'C3--', 'old servos'), (new, 'C0-', 'identified')):
                axes[joint].plot(
                    time, np.append(begin, paths[window, :, joint]), style, linewidth=1.4,
                    label=who if label else None,
                )  # fmt: skip
        before, after = (1e3 * p.ahead[joint] for p in (found.before, found.after))
        axes[joint].set_title(
            f'{name}: {before:.1f} mrad before, {after:.1f} after, {WINDOW:g} s ahead', fontsize=9
        )
        axes[joint].set_ylabel('rad')
        axes[joint].grid(alpha=0.3)
    for unused in axes[len(robot.joints) :]:
        unused.set_visible(False)
    for bottom in axes[len(robot.joints) - columns : len(robot.joints)]:
        bottom.set_xlabel('s; predictions begin anew at a reading every half second')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside upper center', ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={'Software': None})


def _paths(
    robot: Robot, readings: Readings, body: str, starts: npt.NDArray[np.intp], ticks: int
) -> FloatArray:
    if body == 'held':
        return held_paths(robot, readings, starts, ticks)
    return predict_walk(robot, walk_windows(robot, readings, starts, ticks))


def _worst(
    paths: FloatArray, starts: npt.NDArray[np.intp], ticks: int, measured: FloatArray
) -> int:
    """First of the consecutive windows with the largest errors."""
    error = paths - measured[starts[:, None] + 1 + np.arange(ticks)]
    cost = np.sum(error**2, axis=1)
    runs = np.convolve(cost, np.ones(min(SHOWN, len(cost))), mode='valid')
    return int(np.argmax(runs))
