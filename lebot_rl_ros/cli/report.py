"""The report of a walk: numbers, as text, as JSON and as a picture."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.bringup.graph import Stack
from lebot_rl_ros.cli.learning_report import Learning, learned
from lebot_rl_ros.data.tracking import Path as RunPath
from lebot_rl_ros.data.tracking import command_at, judge
from lebot_rl_ros.learning.figures import new_figure, save_figure
from lebot_rl_ros.ros.monitor import Heard

COMPLETE = 'the run is complete'  # the driver's own word for the end of a run
WALKED = 0.5  # share of the commanded way below which the robot did not walk


@dataclass(frozen=True)
class Report:
    """What happened. ``data`` is what ``--json`` writes."""

    data: dict[str, Any]
    path: RunPath
    rewards: list[tuple[float, float]]
    marks: list[tuple[float, str]]  # s, what happened: faults and swaps
    status: int  # exit status of the command
    learning: Learning | None = None

    def save(self, file: Path) -> None:
        """Write the numbers; NaN becomes null, so that every reader takes it."""
        clean = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in self.data.items()
        }
        file.write_text(json.dumps(clean, indent=2) + '\n')

    def show(self) -> None:
        """Print the numbers."""
        from rich.console import Console
        from rich.table import Table

        d = self.data
        pose = d['final_pose'] or [float('nan')] * 4
        table = Table(
            show_header=False,
            title='walked' if self.status == 0 else f'not well: {d["exit_reason"]}',
        )
        for name, value in (
            ('distance', f'{d["distance_m"]:.2f} m'),
            ('speed error', f'{d["tracking_error_mps"]:.3f} m/s'),
            ('yaw error', f'{d["yaw_error_rps"]:.3f} rad/s'),
            ('falls', f'{d["falls"]}'),
            ('ticks', f'{d["ticks"]}, {d["missed_ticks"]} missed'),
            ('tick latency', f'{d["tick_p50_ms"]:.2f} ms p50, {d["tick_p99_ms"]:.2f} ms p99'),
            ('time', f'{d["sim_s"]:.1f} s of the robot in {d["wall_s"]:.1f} s'),
            (
                'final pose',
                f'x {pose[0]:.3f}  y {pose[1]:.3f}  z {pose[2]:.3f} m  yaw {pose[3]:.3f} rad',
            ),
            ('adapter', _adapter(d['adapter'], d['swaps'])),
            *(self.learning.lines() if self.learning else ()),
            ('ended', d['exit_reason']),
        ):
            table.add_row(name, value)
        Console().print(table)

    def draw(self, file: Path) -> None:
        """Draw path, speeds and reward."""
        path = self.path
        rows: list[Any] = [['path', 'speed'], ['path', 'yaw']]
        if self.learning:  # its reward is what the run is about
            layout, heights = [['reward', 'reward'], *rows], [1.6, 1.0, 1.0]
        else:
            layout, heights = [*rows, ['path', 'reward']], [1.0, 1.0, 1.0]
        figure = new_figure((11.0, 9.0 if self.learning else 6.5))
        axes = figure.subplot_mosaic(layout, width_ratios=[1, 1.5], height_ratios=heights)
        axes['path'].plot(*path.position.T, color='#1f5c99')
        axes['path'].plot(*path.position[:1].T, 'o', color='#2a9d5c', label='start')
        axes['path'].plot(*path.position[-1:].T, 's', color='#c8442e', label='end')
        axes['path'].set(
            title='path', xlabel='x, m', ylabel='y, m', aspect='equal', adjustable='datalim'
        )
        axes['path'].legend(loc='best')
        window = np.ones(50) / 50
        for axis, values, column, name, unit in (
            ('speed', path.velocity, 0, 'forward speed', 'm/s'),
            ('yaw', path.yaw_rate, 1, 'yaw rate', 'rad/s'),
        ):
            axes[axis].plot(path.time, values, color='#b9cfe4', linewidth=0.7, label='each tick')
            if len(values) >= len(window):
                smooth = np.convolve(values, window, mode='valid')
                axes[axis].plot(
                    path.time[len(window) - 1 :], smooth, color='#1f5c99', label='mean of 1 s'
                )
            axes[axis].step(
                path.time,
                path.command[:, column],
                '--',
                color='#e07b1f',
                label='command',
                where='post',
            )
            axes[axis].set(title=name, ylabel=unit)
        axes['speed'].legend(loc='lower right', ncols=3, fontsize='small')
        if self.learning:
            self.learning.draw(axes['reward'])
        else:
            if self.rewards:
                axes['reward'].plot(*np.array(self.rewards).T, color='#2a9d5c')
            axes['reward'].set(title='reward of a step, mean of 1 s', xlabel='robot time, s')
        for time, words in self.marks:
            for axis in ('speed', 'yaw', 'reward'):
                axes[axis].axvline(time, color='#c8442e', linewidth=1)
            axes['reward'].annotate(
                words,
                (time, 0.02),
                xycoords=('data', 'axes fraction'),
                color='#c8442e',
                fontsize='small',
            )
        d = self.data
        figure.suptitle(
            f'{d["distance_m"]:.2f} m, speed error {d["tracking_error_mps"]:.3f} m/s, '
            f'{d["falls"]} falls, {d["exit_reason"]}'
        )
        save_figure(figure, file, 110)


def _adapter(label: str, swaps: int) -> str:
    return (label or 'the base alone') + (f', after {swaps} swaps' if swaps else '')


def _commands(stack: Stack, heard: Heard, begin: float) -> list[tuple[float, float, float]]:
    """What was commanded; a constant command is known without having been heard from its start."""
    if stack.arguments['teleop'] == 'constant':
        return [(0.0, float(stack.arguments['vx']), float(stack.arguments['wz']))]
    return [(time - begin, vx, wz) for time, vx, wz in heard.commands]


def make_report(stack: Stack, heard: Heard, wall: float, reason: str, restarts: int) -> Report:
    """Put together what was heard. Times count from the driver's first tick."""
    driver = heard.health[stack.driver].values if stack.driver in heard.health else {}
    begin, duration = float(driver.get('begin_s', 0.0)), float(stack.arguments['duration'])
    time = np.array(heard.time) - begin
    # what comes before is the graph that gathers, and what comes after duration the crouch
    keep = (time >= 0) & (time <= (duration or np.inf) + 1e-6)
    time, pose = time[keep], np.array(heard.pose).reshape(-1, 4)[keep]
    path = RunPath(
        time=time,
        position=pose[:, :2],
        velocity=np.array(heard.velocity)[keep],
        yaw_rate=np.array(heard.yaw_rate)[keep],
        command=command_at(time, _commands(stack, heard, begin)),
    )
    tracking = judge(path)
    asked = (
        float(np.abs(path.command[:, 0][path.time > 2.0]).sum() / 50.0) if len(path.time) else 0.0
    )
    falls = int(driver.get('falls', 0))
    learning = learned(stack, heard, begin)
    if learning:
        pass  # who learns falls; what it came to, the report says
    elif falls and reason in ('completed', 'interrupted'):
        reason = f'fell ({falls} times)' if falls > 1 else 'fell'
    elif reason in ('completed', 'interrupted') and abs(tracking.distance) < WALKED * asked:
        reason = f'did not walk: {tracking.distance:.2f} m of {asked:.2f} m commanded'
        fault = driver.get('fault', '')
        reason += f'; {fault}' if fault not in ('', COMPLETE) else ''
    data = {
        'distance_m': tracking.distance,
        'tracking_error_mps': tracking.speed_error,
        'yaw_error_rps': tracking.yaw_error,
        'falls': falls,
        'ticks': int(driver.get('ticks', 0)),
        'missed_ticks': int(driver.get('missed_ticks', 0)),
        'tick_p50_ms': float(driver.get('tick_p50_ms', 'nan')),
        'tick_p99_ms': float(driver.get('tick_p99_ms', 'nan')),
        'sim_s': duration if reason == 'completed' else float(driver.get('run_s', 0.0)),
        'wall_s': wall,
        'final_pose': pose[-1].tolist() if len(pose) else None,
        # By the latched topic: a short walk is over before its policy has told its health.
        'adapter': heard.adapters[-1][1] if heard.adapters else '',
        'swaps': sum(why != 'start' for _, _, why in heard.adapters),
        'exit_reason': reason,
        'restarts': restarts,
        'arguments': dict(stack.arguments),
    }
    if learning:
        data['learning'] = learning.data()
    good = reason == 'completed' or (reason == 'interrupted' and not duration)
    faults = str(stack.arguments['faults']).split()
    marks = [(float(fault.partition('@')[2].partition('-')[0] or 0), fault) for fault in faults]
    swaps = () if learning else heard.adapters[1:]  # a learning walk has its own marks of them
    marks += [(since - begin, label or 'the base alone') for since, label, _ in swaps]
    rewards = [(time - begin, reward) for time, reward in heard.rewards]
    return Report(data, path, rewards, marks, 0 if good else 1, learning)
