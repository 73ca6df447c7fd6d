"""Pictures of the robot's body: its joints, and what its IMU felt."""

from typing import Any

import numpy as np

from lebot_rl_ros.cli.bag_plot_run import Numbers, Run
from lebot_rl_ros.cli.bag_plot_style import (
    APPLIED,
    COMMANDED,
    FAINT,
    MEASURED,
    mark_falls,
    new_figure,
    window,
)
from lebot_rl_ros.cli.bag_plot_thin import envelope, mean_over, thin
from lebot_rl_ros.ros import names

AXES = 'xyz'
LINES = 6000  # values up to which a line shows each; beyond, a band and the mean


def joints(run: Run) -> Any:
    """Every joint over the whole bag: what was measured, and what was applied."""
    return _joints(run, None)


def joints_close(run: Run) -> Any:
    """Two seconds of the joints in the middle of the longest walk, line by line."""
    tracks = [(end - start, start, end) for start, end, word in run.modes if word == 'TRACK']
    state = run.times.get(names.JOINT_STATES)
    if state is None or not len(state):
        return None
    _, start, end = max(tracks, default=(0.0, float(state[0]), float(state[-1])))
    middle = (start + end) / 2
    return _joints(run, (middle - 1.0, middle + 1.0))


def _joints(run: Run, window: tuple[float, float] | None) -> Any:
    sources = [
        (names.JOINT_STATES, 'measured', MEASURED, '-'),
        (names.JOINT_COMMANDS_APPLIED, 'applied', APPLIED, '-'),
        (names.JOINT_COMMANDS, 'commanded', COMMANDED, '--'),
    ]
    sources = [s for s in sources if s[0] in run.columns and s[0] in run.times
               and 'position' in run.columns[s[0]].fields]  # fmt: skip
    if not sources:
        return None
    order = run.columns[sources[0][0]].names
    rows = (len(order) + 1) // 2
    figure = new_figure(1.2 + 1.55 * rows)
    panels = np.atleast_1d(figure.subplots(rows, 2, sharex=True, squeeze=False)).ravel()
    handles: dict[str, Any] = {}
    for name, label, colour, style in sources:
        found, time = run.columns[name], run.times[name]
        for i, joint in enumerate(order):
            if joint not in found.names:
                continue
            values = found.fields['position'][:, found.names.index(joint)]
            if window is None and name == names.JOINT_STATES:
                low_high = envelope(time, values, strides(time))
                handles[label] = panels[i].fill_between(
                    *low_high, color=FAINT, edgecolor=colour, linewidth=0.8
                )
            elif window is None:
                if name == names.JOINT_COMMANDS:
                    continue  # nearly the same as applied
                at, low, high = envelope(time, values, strides(time))
                for edge in (low, high):
                    handles[label] = panels[i].plot(at, edge, color=colour)[0]
            else:
                near = (time >= window[0]) & (time <= window[1])
                width = 1.8 if name == names.JOINT_COMMANDS_APPLIED else 1.2
                handles[label] = panels[i].plot(
                    time[near], values[near], style, color=colour, linewidth=width
                )[0]
    for i, axes in enumerate(panels):
        if i < len(order):
            axes.set_title(order[i], fontsize=11)
        else:
            axes.set_visible(False)
    figure.supylabel('rad', fontsize=12)
    figure.supxlabel(run.clock.label, fontsize=12)
    figure.legend(handles.values(), handles.keys(), loc='outside upper center', ncols=3)
    if window is None:
        mark_falls(list(panels[: len(order)]), run)
    return figure


def strides(time: Numbers) -> int:
    """Bins of an envelope that have a stride or more in each: at most 300, of 0.8 s at least."""
    span = float(time[-1] - time[0]) if len(time) else 0.0
    return int(np.clip(span / 0.8, 2, 300))


def imu(run: Run) -> Any:
    """Attitude, rates and acceleration of the body."""
    found = run.columns.get(names.IMU)
    if found is None:
        return None
    time = run.times[names.IMU]
    x, y, z, w = found.fields['orientation'].T
    roll = np.degrees(np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)))
    pitch = np.degrees(np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0)))
    groups = [
        ('attitude', 'degrees', (('roll', roll), ('pitch', pitch))),
        ('angular velocity', 'rad/s', _xyz(found.fields['angular_velocity'])),
        ('acceleration, gravity included', 'm/s²', _xyz(found.fields['linear_acceleration'])),
    ]
    if (found.fields['orientation_covariance'][:, 0] == -1).all():
        groups = groups[1:]  # not measured (REP-145)
    figure = new_figure(2.3 * len(groups) + 0.4)
    panels = figure.subplots(len(groups), 1, sharex=True)
    for axes, (title, unit, lines) in zip(panels, groups, strict=True):
        for (label, values), colour in zip(lines, (MEASURED, COMMANDED, APPLIED), strict=False):
            if len(values) <= LINES:
                axes.plot(time, values, color=colour, label=label, linewidth=0.9, alpha=0.85)
                continue
            axes.fill_between(*envelope(time, values), color=colour, alpha=0.25, linewidth=0)
            middle = thin(time, mean_over(time, values, window(run)), 600)
            axes.plot(*middle, color=colour, label=label)
        axes.set(title=title, ylabel=unit)
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    panels[-1].set_xlabel(run.clock.label)
    mark_falls(panels, run)
    return figure


def _xyz(values: Numbers) -> tuple[tuple[str, Numbers], ...]:
    return tuple((axis, values[:, i]) for i, axis in enumerate(AXES))
