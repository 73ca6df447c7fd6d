"""A rollout as a GIF or an MP4."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.gym_world import GymWorld
from lebot_rl_ros.learning.method import Array, BoolArray, Outcome

Frame = npt.NDArray[np.uint8]  # (H, W, 3)
KINDS = ('.gif', '.mp4')
WIDTH = 480  # pixels; wider pictures are halved until they fit
COLOURS = 128  # of a GIF


def record(
    world: GymWorld,
    act: Callable[[Array], Array],
    episodes: int = 1,
    *,
    longest: int = 1000,
    every: int = 1,
    forget: Callable[[BoolArray], object] | None = None,
    see: Callable[[Outcome], object] | None = None,
) -> tuple[list[Frame], list[float]]:
    """Play episodes in a world of one environment with ``render_mode='rgb_array'``.

    Args:
        world: that can be rendered.
        act: actions (1, ...) for observations (1, ...).
        episodes: how many.
        longest: steps after which nothing more is recorded, of all episodes together.
        every: draw one step of so many, as drawing may be slow.
        forget: called where an episode begins.
        see: called with every outcome.

    Returns:
        Frames, of which that after an episode's last step is already the next one's first; and
        the returns of the episodes, of one that was cut what it had.

    Raises:
        ValueError: the world gives no pictures.
    """
    if forget:
        forget(np.ones(world.count, dtype=np.bool_))
    frames, returns = [_picture(world)], [0.0]
    for step in range(1, longest + 1):
        outcome = world.step(act(world.observation))
        if see:
            see(outcome)
        returns[-1] += float(outcome.reward[0])
        if step % every == 0:
            frames.append(_picture(world))
        if outcome.done[0]:
            if len(returns) == episodes:
                break
            returns.append(0.0)
            if forget:
                forget(outcome.done)
    return frames, returns


def write_video(frames: Sequence[Frame], path: Path, rate: float) -> None:
    """Write pictures as a GIF or, by its suffix, an MP4.

    Args:
        frames: of equal shape.
        path: ends in .gif or .mp4.
        rate: of the frames, Hz. A GIF takes every second or third one, as it cannot be so fast.

    Raises:
        ValueError: no frames, or another suffix.
    """
    if not frames:
        raise ValueError('no frames to make a video of')
    if path.suffix not in KINDS:
        raise ValueError(f'{path} must end in {" or ".join(KINDS)}')
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.gif':
        _write_gif(frames, path, rate)
    else:
        _write_mp4(frames, path, rate)


def _picture(world: GymWorld) -> Frame:
    frame: Any = world.frame()
    if frame is None:
        raise ValueError(f"{world.name} gives no pictures; it needs render_mode='rgb_array'")
    return np.asarray(frame, dtype=np.uint8)


def _write_gif(frames: Sequence[Frame], path: Path, rate: float) -> None:
    from PIL import Image  # late: nobody needs it to learn

    every = max(1, round(rate / 25.0))
    pictures = []
    for frame in frames[::every]:
        image = Image.fromarray(frame)
        while image.width > WIDTH:
            image = image.reduce(2)
        pictures.append(image.quantize(COLOURS))
    # Viewers know hundredths of a second, and slow down what claims less than two.
    milliseconds = max(20, 10 * round(100.0 * every / rate))
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0,
        optimize=False,
    )  # fmt: skip


def _write_mp4(frames: Sequence[Frame], path: Path, rate: float) -> None:
    import cv2  # late: an extra

    height, width = (size - size % 2 for size in frames[0].shape[:2])  # the codec wants even ones
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, (width, height))
    if not writer.isOpened():
        raise ValueError(f'{path}: this build of OpenCV cannot write MP4; take a .gif')
    try:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
    finally:
        writer.release()
