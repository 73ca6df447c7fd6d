"""Blocks: means of the reward over about a gait cycle, by the class of the command.

Single steps depend on each other, and on the phase of the gait.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STANDING = 0.02  # m/s or rad/s; a command below it in both means stand, as in mdp.commands
FAST, TURNING = 0.25, 0.2  # m/s, rad/s
LONGEST = 0.1  # s that one step may count for, and that a gap between two may last


@dataclass(frozen=True)
class Block:
    """Mean reward of some consecutive steps under one command."""

    kind: str  # of the command
    reward: float
    seconds: float


def command_kind(command: Sequence[float]) -> str:
    """Class of a command (m/s, rad/s): what is earned depends on what is asked for.

    Directions are kept apart, as a fault on one side makes one of them harder.
    """
    forward, yaw = float(command[0]), float(command[1])
    if abs(forward) < STANDING and abs(yaw) < STANDING:
        return 'stand'
    speed = 'fast' if abs(forward) >= FAST else 'slow'
    turn = '' if abs(yaw) < TURNING else ' left' if yaw > 0 else ' right'
    return f'{"backwards " if forward <= -STANDING else ""}{speed}{turn}'


class Blocks:
    """Cuts steps into blocks; what follows a change is left out until it has settled."""

    def __init__(self, settle: float, length: float) -> None:
        """Start; seconds that something takes to settle, and that a block lasts."""
        self._settle, self._length = settle, length
        self._command: tuple[float, ...] = ()
        self.interrupt()

    def interrupt(self) -> None:
        """Something changed: wait until it has settled."""
        self._calm = self._sum = self._seconds = 0.0
        self._end = -1

    def take(self, row: np.void, seconds: float) -> Block | None:
        """One step on its feet; a block where it completes one."""
        command = tuple(map(float, row['command']))
        gap = 1e-9 * (int(row['stamp']) - self._end)  # a lost step or two change nothing
        if command != self._command or not 0.0 <= gap <= LONGEST:
            self.interrupt()
        self._command, self._end = command, int(row['next_stamp'])
        self._calm += seconds
        # Sums of floats: half a step of grace, or a block would now and then be one step longer.
        if self._calm - seconds < self._settle - 0.5 * seconds:
            return None
        self._sum += seconds * float(row['reward'])
        self._seconds += seconds
        if self._seconds < self._length - 0.5 * seconds:
            return None
        done = Block(command_kind(command), self._sum / self._seconds, self._seconds)
        self._sum = self._seconds = 0.0
        return done
