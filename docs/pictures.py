"""Draws the pictures of the README: the shipped policy walking, as a GIF.

python docs/pictures.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.sim.render import Renderer
from lebot_rl_ros.sim.simulation import Simulation

FOLDER = Path(__file__).parent / 'images'
SECONDS, EVERY, SCALE = 6.0, 4, 2  # every fourth tick of 20 ms, drawn twice as large
COMMANDS = ((0.0, (0.3, 0.0)), (3.0, (0.3, 0.6)))  # from when, what


def main() -> None:
    """Walk, draw, write."""
    robot = load_robot()
    walker = Walker(robot, load_walk(robot, 'walk'))
    simulation = Simulation(robot)
    renderer = Renderer(simulation, width=480 * SCALE, height=320 * SCALE)
    limited = LimitedTarget(robot.stand, np.zeros_like(robot.stand))
    frames = []
    for tick in range(round(SECONDS * robot.control_rate)):
        time = tick / robot.control_rate
        command = np.array([command for start, command in COMMANDS if start <= time][-1])
        states = simulation.sense()
        state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
        target = walker.act(state, command)
        limited = limit_target(robot, target, limited, simulation.period)
        walker.applied(limited.position)
        simulation.step(limited.position[None])
        if tick % EVERY == 0:
            picture = Image.fromarray(renderer.draw(simulation))
            frames.append(picture.resize((480, 320), Image.Resampling.LANCZOS))
    FOLDER.mkdir(exist_ok=True)
    palette = [frame.quantize(64, dither=Image.Dither.NONE) for frame in frames]
    palette[0].save(
        FOLDER / 'walk.gif', save_all=True, append_images=palette[1:], duration=20 * EVERY, loop=0
    )
    frames[len(frames) // 3].save(FOLDER / 'walk.png')


if __name__ == '__main__':
    main()
