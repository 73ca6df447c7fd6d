"""Pictures of a simulated robot, drawn in a process of their own.

Drawing in software keeps Python's lock for longer than a servo may take to answer, so whoever
plays the servos, too, lets somebody else draw.
"""

import subprocess
import sys

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray

PICTURE = (640, 480)  # px


class CameraProcess:
    """Draws what the robot's camera sees; one picture at a time, on request."""

    def __init__(self, robot: str) -> None:
        """Start the process.

        Args:
            robot: name in config/robots, or path of a table.
        """
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__, robot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def draw(self, qpos: FloatArray) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3) RGB of the robot in this state, (nq,) as MuJoCo orders it.

        Raises:
            RuntimeError: nothing can be drawn; the message says what to install.
        """
        pipe, width, height = self._process, *PICTURE
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        assert pipe.stderr is not None
        try:
            pipe.stdin.write(np.asarray(qpos, dtype=float).tobytes())
            pipe.stdin.flush()
            pixels = pipe.stdout.read(width * height * 3)
        except OSError:
            pixels = b''
        if len(pixels) < width * height * 3:
            raise RuntimeError(pipe.stderr.read().decode().strip().rpartition('\n')[2])
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def main() -> int:
    """Draw for every state that comes in on the standard input, until it ends."""
    from lebot_rl_ros.robot import load_robot
    from lebot_rl_ros.sim.model import ONBOARD
    from lebot_rl_ros.sim.render import Renderer
    from lebot_rl_ros.sim.simulation import Simulation

    simulation = Simulation(load_robot(sys.argv[1]))
    width, height = PICTURE
    renderer = Renderer(simulation, width=width, height=height, camera=ONBOARD)
    size = simulation.qpos[0].nbytes
    while len(state := sys.stdin.buffer.read(size)) == size:
        simulation.qpos[0] = np.frombuffer(state)
        sys.stdout.buffer.write(renderer.draw(simulation).tobytes())
        sys.stdout.buffer.flush()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
