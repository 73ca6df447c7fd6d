"""The IMU's protocol by hand-made bytes, and the emulated device by what it answers to them."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.hardware import witmotion as wit
from lebot_rl_ros.hardware.emulation.witmotion import EmulatedImu, ImuNoise
from lebot_rl_ros.robot import RobotState

# One g up, 25.00 deg C: 2048 = 0x0800, 2500 = 0x09C4; the sum is 0x55+0x51+0x08+0xC4+0x09 = 0x17B
ONE_G = bytes.fromhex('55 51 0000 0000 0008 C409 7B')
# 500 deg/s about x = 8192 counts = 0x2000, -1 count about y
TURNING = bytes.fromhex('55 52 0020 FFFF 0000 0000 C5')
# 2024-02-29 13:07:59.250
LEAP_DAY = bytes.fromhex('55 50 18 02 1D 0D 07 3B FA00 25')
HALF_TURN = bytes.fromhex('55 59 0000 0000 0000 FF7F 2C')  # w x y z = 0 0 0 1 - 2^-15


def feed(parser, data, size):
    return [f for i in range(0, len(data), size) for f in parser.feed(data[i : i + size])]


def test_frames_by_hand():
    parser = wit.Parser()
    acc, gyro, time, quaternion = parser.feed(ONE_G + TURNING + LEAP_DAY + HALF_TURN)
    assert [f.type for f in (acc, gyro, time, quaternion)] == [0x51, 0x52, 0x50, 0x59]
    assert wit.counts(acc.payload) == (0, 0, 2048, 2500)
    assert wit.counts(acc.payload)[2] * wit.ACCELERATION_SCALE == pytest.approx(9.80665)
    assert wit.counts(gyro.payload) == (8192, -1, 0, 0)
    assert np.rad2deg(wit.counts(gyro.payload)[0] * wit.GYRO_SCALE) == pytest.approx(500.0)
    # 24 years of 365 days and six leap days before; 59 days in; 13:07:59.250
    seconds = (24 * 365 + 6 + 59) * 86400 + 13 * 3600 + 7 * 60 + 59
    assert wit.decode_time(time.payload) == seconds * 1000 + 250
    assert wit.counts(quaternion.payload) == (0, 0, 0, 32767)
    assert (parser.damaged, parser.skipped) == (0, 0)


def test_the_encoders_make_the_same_bytes():
    assert wit.encode(wit.ACCELERATION, (0, 0, 9.80665), wit.ACCELERATION_SCALE, 2500) == ONE_G
    rates = np.deg2rad((500, -2000 / 32768, 0))
    assert wit.encode(wit.GYRO, rates, wit.GYRO_SCALE) == TURNING
    assert wit.encode(wit.QUATERNION, (0, 0, 0, 1.0), wit.QUATERNION_SCALE) == HALF_TURN
    assert wit.encode_time((24 * 365 + 6 + 59) * 86400 + 47279.25) == LEAP_DAY
    assert wit.encode_time(0.0) == bytes.fromhex('55 50 00 01 01 00 00 00 0000 A7')
    # a sensor does not wrap around at the end of its range
    over = wit.encode(wit.GYRO, (100.0, -100.0, 0.0), wit.GYRO_SCALE)
    assert wit.counts(over[2:10])[:2] == (32767, -32768)


def test_a_date_that_is_none_is_no_time():
    assert wit.decode_time(bytes(8)) is None  # month 0
    assert wit.decode_time(bytes((0, 1, 1, 0, 0, 0)) + struct.pack('<H', 1005)) == 1005


def test_every_command():
    assert wit.unlock().hex(' ') == 'ff aa 69 88 b5'
    assert wit.save().hex(' ') == 'ff aa 00 00 00'
    assert wit.set_content((wit.ACCELERATION, wit.GYRO, wit.ANGLE, wit.MAGNETOMETER)).hex(' ') == (
        'ff aa 02 1e 00'
    )  # as delivered
    assert wit.set_content((wit.QUATERNION,)).hex(' ') == 'ff aa 02 00 02'
    assert wit.set_content((wit.TIME, wit.ACCELERATION, wit.GYRO, wit.QUATERNION)).hex(' ') == (
        'ff aa 02 07 02'
    )
    rates = {0.2: 1, 0.5: 2, 1: 3, 2: 4, 5: 5, 10: 6, 20: 7, 50: 8, 100: 9, 125: 10, 200: 11}
    assert {rate: wit.set_rate(rate) for rate in rates} == {
        rate: bytes((0xFF, 0xAA, 3, code, 0)) for rate, code in rates.items()
    }
    bauds = (4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
    assert [wit.set_baud(baud) for baud in bauds] == [
        bytes((0xFF, 0xAA, 4, code, 0)) for code in range(1, 10)
    ]


@pytest.mark.parametrize(
    ('make', 'value', 'message'),
    [
        (wit.set_rate, 60.0, 'rate is 60.0 Hz; choices are 0.2, 0.5, 1, 2,'),
        (wit.set_baud, 1_000_000, 'baud is 1000000; choices are 4800, 9600'),
        (wit.set_content, (0x51, 0x60), r'no frames of type \[96\]; choices are 80, 81'),
    ],
)
def test_what_the_device_does_not_have_is_refused(make, value, message):
    with pytest.raises(ValueError, match=message):
        make(value)


def test_four_frames_at_200_hz_take_76_percent_of_115200_baud():
    assert wit.wire_share(range(4), 200, 115200) == pytest.approx(0.764, abs=5e-4)


@pytest.mark.parametrize('size', [1, 2, 3, 10, 11, 12, 44, 1000])
def test_chunks_of_any_size(size):
    parser = wit.Parser()
    frames = feed(parser, (ONE_G + TURNING) * 20, size)
    assert [f.type for f in frames] == [0x51, 0x52] * 20
    assert (parser.damaged, parser.skipped) == (0, 0)
    assert not any(f.gap for f in frames)


@pytest.mark.parametrize('size', [1, 7, 1000])
def test_it_finds_back_after_garbage_and_says_where(size):
    parser = wit.Parser()
    bad = bytearray(TURNING)
    bad[4] ^= 0x10
    noise = b'\x00\x55\x55\x51'  # a head within garbage, and one that is the real one's neighbour
    frames = feed(parser, ONE_G + bytes(bad) + ONE_G + noise + TURNING + ONE_G, size)
    assert [(f.type, f.gap) for f in frames] == [
        (0x51, False),
        (0x51, True),
        (0x52, True),
        (0x51, False),
    ]
    assert frames[2].payload == TURNING[2:10]
    assert parser.skipped == 11 + 4
    assert parser.damaged == 3  # the bad one, and what began with 55 55 and 55 51 in the noise
    parser.feed(TURNING[:5])
    parser.reset()
    assert [f.type for f in parser.feed(ONE_G)] == [0x51]
    assert parser.skipped == 15


def test_a_million_random_bytes():
    data = np.random.default_rng(0).bytes(1_000_000)
    parser = wit.Parser()
    frames = feed(parser, data, 997)
    # 55 and one of 16 types: every 4096th byte; every 256th of those has a right sum by chance
    assert 150 < parser.damaged < 350
    assert len(frames) < 10
    assert len(data) - 10 <= parser.skipped + 11 * len(frames) <= len(data)
    rest = parser.feed(ONE_G * 2)  # half a frame may have swallowed the first
    assert rest[-1].payload == ONE_G[2:10]


@given(st.lists(st.binary(max_size=40) | st.sampled_from([ONE_G, TURNING, b'\x55', b'\x55\x51'])))
def test_no_bytes_are_lost_track_of(chunks):
    parser = wit.Parser()
    frames = [f for chunk in chunks for f in parser.feed(chunk)]
    total = sum(map(len, chunks))
    assert 0 <= total - parser.skipped - 11 * len(frames) <= 10
    whole = wit.Parser()
    assert whole.feed(b''.join(chunks)) == frames
    assert (whole.damaged, whole.skipped) == (parser.damaged, parser.skipped)


class MemoryLine:
    """A line without a port: what the client wrote, and what it would read."""

    def __init__(self, baud=115200):
        self.baud, self.plugged, self.commands, self.sent = baud, True, b'', []

    def read(self):
        data, self.commands = self.commands, b''
        return data

    def write(self, data):
        self.sent.append(data)

    def take(self):
        """Groups since last time, as lists of frames."""
        groups, self.sent = [wit.Parser().feed(data) for data in self.sent], []
        return groups


def state(orientation=(1.0, 0, 0, 0), rate=(0.0, 0, 0), force=(0.0, 0, 9.80665)):
    nothing = np.zeros(8)
    return RobotState(
        0, nothing, nothing, nothing, np.array(orientation), np.array(rate), np.array(force)
    )


def make(**given):
    line = MemoryLine()
    device = EmulatedImu(line, **given)
    device.advance(0.0, state())
    return device, line


def command(device, line, *commands):
    line.commands += b''.join(commands)
    device.receive()


def run(device, line, start, end, step=0.005):
    """Groups by the time (ms) at which they were sent."""
    line.take()
    times = []
    for tick in range(round(start / step) + 1, round(end / step) + 1):
        device.advance(tick * step, state())
        times += [round(tick * step * 1000)] * len(line.take())
    return times


def test_as_delivered_it_sends_four_frames_ten_times_a_second():
    device, line = make()
    (group,) = line.take()
    assert [f.type for f in group] == [0x51, 0x52, 0x53, 0x54]
    assert run(device, line, 0, 0.4) == [100, 200, 300, 400]


def test_it_needs_unlocking_which_lasts_ten_seconds():
    device, line = make()
    line.take()
    command(device, line, wit.set_rate(100))
    assert (device.rate, line.take()) == (10.0, [])
    command(device, line, wit.unlock(), wit.set_rate(100))
    assert device.rate == 100.0
    assert len(line.take()) == 1  # the output begins anew, also while time stands
    assert run(device, line, 0, 0.05) == [10, 20, 30, 40, 50]
    device.advance(9.9, state())
    command(device, line, wit.set_rate(200))
    assert device.rate == 200.0
    device.advance(10.1, state())
    command(device, line, wit.set_rate(50))
    assert device.rate == 200.0


def test_groups_have_the_order_of_their_types_and_the_time_of_their_tick():
    device, line = make()
    content = wit.set_content((wit.QUATERNION, wit.TIME, wit.GYRO, wit.ACCELERATION))
    command(device, line, wit.unlock(), content, wit.set_rate(200))
    assert [f.type for f in line.take()[-1]] == [0x50, 0x51, 0x52, 0x59]
    for tick in range(1, 9):
        device.advance(tick * 0.005, state())
    assert [wit.decode_time(group[0].payload) for group in line.take()] == [
        5 * tick for tick in range(1, 9)
    ]


def test_commands_split_and_within_garbage():
    device, line = make()
    data = b'\x00\xff' + wit.unlock() + b'\xaa\xff\xff' + wit.set_rate(200)
    for i in range(len(data)):
        command(device, line, data[i : i + 1])
    assert device.rate == 200.0
    command(device, line, np.random.default_rng(0).bytes(100_000))  # must not raise
    assert len(device._rest) < 5


def test_what_is_not_saved_is_lost_with_the_power():
    device, line = make()
    command(device, line, wit.unlock(), wit.set_rate(100), wit.save(), wit.set_rate(200))
    command(device, line, wit.set_content((wit.GYRO,)))
    assert (device.rate, device.types) == (200.0, (wit.GYRO,))
    line.plugged = False
    line.take()
    device.advance(0.005, state())
    device.receive()
    assert line.sent == []
    line.plugged = True
    device.advance(0.010, state())
    assert device.rate == 100.0  # it was saved
    assert [f.type for f in line.take()[0]] == [0x51, 0x52, 0x53, 0x54]
    command(device, line, wit.set_rate(200))
    assert device.rate == 100.0  # locked again
    command(device, line, wit.unlock(), wit.set_rate(200), wit.command(wit.SAVE, 0xFF))
    assert device.rate == 100.0  # a restart


def test_unknown_values_are_ignored():
    device, line = make()
    command(device, line, wit.unlock(), wit.command(wit.RATE, 0x42), wit.command(wit.BAUD, 0))
    command(device, line, wit.command(0x24, 1), wit.command(wit.SAVE, 7))
    assert (device.rate, device.baud) == (10.0, 115200)
    command(device, line, wit.command(wit.RATE, 0x0D))  # no output
    line.take()
    assert run(device, line, 0, 1) == []


def test_at_another_baud_nothing_sensible_goes_either_way():
    device, line = make(baud=9600)
    parser = wit.Parser()
    assert parser.feed(b''.join(line.sent)) == []
    assert parser.skipped + 10 >= 44
    command(device, line, wit.unlock(), wit.set_rate(50))
    assert device.rate == 10.0
    line.baud = 9600
    command(device, line, wit.unlock(), wit.set_rate(50), wit.set_baud(115200))
    assert (device.rate, device.baud) == (50.0, 115200)


def test_a_slow_wire_lowers_the_rate():
    device, line = make(baud=9600)
    line.baud = 9600
    command(device, line, wit.unlock(), wit.set_rate(200))
    assert device.rate == pytest.approx(9600 / 440)  # four frames of 110 bits


def test_mounting_and_quantisation():
    """The sensor lies on its back and a quarter turn to the left: its x is the robot's y."""
    device, line = make(mounting=(np.pi, 0.0, np.pi / 2))
    types = (wit.ACCELERATION, wit.GYRO, wit.ANGLE, wit.QUATERNION)
    command(device, line, wit.unlock(), wit.set_rate(200), wit.set_content(types))
    line.take()
    device.advance(0.005, state(rate=(0.1, 0.2, 0.3)))
    acc, gyro, angle, quaternion = (wit.counts(f.payload) for f in line.take()[0])
    assert acc == (0, 0, -2048, 2500)
    # sensor x = base y, sensor y = base x, sensor z = -base z; 938.73 counts per rad/s
    assert gyro[:3] == (188, 94, -282)
    assert abs(angle[0]) >= 32767  # roll is half a turn
    assert angle[1:3] == (0, 16384)
    half = round(np.sqrt(0.5) * 32768)
    assert np.abs(quaternion).tolist() == [0, half, half, 0]


def test_noise_is_drawn_from_the_seed():
    noise = ImuNoise(0.01, 0.05, 0.002, gyro_bias=(0.02, 0.0, -0.01))

    def sent(seed):
        device, line = make(noise=noise, seed=seed, rate=200.0)
        for tick in range(1, 1001):
            device.advance(tick * 0.005, state())
        return b''.join(line.sent)

    first = sent(1)
    assert sent(1) == first != sent(2)
    rates = np.array([wit.counts(f.payload) for f in wit.Parser().feed(first) if f.type == 0x52])
    rates = rates[:, :3] * wit.GYRO_SCALE
    np.testing.assert_allclose(rates.mean(axis=0), (0.02, 0, -0.01), atol=0.002)
    np.testing.assert_allclose(rates.std(axis=0), 0.01, rtol=0.1)


class Faults:
    """The faults that a test switches on."""

    def __init__(self, **values):
        self.values = values

    def active(self, kind, where):
        assert where == 'imu'
        return SimpleNamespace(value=self.values[kind]) if kind in self.values else None


def test_silence_and_damage():
    faults = Faults(silence=None)
    device, line = make(faults=faults, rate=200.0)
    assert line.sent == []
    assert run(device, line, 0, 0.1) == []
    faults.values = {'corrupt': 0.25}
    for tick in range(1, 501):
        device.advance(0.1 + tick * 0.005, state())
    parser = wit.Parser()
    frames = parser.feed(b''.join(line.sent))
    assert 2000 - len(frames) == pytest.approx(500, abs=80)  # of 2000 frames
    assert 300 < parser.damaged <= 600
