"""Pictures of `lebot compare rewards`: curves and landings in one figure, and films in one GIF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.cli.reward_films import Film
from lebot_rl_ros.cli.reward_runs import Run
from lebot_rl_ros.envs.shaping import Array
from lebot_rl_ros.learning.figures import new_figure, save_figure
from lebot_rl_ros.learning.presets import SOLVED

COLOURS = ('#1f5c99', '#d9730d', '#2a9d5c', '#b8336a', '#6c4ab6')
EXPOSURES = 9  # of one lander in one picture
STRIP = 6  # pictures of one walk, 80 or 100 ms apart
PAD, LEG = 100, 18  # pixels: height of the pad, and from the body's middle to its feet


@dataclass(frozen=True)
class Side:
    """One reward: its runs, and the film of one of them."""

    name: str
    runs: Sequence[Run]
    film: Film

    @property
    def finals(self) -> Array:
        """(S,) own return at the end, seed by seed."""
        return np.array([run.last.mean for run in self.runs])

    def curve(self) -> tuple[Array, Array]:
        """Steps (P,) and own returns (S, P); runs of one method are judged at the same steps."""
        length = min(len(run.curve) for run in self.runs)
        rows = np.array([run.curve[:length] for run in self.runs])
        return rows[0, :, 0], rows[..., 1]

    def parts(self) -> dict[str, float]:
        """What each of the environment's own terms brought to an episode, mean over the seeds."""
        names = self.runs[0].last.parts
        return {
            name: float(np.mean([run.last.parts[name].mean() for run in self.runs]))
            for name in names
        }


def draw(sides: Sequence[Side], env: str, title: str, path: Path) -> None:
    """Write the figure: curves and parts of the return above, landings or gaits below."""
    lander = env.startswith('LunarLander')
    columns = min(len(sides), 3) if lander else 1
    rows = -(-len(sides) // columns)
    height = 4.0 * 2 / columns if lander else 1.75
    figure = new_figure((12.0, 4.6 + rows * (height + 0.2)))
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[4.6, rows * (height + 0.2)]))
    curves, parts = above.subplots(1, 2, width_ratios=[1.55, 1.0])
    _draw_curves(curves, sides, SOLVED.get(env))
    _draw_parts(parts, sides)
    many = len(sides[0].runs) > 1
    shown = 'the first episode of the judging' if lander else 'the last moments of a walk'
    below.suptitle(shown + ', by the middle seed' * many, fontsize=11)
    panels = np.atleast_1d(below.subplots(rows, columns)).flatten()
    for axes, side, colour in zip(panels, sides, COLOURS, strict=False):
        (_draw_landing if lander else _draw_walk)(axes, side.film)
        axes.set_title(
            f'{side.name}: {side.film.ended} after {side.film.times[-1]:.1f} s, '
            f'own return {side.film.returns[-1]:.0f}',
            color=colour,
            fontsize=11,
        )
        axes.axis('off')
    for axes in panels[len(sides) :]:
        axes.axis('off')
    figure.suptitle(title, fontsize=13)
    save_figure(figure, path, 110)


def _draw_curves(axes: Any, sides: Sequence[Side], solved: float | None) -> None:
    last = max(side.curve()[0][-1] for side in sides)
    unit, words = (1e6, 'million steps') if last >= 1e6 else (1e3, 'thousand steps')
    for side, colour in zip(sides, COLOURS, strict=False):
        steps, returns = side.curve()
        steps = steps / unit
        mean = returns.mean(axis=0)
        axes.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.15)
        axes.plot(steps, mean, color=colour, linewidth=2.0, label=side.name)
        for row in returns if len(returns) > 1 else ():
            axes.plot(steps, row, color=colour, linewidth=0.6, alpha=0.6)
    if solved is not None:
        axes.axhline(solved, color='0.4', linestyle='--', linewidth=1.0)
        axes.annotate('solved', (0.005, solved), (0, 3), textcoords='offset points', color='0.4',
                      xycoords=('axes fraction', 'data'), fontsize=9)  # fmt: skip
    # One early disaster must not flatten what comes later.
    every = [side.curve()[1] for side in sides]
    late = min(returns[:, returns.shape[1] // 3 :].min() for returns in every)
    low = min(late, np.quantile(np.concatenate([found.ravel() for found in every]), 0.1))
    high = max(*(found.max() for found in every), solved or -np.inf)
    margin = 0.06 * (high - low + 1e-9)
    axes.set_ylim(low - margin, high + margin)
    axes.set(xlabel=words, ylabel="return by the environment's own reward")
    many = len(sides[0].runs) > 1
    axes.set_title('learning' + ': mean, seeds and their range' * many, fontsize=11)
    axes.legend(loc='best')
    axes.grid(alpha=0.3)


def _draw_parts(axes: Any, sides: Sequence[Side]) -> None:
    tables = [side.parts() for side in sides]
    names = list(dict.fromkeys(name for table in tables for name in table))
    places, width = np.arange(len(names)), 0.8 / len(sides)
    for i, (side, table) in enumerate(zip(sides, tables, strict=True)):
        values = np.array([table.get(name, 0.0) for name in names])
        bars = axes.barh(
            places + (i + 0.5) * width - 0.4, values, width, color=COLOURS[i % len(COLOURS)],
            label=side.name,
        )  # fmt: skip
        axes.bar_label(bars, [_short(value) for value in values], padding=3, fontsize=8)
    axes.axvline(0.0, color='0.3', linewidth=0.8)
    axes.set_yticks(places, [name.replace('_', ' ') for name in names], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.locator_params(axis='x', nbins=5)
    axes.grid(alpha=0.3, axis='x')
    axes.set_title('return of an episode at the end, by own terms', fontsize=11)


def _short(value: float) -> str:
    return f'{value:.0f}' if abs(value) >= 9.95 or abs(value) < 0.005 else f'{value:.2g}'


def _draw_landing(axes: Any, film: Film) -> None:
    """Many exposures of the lander on one background, and its way."""
    axes.imshow(exposures(film.frames))
    height, width = film.frames[0].shape[:2]
    x, y = film.observations[:, 0], film.observations[:, 1]
    across = (x + 1.0) * width / 2
    down = height - (y * height / 2 + PAD + LEG)
    axes.plot(across, down, color='#ffb000', linewidth=1.2)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def exposures(frames: Sequence[Array], count: int = EXPOSURES) -> Array:
    """Put what moves in ``count`` of the frames into one picture (H, W, 3)."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]
    background = np.median(np.stack(chosen), axis=0).astype(np.uint8)
    picture = background.copy()
    for frame in chosen:
        moved = np.any(frame != background, axis=-1)
        picture[moved] = frame[moved]
    return picture


def _draw_walk(axes: Any, film: Film) -> None:
    """A strip of the last pictures, left to right: about one cycle of a gait."""
    chosen = range(max(0, len(film.frames) - STRIP), len(film.frames))
    height, width = film.frames[0].shape[:2]
    across = slice(round(0.15 * width), round(0.85 * width))
    down = slice(round(0.2 * height), round(0.95 * height))
    pictures = [film.frames[i][down, across] for i in chosen]
    axes.imshow(np.concatenate(pictures, axis=1))
    for place, i in enumerate(chosen):
        left = (place + 0.03) * pictures[0].shape[1]
        axes.text(left, 30, f'{film.times[i]:.2f} s', color='black', fontsize=8, va='center')


def write_gif(sides: Sequence[Side], path: Path, width: int = 300) -> None:
    """Write all films side by side; who is done waits for the others."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    height, bar = round(width * _aspect(sides[0].film)), 22
    pictures = []
    for i in range(max(len(side.film.frames) for side in sides)):
        canvas = Image.new('RGB', (width * len(sides), height + bar), 'white')
        pen = ImageDraw.Draw(canvas)
        for column, (side, colour) in enumerate(zip(sides, COLOURS, strict=False)):
            shown = side.film
            at = min(i, len(shown.frames) - 1)
            frame = Image.fromarray(shown.frames[at])
            canvas.paste(
                frame.resize((width, height), Image.Resampling.LANCZOS), (column * width, bar)
            )
            words = f'{side.name}: {shown.returns[at]:.0f}'
            if i >= len(shown.frames) - 1:
                words += f', {shown.ended}'
            pen.text((column * width + 6, 3), words, fill=colour, font=font)
        pictures.append(canvas)
    pictures += [pictures[-1]] * 12  # to look at, before it starts again
    palette = [picture.quantize(64, dither=Image.Dither.NONE) for picture in pictures]
    palette[0].save(path, save_all=True, append_images=palette[1:], duration=80, loop=0)


def _aspect(film: Film) -> float:
    height, width = film.frames[0].shape[:2]
    return float(height / width)
