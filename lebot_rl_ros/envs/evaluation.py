"""How well a policy follows commands, judged by what the simulator knows to be true."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

Act = Callable[[FloatArray], FloatArray]  # observations (N, O) -> actions (N, J)
FORWARD = (0.1, 0.2, 0.3, 0.4, 0.5)  # m/s
YAW_RATE = (0.0, 0.5, -0.5)  # rad/s
COMMANDS = (
    *((v, w) for w in YAW_RATE for v in FORWARD),
    *((0.0, w) for w in YAW_RATE),  # stand, and turn on the spot
)
SETTLING = 1.0  # s from a stand to the speed, not judged


@dataclass(frozen=True)
class CommandScore:
    """What robots did with one command; means over the robots."""

    forward: float  # m/s asked
    yaw_rate: float  # rad/s asked
    forward_mean: float  # m/s, of base_link
    yaw_rate_mean: float  # rad/s
    forward_error: float  # m/s, of each robot's mean speed, absolute
    yaw_rate_error: float  # rad/s, likewise
    lateral_speed: float  # m/s, absolute, of each robot's mean
    tilt: float  # rad, root mean square
    falls: int  # of all robots together


def evaluate(
    robot: Robot,
    act: Act,
    config: VelocityConfig | None = None,
    *,
    commands: Sequence[tuple[float, float]] = COMMANDS,
    robots: int = 32,
    seconds: float = 20.0,
    seed: int = 1000,
    threads: int = 2,
) -> list[CommandScore]:
    """Let ``robots`` robots follow each command for ``seconds``, all of them at once.

    Robots are randomised as in training, but from another seed. One that falls starts again, and
    counts.

    Args:
        robot: who walks.
        act: the policy, deterministic.
        config: the task; its commands and episode length are replaced.
        commands: (m/s, rad/s) each.
        robots: for each command.
        seconds: of simulated time.
        seed: of randomisation and noise.
        threads: of the simulation.
    """
    config = replace(config or VelocityConfig(), episode=10.0 * seconds)
    asked = np.repeat(np.asarray(commands, dtype=float), robots, axis=0)
    task = VelocityTask(robot, len(asked), config, seed=seed, threads=threads)
    task.pinned_command = asked
    observation = task.reset()
    start, end = (round(t / task.simulation.period) for t in (SETTLING, seconds))
    sums = np.zeros((4, len(asked)))  # forward, lateral, yaw rate, squared tilt
    falls = np.zeros(len(asked), dtype=int)
    for period in range(end):
        outcome = task.step(act(observation))
        observation = outcome.observation
        falls += outcome.terminated
        if period >= start:
            truth = task.simulation.truth()
            x, y = truth.orientation[:, 1], truth.orientation[:, 2]
            tilt = np.arccos(np.clip(1.0 - 2.0 * (x * x + y * y), -1.0, 1.0))
            sums += (
                truth.linear_velocity[:, 0],
                truth.linear_velocity[:, 1],
                (truth.angular_velocity[:, 2]),
                np.square(tilt),
            )
    forward, lateral, yaw_rate, tilt = (sums / (end - start)).reshape(4, len(commands), robots)
    return [
        CommandScore(
            forward=v,
            yaw_rate=w,
            forward_mean=float(forward[i].mean()),
            yaw_rate_mean=float(yaw_rate[i].mean()),
            forward_error=float(np.abs(forward[i] - v).mean()),
            yaw_rate_error=float(np.abs(yaw_rate[i] - w).mean()),
            lateral_speed=float(np.abs(lateral[i]).mean()),
            tilt=float(np.sqrt(tilt[i].mean())),
            falls=int(falls.reshape(len(commands), robots)[i].sum()),
        )
        for i, (v, w) in enumerate(commands)
    ]


def summary(scores: Sequence[CommandScore]) -> dict[str, float]:
    """The worst of each number over the commands, and all falls.

    Speed is also given for the straight commands alone: whoever turns at full speed needs more of
    the servos outside than they have, so there speed and yaw rate are a trade.
    """
    straight = [score.forward_error for score in scores if score.yaw_rate == 0.0]
    return {
        'straight_forward_error_mps': max(straight, default=float('nan')),
        'forward_error_mps': max(score.forward_error for score in scores),
        'yaw_rate_error_rps': max(score.yaw_rate_error for score in scores),
        'falls': float(sum(score.falls for score in scores)),
    }
