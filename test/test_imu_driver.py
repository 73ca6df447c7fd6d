"""The IMU's driver against the emulated device, over a real pseudo-terminal; then as a process."""

import fcntl
import math
import select
import termios
import threading
import time
from array import array
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Imu

from lebot_rl_ros.hardware import witmotion as wit
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.witmotion import EmulatedImu, ImuNoise
from lebot_rl_ros.hardware.imu import ImuReader
from lebot_rl_ros.hardware.imu_samples import Groups
from lebot_rl_ros.hardware.wire import WireLost
from lebot_rl_ros.robot import RobotState, rotations
from lebot_rl_ros.ros.convert import to_ns
from ros_graph import fresh_domain, node_process, probe

STEP = 0.005  # s of the emulated body
NOTHING = np.zeros(8)
TILTED = rotations.from_roll_pitch_yaw(np.array([0.2, -0.3, 1.0]))


def state(orientation=(1.0, 0, 0, 0), rate=(0.0, 0, 0), force=None):
    """What is true; without a force, that of rest."""
    orientation = np.array(orientation)
    if force is None:
        force = -wit.STANDARD_GRAVITY * rotations.gravity_in_body(orientation)
    return RobotState(0, NOTHING, NOTHING, NOTHING, orientation, np.array(rate), np.array(force))


class Faults:
    """The faults that a test switches on."""

    def __init__(self):
        self.values = {}

    def active(self, kind, where=''):
        return SimpleNamespace(value=self.values[kind]) if kind in self.values else None


class CountingLine(Line):
    """Knows how much it sent: the kernel hands bytes on in its own time."""

    sent = 0

    def write(self, data):
        self.sent += len(data)
        super().write(data)


def arrive(descriptor, count):
    """Wait until so many bytes lie there."""
    end, lying = time.monotonic() + 20.0, array('i', [0])
    while lying[0] < count:
        assert time.monotonic() < end, f'{lying[0]} of {count} bytes came'
        select.select([descriptor], [], [], 1.0)
        fcntl.ioctl(descriptor, termios.FIONREAD, lying)


class Bench:
    """The device on its line, and a body that does what the test says."""

    def __init__(self, folder, **given):
        self.line, self.faults = CountingLine(folder / 'imu'), Faults()
        self.port = str(folder / 'imu')
        self.device = EmulatedImu(self.line, faults=self.faults, **given)
        self.ticks, self.state = 0, state()
        self.device.advance(0.0, self.state)

    def open(self, **given):
        """A reader whose device has taken its commands."""
        reader = ImuReader(self.port, **given)
        self.open_again(reader)
        return reader

    def open_again(self, reader):
        reader.open()  # throws away what lay there
        self.line.sent = 0
        self.obey()
        self.read(reader)

    def obey(self):
        """Let the device take the three commands of a reader."""
        arrive(self.line.fileno(), 15)
        self.device.receive()

    def read(self, reader, most=4095):
        """What the reader finds once all that was sent since the last time is there."""
        arrive(reader.fileno(), min(self.line.sent, most))
        self.line.sent = 0
        return reader.read()

    def advance(self, count=1, **given):
        """Let the body move by so many steps."""
        self.state = state(**given) if given else self.state
        for _ in range(count):
            self.ticks += 1
            self.device.advance(self.ticks * STEP, self.state)

    def samples(self, reader, count=1, **given):
        """Samples of so many steps, read after each."""
        found = []
        for _ in range(count):
            self.advance(**given)
            found += self.read(reader)
        return found


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(**given):
        made.append(Bench(tmp_path, **given))
        return made[-1]

    yield make
    for one in made:
        one.line.close()


MOUNTINGS = [(0.0, 0.0, 0.0), (math.pi, 0.0, math.pi / 2), (0.3, -0.2, 2.0)]


@pytest.mark.parametrize('mounting', MOUNTINGS)
def test_what_is_true_comes_back_within_the_quantisation(bench, mounting):
    on = bench(mounting=mounting)
    reader = on.open(mounting=mounting)
    rate, force = (0.5, -1.0, 2.0), (1.0, -2.0, 8.0)
    (sample,) = on.samples(reader, orientation=TILTED, rate=rate, force=force)
    assert sample.device_time is None
    np.testing.assert_allclose(sample.angular_velocity, rate, atol=wit.GYRO_SCALE)
    np.testing.assert_allclose(sample.linear_acceleration, force, atol=wit.ACCELERATION_SCALE)
    assert abs(sample.orientation @ TILTED) == pytest.approx(1.0, abs=1e-7)
    assert reader.errors.total() == 0
    reader.close()
    assert not reader.is_open


def test_a_wrong_mounting_shows(bench):
    on = bench(mounting=(0.0, 0.0, math.pi / 2))
    reader = on.open()
    (sample,) = on.samples(reader, rate=(1.0, 0.0, 0.0))
    # the sensor's y points against the robot's x
    np.testing.assert_allclose(sample.angular_velocity, (0.0, -1.0, 0.0), atol=1e-3)


def test_every_sample_comes_once_and_in_order(bench):
    on = bench()
    reader = on.open(device_time=True)
    on.advance(40)
    samples = on.read(reader)
    assert [s.device_time for s in samples] == [round(STEP * (i + 1), 3) for i in range(40)]
    on.device.repeat(on.ticks * STEP, on.state)
    assert on.read(reader) == []
    assert reader.made.repeated >= 1
    assert reader.errors.total() == 0


def test_what_was_left_lying_is_not_taken_for_new(bench):
    on = bench()
    reader = on.open()
    on.advance(1000)  # 33 kB, of which the terminal keeps some
    assert on.read(reader) == []
    assert reader.errors.overrun == 1
    assert len(on.samples(reader, 3)) == 3


def test_damage_is_counted_and_never_becomes_a_value(bench):
    on = bench()
    reader = on.open()
    on.faults.values = {'corrupt': 0.2}
    rate = (0.1, 0.2, 0.3)
    samples = on.samples(reader, 500, orientation=TILTED, rate=rate)
    assert len(samples) == pytest.approx(500 * 0.8**3, abs=50)
    for sample in samples:
        np.testing.assert_allclose(sample.angular_velocity, rate, atol=2 * wit.GYRO_SCALE)
        assert abs(sample.orientation @ TILTED) == pytest.approx(1.0, abs=1e-6)
    assert reader.errors.damaged > 200
    assert reader.errors.incomplete > 100


def test_groups_do_not_mix_over_a_loss():
    groups = Groups((wit.ACCELERATION, wit.GYRO))
    frames = [
        (0x52, b'-', False),  # the end of a group; the port was opened in the middle of it
        (0x51, b'1', False),
        (0x52, b'2', False),
        (0x51, b'old', False),
        (0x52, b'new', True),  # between them a gyro and an acceleration were lost
        (0x51, b'1', False),
        (0x53, b'-', False),  # of no interest, and out of order for a group of 51 and 52
        (0x51, b'2', False),
        (0x52, b'3', False),
    ]
    whole = [groups.add(wit.Frame(*frame)) for frame in frames]
    assert whole == [None, None, {0x51: b'1', 0x52: b'2'}] + [None] * 5 + [
        {0x51: b'2', 0x52: b'3'}
    ]
    assert groups.incomplete == 3


def test_the_bias_is_learned_at_rest_only(bench):
    bias = (0.02, -0.03, 0.01)
    noise = ImuNoise(0.002, 0.02, gyro_bias=bias)
    on = bench(noise=noise)
    reader = on.open()
    for tick in range(600):  # walking: it sways
        swing = (0.3 * math.sin(tick / 10), 0.0, 0.0)
        on.samples(reader, rate=swing)
    assert reader.made.bias.windows == 0
    samples = on.samples(reader, 450, rate=(0.0, 0.0, 0.0))
    assert reader.made.bias.windows >= 1
    np.testing.assert_allclose(reader.made.bias.value, bias, atol=5e-4)
    last = np.mean([s.angular_velocity for s in samples[-40:]], axis=0)
    np.testing.assert_allclose(last, 0.0, atol=2e-3)
    windows = reader.made.bias.windows
    samples = on.samples(reader, 450, rate=(0.0, 0.0, 0.5))  # an even turn is no bias
    assert reader.made.bias.windows <= windows + 1  # of the rest before it
    assert samples[-1].angular_velocity[2] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('orientation', ['filter', 'none'])
def test_without_an_orientation_from_the_device(bench, orientation):
    on = bench()
    on.advance(orientation=TILTED)
    reader = on.open(orientation=orientation)
    assert on.device.types == (wit.ACCELERATION, wit.GYRO)
    first, *_, last = on.samples(reader, 100)
    if orientation == 'none':
        assert first.orientation is None
        return
    # at once, as the tilt begins with what gravity says; heading begins at 0
    for sample in (first, last):
        np.testing.assert_allclose(
            rotations.gravity_in_body(sample.orientation),
            rotations.gravity_in_body(TILTED),
            atol=1e-3,
        )
        assert rotations.yaw(sample.orientation) == pytest.approx(0.0, abs=1e-3)
    for tick in range(200):  # it yaws by half a radian in a second
        turned = rotations.multiply(
            rotations.from_roll_pitch_yaw(np.array([0.0, 0.0, 0.5 * (tick + 1) * STEP])), TILTED
        )
        up = -rotations.gravity_in_body(TILTED)
        (last,) = on.samples(reader, orientation=turned, rate=0.5 * up)
    assert rotations.yaw(last.orientation) == pytest.approx(0.5, abs=2e-3)


def test_orientation_and_gravity_that_disagree_show(bench):
    on = bench()
    reader = on.open()
    on.samples(reader, 401, orientation=TILTED)
    assert reader.made.misfit < 0.01
    on.samples(reader, 401, force=(0.0, wit.STANDARD_GRAVITY * math.sin(0.4), 9.0))
    assert reader.made.misfit == pytest.approx(math.atan2(9.80665 * math.sin(0.4), 9.0), abs=0.01)


@contextmanager
def silence_counts(reader):
    """Let SILENT pass without waiting for it."""
    reader._since -= 1.0
    yield
    reader._since += 1.0


def test_it_says_why_nothing_comes(bench):
    on = bench()
    reader = on.open()
    on.samples(reader, 2)
    assert reader.silence() == ''
    on.faults.values = {'silence': None}
    assert on.samples(reader, 100) == []
    with silence_counts(reader):
        assert reader.silence().startswith('silent: has it power')
    on.faults.values = {}
    assert len(on.samples(reader, 2)) == 2

    on.device.power_cycle()  # its settings are gone, the port is not
    assert on.samples(reader, 100) == []
    with silence_counts(reader):
        assert 'lacking quaternion; a device that has no quaternions' in reader.silence()
    reader.configure()
    on.obey()
    assert len(on.samples(reader, 2)) >= 2


def test_a_wrong_baud(bench):
    on = bench(baud=9600)
    reader = on.open(baud=115200)
    assert on.samples(reader, 200) == []
    with silence_counts(reader):
        assert 'bytes come, but no frames: is the device set to another baud' in reader.silence()
    assert reader.errors.skipped > 300
    assert on.device.types != (wit.ACCELERATION, wit.GYRO, wit.QUATERNION)
    reader.close()
    reader = on.open(baud=9600, rate=20.0)
    assert len(on.samples(reader, 100)) == 10


def test_the_cable_is_pulled_and_put_in_again(bench):
    on = bench()
    reader = on.open()
    assert len(on.samples(reader, 3)) == 3
    on.line.unplug()
    on.advance()
    with pytest.raises(WireLost, match='imu is lost'):
        reader.read()
    assert not reader.is_open
    with pytest.raises(WireLost, match='is not open'):
        reader.read()
    with pytest.raises(WireLost, match='is not there; ports that are'):
        reader.open()
    on.line.plug()
    on.advance()
    assert on.device.rate == 10.0  # it had lost its power
    on.open_again(reader)
    assert on.device.rate == 200.0
    assert len(on.samples(reader, 3)) == 3


def test_the_port_is_ours_alone(bench):
    on = bench()
    first = on.open()
    with pytest.raises(WireLost, match='is in use'):
        ImuReader(on.port).open()
    first.close()
    on.open().close()


def test_nothing_is_saved_in_the_device(bench):
    on = bench()
    saved = dict(on.device.saved)
    on.open(device_time=True)
    assert on.device.registers != saved
    assert on.device.saved == saved


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'rate': 60.0}, 'rate is 60.0 Hz; choices are'),
        ({'rate': 0.0}, 'rate is 0.0 Hz; choices are'),
        ({'baud': 1}, 'baud is 1; choices are'),
        ({'baud': 9600}, '3 frames at 200 Hz need 688% of 9600 baud'),
        ({'mounting': (0.0, math.nan, 0.0)}, 'must be roll, pitch and yaw in rad'),
        ({'mounting': (0.0, 0.0)}, 'must be roll, pitch and yaw in rad'),
        ({'orientation': 'magic'}, "orientation is 'magic'; choices are device, filter, none"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ImuReader('nowhere', **given)


class Running:
    """The device in real time, in a thread, while the test watches the node."""

    def __init__(self, bench):
        self.bench, self._stop = bench, threading.Event()
        self.lock = threading.Lock()  # held while the test changes the cable
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        start = time.monotonic()
        while not self._stop.wait(STEP / 2):
            with self.lock:
                self.bench.device.receive()
                due = int((time.monotonic() - start) / STEP) - self.bench.ticks
                self.bench.advance(max(due, 0))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def health(listening, words, meanwhile=lambda: None):
    """Wait until the driver says that; returns its level and values."""

    def said():
        meanwhile()
        level, message, values = listening.health.get('/imu_driver', (0, '', {}))
        return (level, values) if words in message else None

    return listening.until(said, f'{words!r} from the driver', 30.0)


def test_the_driver_in_real_time(bench):
    """Right values; then silence, damage, and the cable out and in again."""
    mounting = (180.0, 0.0, 90.0)
    on = bench(mounting=np.deg2rad(mounting))
    rate, force = (0.5, -1.0, 2.0), (1.0, -2.0, 8.0)
    on.advance(orientation=TILTED, rate=rate, force=force)
    domain = fresh_domain()
    given = {
        'port': on.port,
        'mounting': "'180 0 90'",
        'angular_velocity_stddev': 0.01,
        'realtime_priority': 0,
    }
    with (
        Running(on) as running,
        probe(domain) as listening,
        node_process(domain, 'imu_driver', **given),
    ):
        heard = listening.listen(Imu, 'imu/data')
        begin = time.time_ns()
        listening.until(lambda: len(heard) > 50, 'samples')
        message = heard[-1]
        assert message.header.frame_id == 'imu_link'
        w, a, q = message.angular_velocity, message.linear_acceleration, message.orientation
        np.testing.assert_allclose((w.x, w.y, w.z), rate, atol=wit.GYRO_SCALE)
        np.testing.assert_allclose((a.x, a.y, a.z), force, atol=wit.ACCELERATION_SCALE)
        assert abs(np.dot((q.w, q.x, q.y, q.z), TILTED)) == pytest.approx(1.0, abs=1e-7)
        assert message.angular_velocity_covariance[4] == pytest.approx(1e-4)
        assert message.orientation_covariance[0] == 0.0
        stamps = [to_ns(m.header.stamp) for m in heard]
        assert stamps == sorted(set(stamps))
        assert begin - 20e9 < stamps[0] < stamps[-1] < time.time_ns()
        _, values = health(listening, 'running')
        assert values['damaged'] == '0'

        on.faults.values = {'silence': None}
        level, values = health(listening, 'silent: has it power')
        assert level == 2
        assert float(values['age_s']) > 0.2
        count = len(heard)
        assert not listening.within(0.3, lambda: len(heard) > count)  # nothing stale is sent
        on.faults.values = {'corrupt': 0.2}
        level, values = health(listening, 'frames or samples damaged')
        assert level == 1
        assert int(values['damaged']) > 0

        on.faults.values = {}
        with running.lock:
            on.line.unplug()
        level, _ = health(listening, 'is not there; ports that are')
        assert level == 2
        count = len(heard)
        assert not listening.within(0.3, lambda: len(heard) > count)
        with running.lock:
            on.line.plug()
        listening.until(lambda: len(heard) > count + 50, 'samples after the cable is in again')
        w = heard[-1].angular_velocity
        np.testing.assert_allclose((w.x, w.y, w.z), rate, atol=wit.GYRO_SCALE)
        assert on.device.rate == 200.0

        with running.lock:
            on.device.power_cycle()  # behind an adapter that keeps its power
        count = len(heard)
        listening.until(lambda: len(heard) > count + 50, 'samples after the device lost its power')


def test_the_driver_in_lockstep(bench):
    """Each control tick's sample, by the device's clock; the first again until there are more."""
    on = bench()
    domain = fresh_domain()
    with (
        probe(domain) as listening,
        node_process(domain, 'imu_driver', port=on.port, lockstep='true', realtime_priority=0),
    ):
        heard = listening.listen(Imu, 'imu/data', 1000)

        def stands():
            """Time stands, and the stream goes on."""
            on.device.receive()
            on.device.repeat(on.ticks * STEP, on.state)
            return len(heard) > 5

        listening.until(stands, 'the sample of time 0, again and again')
        assert {to_ns(m.header.stamp) for m in heard} == {0}
        expected = []
        for tick in range(1, 26):
            for step in range(4):  # only the last of them is of a control tick
                on.advance(rate=(0.1 * tick, 0.0, 0.2 * step))
            expected.append(tick * 20_000_000)
            listening.until(lambda: to_ns(heard[-1].header.stamp) == expected[-1], f'tick {tick}')
            assert heard[-1].angular_velocity.x == pytest.approx(0.1 * tick, abs=1e-3)
            assert heard[-1].angular_velocity.z == pytest.approx(0.6, abs=1e-3)
        stamps = [to_ns(m.header.stamp) for m in heard]
        assert stamps == sorted(stamps)
        assert sorted(set(stamps)) == [0, *expected]
        # time stands again: the newest goes on for those who join late, and nothing changes in it
        count, newest = len(heard), heard[-1]
        listening.until(lambda: stands() and len(heard) > count + 2, 'the newest sample, again')
        assert all(message == newest for message in heard[count:])
        on.faults.values = {'silence': None}
        health(listening, 'silent: has it power', stands)
        count = len(heard)
        assert not listening.within(0.3, lambda: len(heard) > count)  # nobody knows if it is true
        on.faults.values = {}
        _, values = health(listening, 'running', stands)
        assert int(values['repeated']) > 0


def test_a_port_that_is_not_there_is_waited_for(bench, tmp_path):
    domain = fresh_domain()
    with (
        probe(domain) as listening,
        node_process(
            domain, 'imu_driver', port=tmp_path / 'imu', orientation='none', realtime_priority=0
        ),
    ):
        heard = listening.listen(Imu, 'imu/data')
        level, _ = health(listening, 'is not there; ports that are')
        assert level == 2
        with Running(bench(noise=ImuNoise(0.001, 0.01))):
            listening.until(lambda: len(heard) > 10, 'samples')
        assert heard[-1].orientation_covariance[0] == -1.0


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'mounting': 'upright'}, "mounting is 'upright', must be three angles in degrees"),
        ({'rate': 60.0}, 'rate is 60.0 Hz; choices are 0.2'),
        ({'robot': 'spot'}, "no robot 'spot'"),
        ({'angular_velocity_stddev': -1.0}, 'angular_velocity_stddev is -1.0, must not be neg'),
    ],
)
def test_the_driver_refuses_what_cannot_be(given, message):
    with node_process(fresh_domain(), 'imu_driver', **given) as popen:
        assert popen.wait(30) == 2
        assert message in popen.stdout.read()
