"""Draws the clips of the documentation: the shipped policy walking, and before/after of adapters.

python docs/pictures.py [walk|turn|payload|ice|backwards ...]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.control.walker import Walk, Walker, load_walk, policy_path
from lebot_rl_ros.envs.recipes import load_recipe
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot, load_robot
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.sim.randomisation import NOMINAL
from lebot_rl_ros.sim.render import Renderer
from lebot_rl_ros.sim.simulation import Simulation, Truth

FOLDER = Path(__file__).parent / 'images'
EVERY = 4  # one picture every fourth tick of 20 ms
WALK = ((0.0, (0.3, 0.0)), (3.0, (0.3, 0.6)))  # from when, what
# What an adapter is shown with: command, and the seed that decides where the slope rises.
CLIPS = {
    'turn': ((0.0, 1.0), 0),
    'payload': ((0.3, -0.4), 0),
    'ice': ((0.2, 0.0), 1),
    'backwards': ((-0.3, 0.0), 0),
}
SECONDS, SLOW = 3.6, 5  # nine cycles of the gait, every fifth tick
CROP, SIZE = (96, 110, 544, 446), (272, 204)  # of 640 x 480: the robot, not the horizon


def film(
    robot: Robot,
    walk: Walk,
    simulation: Simulation,
    commands: Sequence[tuple[float, tuple[float, float]]],
    seconds: float,
) -> Iterator[tuple[int, Truth]]:
    """Walk; yield each tick with what is true after it."""
    walker = Walker(robot, walk)
    limited = LimitedTarget(robot.stand, np.zeros_like(robot.stand))
    for tick in range(round(seconds * robot.control_rate)):
        time = tick / robot.control_rate
        command = np.array([command for start, command in commands if start <= time][-1])
        states = simulation.sense()
        state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
        target = walker.act(state, command)
        limited = limit_target(robot, target, limited, simulation.period)
        walker.applied(limited.position)
        simulation.step(limited.position[None])
        yield tick, simulation.truth()


def draw_walk(robot: Robot) -> None:
    """The base: straight ahead, then a curve."""
    simulation = Simulation(robot)
    renderer = Renderer(simulation, width=960, height=640)
    frames = []
    for tick, _ in film(robot, load_walk(robot, 'walk'), simulation, WALK, 6.0):
        if tick % EVERY == 0:
            picture = Image.fromarray(renderer.draw(simulation))
            frames.append(picture.resize((480, 320), Image.Resampling.LANCZOS))
    renderer.close()
    _save(frames, 'walk', 64, EVERY)
    frames[len(frames) // 3].save(FOLDER / 'walk.png')


def draw_adapter(robot: Robot, name: str) -> None:
    """Base and adapter side by side on the recipe's task, without noise, with true means."""
    command, seed = CLIPS[name]
    walk = load_walk(robot, 'walk')
    manifest = load_policy(policy_path('walk'))[1]
    adapted = PolicyRuntime(merge(walk.tensors, default_store().load(name)), manifest)
    halves = [
        _half(robot, entry, name, seed, command, caption)
        for entry, caption in ((walk, 'base'), (replace(walk, policy=adapted), f'with {name}'))
    ]
    frames = []
    for left, right in zip(*halves, strict=True):
        frame = Image.new('RGB', (left.width + right.width + 2, left.height), 'white')
        frame.paste(left, (0, 0))
        frame.paste(right, (left.width + 2, 0))
        frames.append(frame)
    _save(frames, f'adapter_{name}', 32, SLOW)


def _half(
    robot: Robot,
    walk: Walk,
    name: str,
    seed: int,
    command: tuple[float, float],
    caption: str,
) -> list[Image.Image]:
    asked = load_recipe(name).task.randomisation
    conditions = replace(NOMINAL, load=asked.load, load_position=asked.load_position)
    if any(asked.slope):
        conditions = replace(conditions, slope=asked.slope, friction=asked.friction)
    simulation = Simulation(robot, seed=seed, randomisation=conditions)
    renderer = Renderer(simulation, width=640, height=480)
    font = ImageFont.load_default(15)
    frames, sums = [], np.zeros(2)
    for tick, truth in film(robot, walk, simulation, ((0.0, command),), SECONDS):
        sums += truth.linear_velocity[0, 0], truth.angular_velocity[0, 2]
        if tick % SLOW == 0:
            picture = Image.fromarray(renderer.draw(simulation)).crop(CROP)
            picture = picture.resize(SIZE, Image.Resampling.LANCZOS)
            mean = sums / (tick + 1)
            pen = ImageDraw.Draw(picture)
            pen.text((6, 4), caption, 'black', font)
            for word, (speed, yaw_rate), y in (('asked', command, 20), ('mean', mean, 36)):
                pen.text((6, y), f'{word} {speed:+.2f} m/s {yaw_rate:+.2f} rad/s', 'black', font)
            frames.append(picture)
    renderer.close()
    return frames


def _save(frames: list[Image.Image], name: str, colours: int, every: int) -> None:
    """Write a GIF with one palette: what does not change then costs nothing."""
    FOLDER.mkdir(exist_ok=True)
    strip = Image.new('RGB', (frames[0].width, sum(frame.height for frame in frames[::8])))
    for i, frame in enumerate(frames[::8]):
        strip.paste(frame, (0, i * frame.height))
    # Octree keeps rare strong colours, which the median cut gives up for more shades of grey.
    palette = strip.quantize(colours, method=Image.Quantize.FASTOCTREE)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    pictures[0].save(
        FOLDER / f'{name}.gif', save_all=True, append_images=pictures[1:],
        duration=20 * every, loop=0, optimize=True,
    )  # fmt: skip


def main(names: Sequence[str]) -> None:
    """Draw those that are named, all without a name."""
    robot = load_robot()
    for name in names or ('walk', *CLIPS):
        if name == 'walk':
            draw_walk(robot)
        else:
            draw_adapter(robot, name)


if __name__ == '__main__':
    main(sys.argv[1:])
