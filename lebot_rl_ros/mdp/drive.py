"""From keys and sticks to a command, with a deadman."""

from collections.abc import Sequence

KEYS = (
    'w/s faster/slower   a/d turn left/right   space stand   q quit\n'
    'keys repeat: let go and it stands'
)
STEPS = {'w': (0.05, 0.0), 's': (-0.05, 0.0), 'a': (0.0, 0.1), 'd': (0.0, -0.1)}


class Driver:
    """Holds the newest wish until it is too old."""

    def __init__(self, max_vx: float, max_wz: float, deadman: float) -> None:
        """Limits in m/s and rad/s, deadman in s."""
        self._limit = (max_vx, max_wz)
        self._deadman = deadman
        self._wish = (0.0, 0.0)
        self._time: float | None = None

    def wish(self, now: float, vx: float, wz: float) -> None:
        """Ask for a speed, clamped to the limits."""
        a, b = self._limit
        self._wish, self._time = (min(max(vx, -a), a), min(max(wz, -b), b)), now

    def key(self, now: float, key: str) -> None:
        """One key; unknown ones keep the wish alive."""
        if key == ' ':
            self._wish = (0.0, 0.0)
        step = STEPS.get(key, (0.0, 0.0))
        self.wish(now, self._wish[0] + step[0], self._wish[1] + step[1])

    def release(self) -> None:
        """The enabling button was let go."""
        self._wish, self._time = (0.0, 0.0), None

    def command(self, now: float) -> tuple[float, float] | None:
        """The wish, or None once the deadman has run out or time went backwards."""
        if self._time is None or not 0 <= now - self._time <= self._deadman:
            self._wish = (0.0, 0.0)  # who comes back begins by standing
            return None
        return self._wish


def joy_command(
    axes: Sequence[float], buttons: Sequence[int], axis_vx: int, axis_wz: int, enable: int
) -> tuple[float, float] | None:
    """Sticks in [-1, 1] forward and left; None if the enabling button is up or an axis missing."""
    if enable >= 0 and (enable >= len(buttons) or not buttons[enable]):
        return None
    if max(axis_vx, axis_wz) >= len(axes):
        return None
    return float(axes[axis_vx]), float(axes[axis_wz])
