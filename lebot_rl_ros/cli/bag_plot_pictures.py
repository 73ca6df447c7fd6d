"""Pictures of a bag, each a figure of its own: narrow, so that a telephone shows them readably."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lebot_rl_ros.cli.bag_plot_body import imu, joints, joints_close
from lebot_rl_ros.cli.bag_plot_run import Numbers, Run
from lebot_rl_ros.cli.bag_plot_style import (
    APPLIED,
    COMMANDED,
    FAINT,
    FELL,
    MEASURED,
    STYLE,
    at_least,
    mark_falls,
    new_figure,
    window,
)
from lebot_rl_ros.cli.bag_plot_thin import envelope, mean_over, thin
from lebot_rl_ros.ros import names

MODES = {
    'RELAXED': '#d9d9d9', 'STAND_UP': '#f2d492', 'TRACK': '#b7dfc3', 'HOLD': '#f4c28f',
    'CROUCH': '#cfc4e3', 'GET_UP': '#f0a8a0',
}  # fmt: skip
FEWEST = 5  # messages in a bin of the picture of rates


def walk(run: Run) -> Any:
    """Speed and yaw rate against the command, and what the driver did."""
    truth = names.GROUND_TRUTH in run.columns
    name = names.GROUND_TRUTH if truth else names.ODOM
    measured = run.columns.get(name)
    commanded = command(run)
    if measured is None and commanded is None:
        return None
    figure = new_figure(6.0)
    top, middle, band = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 0.6))
    for axes, column, title, unit, which in (
        (top, 0, 'forward speed', 'm/s', 0),
        (middle, 5, 'yaw rate', 'rad/s', 1),
    ):
        if measured is not None:
            time, values = run.times[name], measured.fields['twist'][:, column]
            axes.fill_between(*envelope(time, values), color=FAINT, label='each tick')
            if len(values) <= 1200:
                axes.plot(time, values, color=FAINT, linewidth=0.8)
            smooth = thin(time, mean_over(time, values, window(run)))
            source = 'true' if truth else 'leg odometry'
            axes.plot(*smooth, color=MEASURED, label=f'{source}, mean of {window(run):.0f} s')
        if commanded is not None:
            axes.step(*thin(commanded[0], commanded[1][:, which]), color=COMMANDED, where='post',
                      label='command')  # fmt: skip
        axes.set(title=title, ylabel=unit)
        at_least(axes, 0.2)
    figure.legend(*top.get_legend_handles_labels(), loc='outside upper center', ncols=3)
    mode_band(band, run)
    band.set_xlabel(run.clock.label)
    mark_falls((top, middle), run)
    for at, label in run.adapters[1:]:  # the first is what acted from the start
        for axes in (top, middle):
            axes.axvline(at, color='#555555', linewidth=1, linestyle=':')
        middle.annotate(label, (at, 0.0), xycoords=('data', 'axes fraction'), xytext=(3, 4),
                        textcoords='offset points', fontsize=10)  # fmt: skip
    return figure


def command(run: Run) -> tuple[Numbers, Numbers] | None:
    """Commanded forward speed and yaw rate: times (N,), values (N, 2)."""
    if len(run.steps):  # as the policy took it
        return run.step_times, np.asarray(run.steps['command'])
    told = run.columns.get(names.CMD_VEL)
    if told is None:
        return None
    return run.times[names.CMD_VEL], told.fields['twist'][:, [0, 5]]


def mode_band(axes: Any, run: Run) -> None:
    """The driver's mode as colours along the time."""
    from matplotlib.patches import Patch

    shown: list[str] = []
    modes = [(start, end, name.upper().replace(' ', '_')) for start, end, name in run.modes]
    # A moment of something else has to be seen in an hour of walking.
    least = (modes[-1][1] - modes[0][0]) / 400 if modes else 0.0
    for start, end, word in sorted(modes, key=lambda mode: mode[2] != 'TRACK'):
        axes.axvspan(start, max(end, start + least), color=MODES.get(word, '#bbbbbb'), linewidth=0)
    for _, _, word in modes:
        if word not in shown:
            shown.append(word)
    patches = [Patch(color=MODES.get(word, '#bbbbbb'), label=word.lower().replace('_', ' '))
               for word in shown]  # fmt: skip
    if patches:
        axes.legend(handles=patches, loc='upper center', bbox_to_anchor=(0.5, -1.6),
                    ncols=min(len(patches), 4), title="driver's mode")  # fmt: skip
    axes.set(yticks=[], ylim=(0, 1))
    axes.grid(False)


def path(run: Run) -> Any:
    """The way that the robot took, from above."""
    ways = [(names.GROUND_TRUTH, 'true', MEASURED), (names.ODOM, 'leg odometry', COMMANDED)]
    ways = [way for way in ways if way[0] in run.columns]
    if not ways:
        return None
    figure = new_figure(5.2)
    axes = figure.subplots()
    for name, label, colour in ways:
        x, y = run.columns[name].fields['position'][:, :2].T
        keep = np.linspace(0, len(x) - 1, min(len(x), 5000)).astype(int)
        axes.plot(x[keep], y[keep], color=colour, label=label)
    x, y = run.columns[ways[0][0]].fields['position'][:, :2].T
    axes.plot(x[0], y[0], 'o', color=APPLIED, markersize=9, label='start')
    axes.plot(x[-1], y[-1], 's', color=FELL, markersize=9, label='end')
    axes.set(xlabel='x, m', ylabel='y, m', aspect='equal', adjustable='datalim')
    figure.legend(*axes.get_legend_handles_labels(), loc='outside upper center', ncols=4)
    return figure


def reward(run: Run) -> Any:
    """What steps earned, and by which terms."""
    if not len(run.rewards):
        return None
    terms = [name for name in run.terms if np.any(run.rewards[name])]
    rows = (len(terms) + 1) // 2
    figure = new_figure(2.6 + 1.35 * rows)
    grid = figure.add_gridspec(rows + 1, 2, height_ratios=[1.7, *([1.0] * rows)])
    time = run.reward_times
    whole = figure.add_subplot(grid[0, :])
    values = run.rewards['reward'].astype(float)
    whole.plot(*thin(time, values), color=FAINT, linewidth=0.7, label='each step')
    mean = f'mean of {window(run):.0f} s'
    whole.plot(*thin(time, mean_over(time, values, window(run))), color=MEASURED, label=mean)
    whole.set(title=f'reward of a step, {values.sum():.1f} in all')
    usual = np.percentile(values, (1, 99))
    room = max(float(usual[1] - usual[0]), 1e-3)
    whole.set_ylim(usual[0] - 0.6 * room, usual[1] + 0.4 * room)  # a fall would dwarf the rest
    whole.legend(loc='lower right', ncols=2)
    mark_falls([whole], run)
    for i, name in enumerate(terms):
        axes = figure.add_subplot(grid[1 + i // 2, i % 2], sharex=whole)
        values = run.rewards[name].astype(float)
        axes.plot(*thin(time, mean_over(time, values, window(run)), 500), color=MEASURED)
        axes.set_title(f'{name}, {values.mean():+.3g}', fontsize=11)
        if i < len(terms) - 2:
            axes.tick_params(labelbottom=False)
    if terms:
        whole.tick_params(labelbottom=False)
    figure.supxlabel(f'{run.clock.label}; of terms the {mean}, in titles that of all', fontsize=12)
    return figure


def servos(run: Run) -> Any:
    """Heat and voltage of the servos."""
    kinds = [(name, unit) for name, unit in (('temperature', '°C'), ('voltage', 'V'))
             if name in run.servo and np.isfinite(run.servo[name]).any()]  # fmt: skip
    if not kinds:
        return None
    state = run.columns.get(names.JOINT_STATES)
    labels = state.names if state is not None else []
    figure = new_figure(2.6 * len(kinds) + 0.9)
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False).ravel()
    for axes, (name, unit) in zip(panels, kinds, strict=True):
        values = run.servo[name]
        for i in range(values.shape[1]):
            label = labels[i] if len(labels) == values.shape[1] else f'servo {i + 1}'
            axes.plot(*thin(run.servo_times, values[:, i]), color=f'C{i}', label=label)
        axes.set(title=name, ylabel=unit)
    panels[-1].set_xlabel(run.clock.label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside upper center', ncols=4)
    return figure


def rates(run: Run) -> Any:
    """How many messages of each topic came, over time, against its usual rate."""
    shown = [(name, at) for name, at in run.arrivals.items() if len(at) > 1]
    if not shown or run.duration <= 0:
        return None
    bins = int(np.clip(run.duration, 10, 240))
    edges = np.linspace(0, run.duration, bins + 1)
    shares, labels = [], []
    for name, at in shown:
        counts = np.histogram(at, edges)[0]
        usual = float(np.median(counts))
        if usual < FEWEST:
            continue  # of so few one more or less says nothing
        share = np.minimum(counts / usual, 1.5)
        inside = np.flatnonzero(counts)
        share[: inside[0] + 1] = share[inside[-1] :] = np.nan  # before it began, after it ended
        shares.append(share)
        labels.append(f'{name}  {usual / (edges[1] - edges[0]):.0f} Hz')
    if not shares:
        return None
    figure = new_figure(1.5 + 0.3 * len(shares))
    axes = figure.subplots()
    axes.set_facecolor('#d0d0d0')  # seen where there is no share
    image = axes.imshow(
        np.array(shares), aspect='auto', cmap=_usual_is_white(), vmin=0.0, vmax=2.0,
        interpolation='nearest', extent=(0, run.duration, len(shares), 0),
    )  # fmt: skip
    axes.set_yticks(np.arange(len(shares)) + 0.5, labels, fontsize=10)
    axes.tick_params(left=False)
    axes.set_xlabel('time of recording, s')
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, location='top', boundaries=np.linspace(0, 1.5, 31),
                          ticks=(0, 0.5, 1, 1.5), aspect=40, shrink=0.7)  # fmt: skip
    bar.set_label('messages, as a share of the usual rate')
    return figure


def _usual_is_white() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = [(0.0, '#7a1508'), (0.35, FELL), (0.475, '#f3f3f3'), (0.525, '#f3f3f3'),
             (1.0, MEASURED)]  # fmt: skip
    return LinearSegmentedColormap.from_list('usual is white', stops)


# File, title, what one should look for, and who draws it.
PICTURES: tuple[tuple[str, str, str, Callable[[Run], Any]], ...] = (
    ('walk', 'Speed and command', 'Does it follow what it was told? Below, what the driver did.',
     walk),
    ('path', 'Path', 'From above; leg odometry drifts where feet slip.', path),
    ('joints', 'Joints', 'The range of every stride: applied between the green lines, measured '
     'in blue.', joints),
    ('joints_close', 'Joints, two seconds', 'Commanded by the policy, applied after limits, and '
     'measured: the lag between the last two is the servo.', joints_close),
    ('imu', 'Body', 'Attitude, rates and acceleration of the IMU.', imu),
    ('reward', 'Reward', 'Of a step, and the terms that it is the sum of.', reward),
    ('servos', 'Servos', 'Heat and voltage as the servos said it, once a second.', servos),
    ('rates', 'Rates', 'Red is less than usual: a node that waited or was too slow, or messages '
     'lost. Grey: it had not begun, or was over.', rates),
)  # fmt: skip


def draw(run: Run) -> list[tuple[str, str, str, Any]]:
    """All pictures for which there are data: name, title, words, figure."""
    import matplotlib as mpl

    drawn = []
    with mpl.rc_context(STYLE):
        for name, title, words, paint in PICTURES:
            figure = paint(run)
            if figure is not None:
                drawn.append((name, title, words, figure))
    return drawn
