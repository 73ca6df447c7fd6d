"""What the guard's child process runs; imports little, so that it starts at once.

Arguments: descriptor of the port, read end of the driver's pipe, farewell in hex.
"""

import os
import signal
import sys
import termios
import time

REPEAT, PAUSE = 3, 0.005  # nobody confirms a broadcast, and one may be damaged; s between two
CHUNK = 64  # bytes; the driver says one short word or nothing
LONGEST = 1  # s; a port that takes no more bytes must not keep this process


def main() -> None:
    """Wait for the end of the pipe; without a bye before it, say farewell to the servos."""
    port, pipe, farewell = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
    said = b''
    while word := os.read(pipe, CHUNK):
        said += word
    if said == b'bye':
        return
    signal.alarm(LONGEST)  # ends this process
    try:
        os.set_blocking(port, True)
        for _ in range(REPEAT):
            time.sleep(PAUSE)  # before the first too: a packet that broke off is forgotten by it
            os.write(port, farewell)
            termios.tcdrain(port)  # until it has left: closing a port may drop what waits
    except (OSError, termios.error):
        return  # the port is gone as well


if __name__ == '__main__':
    main()
