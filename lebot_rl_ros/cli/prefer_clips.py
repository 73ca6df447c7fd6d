"""Clips of recorded segments, two side by side, drawn from the recorded steps alone."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.continuations import Sensed, sensed
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.mdp.observations import ObservationLayout
from lebot_rl_ros.robot import Robot, rotations
from lebot_rl_ros.robot.odometry import DeadReckoning, foot_heights, leg_odometry
from lebot_rl_ros.sim.render import Renderer
from lebot_rl_ros.sim.simulation import Simulation

Frame = npt.NDArray[np.uint8]  # (H, W, 3)
SIZE = 320, 240  # pixels of one clip
RATE = 12.5  # pictures a second
BAR, GAP, COLOURS = 22, 6, 64  # pixels, pixels, of a GIF
REST = 6  # pictures for which the last one stays


class Stage:
    """A simulated robot that is put where recorded steps say it was, and drawn."""

    def __init__(self, robot: Robot, width: int) -> None:
        """Open a renderer.

        Args:
            robot: that was recorded.
            width: numbers of an observation.

        Raises:
            ValueError: the observations are no whole number of frames of this robot.
            RuntimeError: there is no OpenGL; the message says what to install.
        """
        self._layout = layout_of(robot, width)
        self._robot = robot
        self._simulation = Simulation(robot)
        self._renderer = Renderer(self._simulation, width=SIZE[0], height=SIZE[1])

    def film(self, rows: Array) -> list[Frame]:
        """Pictures of a segment (L,) of ``transition_dtype``, :data:`RATE` a second."""
        poses = path(self._robot, sensed(self._robot, self._layout, rows['observation']),
                     rows['stamp'])  # fmt: skip
        every = max(1, round(self._robot.control_rate / RATE))
        frames = []
        for pose in poses[::every]:
            self._simulation.qpos[0] = self._arranged(pose)
            frames.append(self._renderer.draw(self._simulation))
        return frames

    def close(self) -> None:
        """Give OpenGL back."""
        self._renderer.close()

    def _arranged(self, pose: Array) -> Array:
        """Pose of :func:`path` in the order of the model's positions."""
        found, model = np.zeros(self._simulation.nominal.nq), self._simulation.nominal
        found[:7] = pose[:7]
        for joint, name in enumerate(self._robot.joint_names):
            found[model.joint(name).qposadr[0]] = pose[7 + joint]
        return found


class Studio:
    """Draws clips of pairs in a thread of its own, so that the next one is there in time."""

    def __init__(self, robot: Robot, width: int, folder: Path) -> None:
        """Draw into a folder; of the rest see :class:`Stage`.

        Raises:
            ValueError: as of a :class:`Stage`; there is no OpenGL, too.
        """
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1)  # OpenGL belongs to one thread
        try:
            self._stage = self._thread.submit(Stage, robot, width).result()
        except RuntimeError as error:
            raise ValueError(f'clips cannot be drawn: {error}; --auto needs none') from error

    def draw(self, number: int, first: Array, second: Array) -> 'Future[Path]':
        """Begin to draw two segments, rows of ``transition_dtype``, as one GIF."""
        return self._thread.submit(self._draw, number, first, second)

    def close(self) -> None:
        """Finish what was begun, give OpenGL back."""
        self._thread.submit(self._stage.close)
        self._thread.shutdown()

    def _draw(self, number: int, first: Array, second: Array) -> Path:
        file = self._folder / f'pair-{number:04d}.gif'
        films = [self._stage.film(rows) for rows in (first, second)]
        words = (f'left, {told(first)}', f'right, {told(second)}')
        write_gif(side_by_side(films[0], films[1], words), file)
        return file


def told(rows: Array) -> str:
    """What was asked of the robot in a segment, for people: its first command."""
    forward, turn = (float(value) for value in rows['command'][0])
    return f'told {forward:.2f} m/s, {turn:+.2f} rad/s'


def layout_of(robot: Robot, width: int) -> ObservationLayout:
    """The layout that observations of this width have.

    Raises:
        ValueError: none has.
    """
    frame = ObservationLayout.of(robot).frame
    if width < frame or width % frame:
        raise ValueError(
            f'observations have {width} numbers, {robot.name} has {frame} a frame: the bag is of '
            f'another robot, or of a policy that sees other things, and cannot be drawn'
        )
    return ObservationLayout.of(robot, history=width // frame)


def path(robot: Robot, were: Sensed, stamps: Array) -> npt.NDArray[np.float64]:
    """Where body and joints were, (L, 7 + J): position m, orientation w x y z, angles rad.

    From what was sensed alone: tilt from gravity, heading from the gyro, position from the legs'
    odometry, both from zero on; height so that the lowest foot stands on the floor.

    Args:
        robot: whose.
        were: states in the order of time.
        stamps: (L,) ns.
    """
    feet = robot.legs(were.joint_position, were.joint_velocity)
    velocity = leg_odometry(robot, feet, were.gravity, were.angular_velocity)
    seconds = np.diff(stamps, prepend=stamps[:1]) / 1e9
    roll, pitch = rotations.roll_pitch(were.gravity).T
    y, z = were.angular_velocity[:, 1], were.angular_velocity[:, 2]
    turning = (np.sin(roll) * y + np.cos(roll) * z) / np.maximum(np.cos(pitch), 0.1)
    heading = np.cumsum(turning * seconds)
    orientation = rotations.from_roll_pitch_yaw(np.stack((roll, pitch, heading), axis=1))
    reckoning = DeadReckoning()
    position = np.array(
        [
            reckoning.advance(int(stamp), turned, speed)
            for stamp, turned, speed in zip(stamps, orientation, velocity, strict=True)
        ]
    )
    position[:, 2] = robot.legs.foot_radius - foot_heights(feet, were.gravity).min(axis=-1)
    return np.concatenate((position, orientation, were.joint_position), axis=1)


def side_by_side(left: Sequence[Frame], right: Sequence[Frame], words: tuple[str, str]) -> Any:
    """Pictures (Pillow) of two clips beside each other; who is done waits for the other."""
    from PIL import Image, ImageDraw, ImageFont  # late: few need it

    font, (width, height) = ImageFont.load_default(13), SIZE
    pictures = []
    for i in range(max(len(left), len(right))):
        canvas = Image.new('RGB', (2 * width + GAP, height + BAR), 'white')
        pen = ImageDraw.Draw(canvas)
        for column, (frames, text) in enumerate(zip((left, right), words, strict=True)):
            at = column * (width + GAP)
            canvas.paste(Image.fromarray(frames[min(i, len(frames) - 1)]), (at, BAR))
            pen.text((at + 6, 3), text, fill='black', font=font)
        pictures.append(canvas)
    return pictures


def write_gif(pictures: Sequence[Any], file: Path) -> None:
    """Write pictures as a GIF that goes on and on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [*pictures, *[pictures[-1]] * REST]
    palette = [picture.quantize(COLOURS) for picture in pictures]
    palette[0].save(
        file, save_all=True, append_images=palette[1:], duration=round(1000.0 / RATE), loop=0
    )
