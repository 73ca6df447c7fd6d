"""Torque off though the driver was killed: real processes on real pseudo-terminals."""

import os
import select
import signal
import subprocess
import sys
import time
import tty

import pytest
import serial

from lebot_rl_ros.hardware.guard import Guard
from lebot_rl_ros.hardware.guard_child import REPEAT

FAREWELL = bytes.fromhex('ffff fe04 0328 00d2')  # any bytes; these are a Feetech's torque off
LIMIT = 30.0  # s against hanging

# A driver as small as can be: it opens the port as ours does, guards it, and does what it is told.
DRIVER = f"""
import sys, serial
from lebot_rl_ros.hardware.guard import Guard
port = serial.Serial(sys.argv[1], 1_000_000, exclusive=True)
port.write(b'goal')
guard = Guard(port.fileno(), {FAREWELL!r})
print(guard.pid, flush=True)
if sys.stdin.readline() == 'close\\n':
    guard.release()
    port.close()
    print('closed', flush=True)
elif sys.argv[2:] == ['raise']:
    raise RuntimeError('of the driver')
sys.stdin.readline()
"""


class Port:
    """The device's end of a pseudo-terminal; its client's end stays open, as a servo's does."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.name = os.ttyname(self.slave)

    def read(self, count):
        """Exactly so many bytes, or fewer if no more come for long."""
        data = b''
        while len(data) < count and select.select([self.master], [], [], LIMIT)[0]:
            data += os.read(self.master, count - len(data))
        return data

    def quiet(self):
        """Whether nothing lies there."""
        return not select.select([self.master], [], [], 0)[0]

    def fill(self):
        """Let nobody read, and write until nothing more is taken."""
        os.set_blocking(self.slave, False)
        refused = 0
        while refused < 10:
            try:
                os.write(self.slave, bytes(8))
                refused = 0
            except BlockingIOError:  # the kernel may move what it has, and have room once more
                refused += 1
                time.sleep(0.01)
        os.set_blocking(self.slave, True)

    def close(self):
        for name in ('master', 'slave'):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


@pytest.fixture
def port():
    port = Port()
    yield port
    port.close()


class Driver:
    """A driver process and the pid of its guard's child."""

    def __init__(self, port, *words):
        self.process = subprocess.Popen(
            [sys.executable, '-c', DRIVER, port.name, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.child = int(self.process.stdout.readline())
        self._child = os.pidfd_open(self.child)

    def child_ends(self):
        """Whether the child has ended, after waiting for it."""
        return bool(select.select([self._child], [], [], LIMIT)[0])

    def kill(self):
        self.process.kill()
        self.process.wait(LIMIT)

    def close(self):
        self.process.kill()
        self.process.communicate()
        os.close(self._child)


@pytest.fixture
def start(port):
    drivers = []

    def one(*words):
        drivers.append(Driver(port, *words))
        return drivers[-1]

    yield one
    for driver in drivers:
        driver.close()


def test_a_killed_driver_leaves_servos_without_torque(port, start):
    driver = start()
    assert port.read(4) == b'goal'
    assert port.quiet()
    driver.kill()
    assert port.read(REPEAT * len(FAREWELL)) == REPEAT * FAREWELL
    assert driver.child_ends()
    assert port.quiet()


def test_a_driver_that_raises_leaves_servos_without_torque(port, start):
    driver = start('raise')
    assert port.read(4) == b'goal'
    driver.process.stdin.write('\n')
    driver.process.stdin.flush()
    assert port.read(REPEAT * len(FAREWELL)) == REPEAT * FAREWELL
    assert driver.child_ends()


def test_a_driver_that_closes_needs_no_farewell(port, start):
    driver = start()
    assert port.read(4) == b'goal'
    driver.process.stdin.write('close\n')
    driver.process.stdin.flush()
    assert driver.process.stdout.readline() == 'closed\n'
    assert driver.child_ends()
    driver.kill()  # now it may
    assert port.quiet()


def test_signals_that_mean_the_driver_do_not_end_the_guard(port, start):
    driver = start()
    assert port.read(4) == b'goal'
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(driver.child, number)
    driver.kill()
    assert port.read(REPEAT * len(FAREWELL)) == REPEAT * FAREWELL


def test_a_port_that_is_gone_ends_the_guard_quietly(port, start):
    driver = start()
    port.close()
    driver.kill()
    assert driver.child_ends()


def test_a_port_that_takes_no_bytes_does_not_keep_the_guard(port, start):
    driver = start()
    port.fill()
    driver.kill()
    assert driver.child_ends()


def test_the_port_is_free_once_the_guard_is_released(port):
    with serial.Serial(port.name, exclusive=True) as first:
        guard = Guard(first.fileno(), FAREWELL)
    # closed by us, yet the child still has it
    with pytest.raises(serial.SerialException, match='exclusively lock'):
        serial.Serial(port.name, exclusive=True)
    guard.release()
    guard.release()  # twice is harmless
    serial.Serial(port.name, exclusive=True).close()
    assert port.quiet()


def test_release_copes_with_a_child_that_was_killed(port):
    guard = Guard(port.slave, FAREWELL)
    os.kill(guard.pid, signal.SIGKILL)
    guard.release()
    assert port.quiet()


def test_signals_are_as_before_and_no_descriptor_is_left(port):
    before = sorted(os.listdir('/proc/self/fd'))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    guard = Guard(port.slave, FAREWELL)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    guard.release()
    assert sorted(os.listdir('/proc/self/fd')) == before
