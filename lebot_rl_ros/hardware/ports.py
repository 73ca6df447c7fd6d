"""Serial ports of this machine: which are there, how fast, and what to do if one is refused."""

import errno
import os
from pathlib import Path

from serial.tools import list_ports


def known_ports() -> list[str]:
    """Serial ports that are there, the names that survive replugging first."""
    by_id = Path('/dev/serial/by-id')
    stable = sorted(map(str, by_id.iterdir())) if by_id.is_dir() else []
    return stable + sorted(port.device for port in list_ports.comports())


def latency_timer(port: str, sysfs: Path = Path('/sys')) -> tuple[Path, float] | None:
    """Where the USB adapter behind a port has its latency timer, and its value, s; or None."""
    path = sysfs / 'bus/usb-serial/devices' / os.path.basename(os.path.realpath(port))
    path /= 'latency_timer'
    try:
        return path, int(path.read_text()) / 1e3
    except (OSError, ValueError):
        return None


def latency_timer_advice(port: str, sysfs: Path = Path('/sys')) -> str:
    """The line that mends a slow USB adapter; empty if it is fast, or not known to be slow.

    Such an adapter keeps what it received for up to this time: with 16 ms, eight servos are read
    59 times a second instead of 770.
    """
    found = latency_timer(port, sysfs)
    if found is None or found[1] <= 0.001:
        return ''
    return (
        f'{port}: its USB latency timer is {1e3 * found[1]:.0f} ms, which delays every answer; '
        f'set it with: echo 1 | sudo tee {found[0]}'
    )


def open_advice(port: str, error: Exception) -> str:
    """What to do about a port that cannot be opened."""
    code = getattr(error, 'errno', None)
    if code in (errno.EACCES, errno.EPERM):
        return (
            f'{port}: no permission; join its group (sudo usermod -aG dialout $USER) and log in '
            'again. If the port comes and goes, brltty grabs it: sudo apt remove brltty'
        )
    if code == errno.ENOENT:
        return f'{port} is not there; ports that are: {", ".join(known_ports()) or "none"}'
    if code in (errno.EBUSY, errno.EAGAIN):
        return f'{port} is in use; another driver or brltty has it, see: fuser -v {port}'
    return f'{port} cannot be opened: {error}'
