"""One end of a serial cable: a pseudo-terminal behind a symbolic link that clients open."""

import contextlib
import fcntl
import os
import struct
import tty
from pathlib import Path

TCGETS2 = 0x802C542A  # asm-generic/ioctls.h; tells the rate as a number, odd ones too
_TERMIOS2 = struct.Struct('4I20x2I')  # flags, line discipline and characters, rates in and out
CHUNK = 65536


class Line:
    """The device's end of a cable.

    The client opens ``link`` as it would a serial port. Nothing here blocks. Bytes that do not
    fit into the terminal's buffer, because nobody reads them, are lost, as on a wire.
    """

    def __init__(self, link: str | os.PathLike[str]) -> None:
        """Plug in.

        Args:
            link: path of the port that clients open; what lies there is replaced.

        Raises:
            OSError: no pseudo-terminal is to be had, or the link's folder is missing or closed.
        """
        self.link = Path(link)
        self._master = self._slave = -1
        self._settings = bytearray(_TERMIOS2.size)
        self.plug()

    @property
    def plugged(self) -> bool:
        """Whether there is a port behind the link."""
        return self._master >= 0

    def plug(self) -> None:
        """Put the cable in: a new port behind the same link. Nothing happens if it is in."""
        if self.plugged:
            return
        master, slave = os.openpty()
        try:
            tty.setraw(slave)
            os.set_blocking(master, False)
            temporary = self.link.with_name(f'.{self.link.name}.{os.getpid()}')
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.ttyname(slave))
            temporary.replace(self.link)
        except OSError:
            os.close(master)
            os.close(slave)
            raise
        # Our own slave end stays open: without a client, the master would report a hang-up
        # without end, and a poll for it would spin.
        self._master, self._slave = master, slave

    def unplug(self) -> None:
        """Pull the cable: the link is gone, and a client that is on the port gets an error."""
        if not self.plugged:
            return
        with contextlib.suppress(OSError):
            if self.link.is_symlink() and os.readlink(self.link) == os.ttyname(self._slave):
                self.link.unlink()
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    close = unplug

    def fileno(self) -> int:
        """Descriptor to poll, another one after each plug; -1 while unplugged."""
        return self._master

    @property
    def baud(self) -> int | None:
        """Rate in bit/s that the client has set; None if that cannot be told."""
        try:
            fcntl.ioctl(self._master, TCGETS2, self._settings)
        except (OSError, ValueError):  # unplugged, or a system without this call
            return None
        return int(_TERMIOS2.unpack(self._settings)[-1])

    def read(self) -> bytes:
        """All bytes that the client has sent; b'' if there are none."""
        try:
            return os.read(self._master, CHUNK)
        except OSError:  # none (EAGAIN), or unplugged
            return b''

    def write(self, data: bytes) -> None:
        """Send to the client."""
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except OSError:
                return
