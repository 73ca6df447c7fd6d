"""Torque off though the driver was killed: a small process that outlives it and says farewell.

No code of a driver runs after SIGKILL or a crash, and Feetech's servos have no watchdog on the
bus: they hold their last goal until the battery is empty. So a child process waits at a pipe. When
the driver dies, however it dies, the kernel closes the driver's end, and the child writes the
bytes that switch torque off. Not covered: who kills both (a whole control group, or the power),
and a driver that is frozen but alive.

The child writes to the *inherited* descriptor of the port. It could not open the port itself: that
is locked for one opener (flock or TIOCEXCL), and the lock belongs to the open port, not to the
process, so the child may use what it inherits. For the same reason the port stays busy until the
child has ended too; :meth:`Guard.release` waits for that.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name('guard_child.py')
BYE = b'bye'
PATIENCE = 2.0  # s for the child to end, which takes it milliseconds

# Ctrl-C, a service manager, a closed terminal: they mean the driver, which then releases the
# guard. Blocked already while the child is made, so that there is no moment without it.
NOT_FOR_THE_CHILD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Guard:
    """Guards one open port from now until :meth:`release`.

    A process that is forked from the driver later, without exec, would hold the pipe open.
    """

    def __init__(self, fd: int, farewell: bytes) -> None:
        """Start the child; it is not waited for.

        Args:
            fd: descriptor of the open port.
            farewell: what the servos are to be told once this process is gone.

        Raises:
            OSError: no process could be started.
        """
        read_end, self._pipe = os.pipe()  # neither is inherited unless named
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_THE_CHILD)
        try:
            # Without site packages (-S) and environment (-I) Python starts in milliseconds.
            self._child = subprocess.Popen(
                [sys.executable, '-I', '-S', str(SCRIPT), str(fd), str(read_end), farewell.hex()],
                pass_fds=(fd, read_end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd='/',
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(read_end)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def release(self) -> None:
        """Say bye, so that nothing is written, and wait until the port is no longer held."""
        if self._pipe < 0:
            return
        with contextlib.suppress(OSError):  # it may have ended already
            os.write(self._pipe, BYE)
        os.close(self._pipe)
        self._pipe = -1
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
