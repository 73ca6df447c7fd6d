"""Codecs and register tables of the servos, by published frames, by hand, and by force."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.hardware import dynamixel, dynamixel_table, feetech, feetech_table
from lebot_rl_ros.hardware.registers import Register

CODECS = pytest.mark.parametrize('codec', [feetech, dynamixel])
TABLES = pytest.mark.parametrize(
    'table', [feetech_table.STS3215, dynamixel_table.XL430, dynamixel_table.XL330]
)
HOSTILE = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0xFE, 0x55]), max_size=40).map(bytes),
)


@pytest.mark.parametrize(
    ('made', 'published'),
    [
        (feetech.read(1, 56, 2), 'FF FF 01 04 02 38 02 BE'),
        (
            feetech.write(1, 42, bytes.fromhex('00 08 00 00 E8 03')),
            'FF FF 01 09 03 2A 00 08 00 00 E8 03 D5',
        ),
        (feetech.ping(1), 'FF FF 01 02 01 FB'),
        (feetech.status(1, 0), 'FF FF 01 02 00 FC'),
        # 01 + 04 + 00 + 18 + 05 = 22; its complement is DD
        (feetech.status(1, 0, bytes.fromhex('18 05')), 'FF FF 01 04 00 18 05 DD'),
        # FE + 06 + 82 + 38 + 08 + 01 + 02 = 1C9; the complement of C9 is 36
        (feetech.sync_read(56, 8, (1, 2)), 'FF FF FE 06 82 38 08 01 02 36'),
        # FE + 0A + 83 + 2A + 02 + (01 00 08) + (02 FF 07) = 2C8; the complement of C8 is 37
        (
            feetech.sync_write(42, 2, {1: bytes((0, 8)), 2: bytes((0xFF, 7))}),
            'FF FF FE 0A 83 2A 02 01 00 08 02 FF 07 37',
        ),
        # 03 + 02 + 08 = 0D
        (feetech.reboot(3), 'FF FF 03 02 08 F2'),
        (dynamixel.ping(1), 'FF FF FD 00 01 03 00 01 19 4E'),
        # The next six are the examples of the e-manual.
        (dynamixel.ping(0xFE), 'FF FF FD 00 FE 03 00 01 31 42'),
        (
            dynamixel.status(1, 0, bytes.fromhex('06 04 26')),
            'FF FF FD 00 01 07 00 55 00 06 04 26 65 5D',
        ),
        (dynamixel.read(1, 132, 4), 'FF FF FD 00 01 07 00 02 84 00 04 00 1D 15'),
        (
            dynamixel.write(1, 116, (512).to_bytes(4, 'little')),
            'FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89',
        ),
        (
            dynamixel.sync_read(132, 4, (1, 2)),
            'FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA',
        ),
        (
            dynamixel.sync_write(
                116, 4, {1: bytes.fromhex('96 00 00 00'), 2: bytes.fromhex('AA 00 00 00')}
            ),
            'FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87',
        ),
        (dynamixel.reboot(1), 'FF FF FD 00 01 03 00 08 2F 4E'),
    ],
)
def test_frames_are_the_published_ones(made, published):
    assert made == bytes.fromhex(published)


def test_the_crc_is_that_of_the_e_manual():
    # CRC-16/UMTS (polynomial 8005, from 0, not reflected) has this published check value.
    assert dynamixel.crc16(b'123456789') == 0xFEE8
    assert dynamixel.crc16(b'6789', dynamixel.crc16(b'12345')) == 0xFEE8


@given(st.binary(min_size=1, max_size=40))
def test_the_crc_is_the_sum_of_what_each_byte_adds(data):
    columns = dynamixel.crc_columns(len(data))
    crc = 0
    for place, byte in enumerate(data):
        crc ^= int(columns[place, byte])
    assert crc == dynamixel.crc16(data)


def test_a_header_in_the_data_is_stuffed():
    data = bytes.fromhex('01 FF FF FD FD 02 FF FF FD')
    sent = dynamixel.status(7, 0, data)
    assert sent[7:-2].hex(' ') == '55 00 01 ff ff fd fd fd 02 ff ff fd fd'
    assert sent[5:7] == bytes((15, 0))  # length counts what was stuffed: 13 bytes and the CRC
    assert dynamixel.Parser().feed(sent) == [(7, 0x55, b'\0' + data)]


@CODECS
@given(id=st.integers(0, 0xFE), code=st.integers(0, 0xFF), params=HOSTILE, chunk=st.integers(1, 9))
def test_what_is_framed_is_parsed_in_whatever_pieces(codec, id, code, params, chunk):
    parser, found = codec.Parser(), []
    stream = codec.frame(id, code, params) * 2
    for start in range(0, len(stream), chunk):
        found += parser.feed(stream[start : start + chunk])
    assert found == [(id, code, params)] * 2
    assert (parser.damaged, parser.skipped) == (0, 0)


@CODECS
@given(noise=HOSTILE, params=HOSTILE)
def test_a_packet_is_found_behind_any_noise(codec, noise, params):
    parser = codec.Parser()
    packet = codec.frame(5, 0x55, params)
    found = [*parser.feed(noise), *parser.feed(packet), *parser.flush()]
    # Noise may happen to be a packet, or to take the first bytes of ours for its own; but then
    # it must have a check sum that is right.
    if not any(p.id != 5 or p.params != params for p in found):
        assert found == [(5, 0x55, params)]
        assert parser.skipped == len(noise)


@CODECS
@given(params=st.binary(max_size=30), where=st.integers(0, 1000), bit=st.integers(0, 7))
def test_one_wrong_bit_is_never_accepted(codec, params, where, bit):
    packet = bytearray(codec.frame(3, 0x55, params))
    packet[where % len(packet)] ^= 1 << bit
    parser = codec.Parser()
    assert (3, 0x55, params) not in [*parser.feed(packet), *parser.flush()]
    assert parser.skipped


@CODECS
def test_a_lost_byte_costs_one_packet(codec):
    packet = codec.status(2, 0, bytes(range(15)))
    parser = codec.Parser()
    found = parser.feed(packet + packet[:9] + packet[10:] + packet)
    assert found == parser.feed(packet) * 2
    assert parser.damaged == parser.damaged_by[2] == 1
    assert parser.skipped == len(packet) - 1


@CODECS
def test_an_end_that_never_comes_hides_nothing_for_ever(codec):
    packet = codec.status(2, 0, b'abc')
    start = codec.status(9, 0, bytes(200))[:10]
    parser = codec.Parser()
    assert parser.feed(start + packet) == []  # may still become the long one
    assert len(parser.flush()) == 1
    assert (parser.damaged_by[9], parser.skipped) == (1, len(start))
    parser.feed(start)
    parser.reset()
    assert len(parser.feed(packet)) == 1


@CODECS
def test_a_million_random_bytes_do_no_harm(codec):
    rng = random.Random(0)
    parser, found, fed = codec.Parser(), 0, 0
    while fed < 1_000_000:
        if rng.random() < 0.5:  # the bytes that could hurt
            chunk = bytes(rng.choices((0xFF, 0xFF, 0xFD, 0x00, rng.randrange(256)), k=500))
        else:
            chunk = rng.randbytes(500)
        found += sum(len(p.params) + (6 if codec is feetech else 10) for p in parser.feed(chunk))
        fed += len(chunk)
        assert len(parser._buffer) <= 7 + 1024
    found += sum(len(p.params) + (6 if codec is feetech else 10) for p in parser.flush())
    if codec is feetech:  # every byte is in a packet or was skipped
        assert found + parser.skipped == fed
    assert parser.skipped > 0.9 * fed


@CODECS
def test_who_asks_for_nonsense_is_told(codec):
    with pytest.raises(ValueError, match=r'servo id 255 is not in 0\.\.254'):
        codec.ping(255)
    with pytest.raises(ValueError, match='servo 4: 3 bytes of data, sync write has 2'):
        codec.sync_write(42, 2, {4: b'abc'})
    with pytest.raises(ValueError, match='at most'):
        codec.write(1, 0, bytes(1100))


def test_a_refusal_or_a_request_is_no_answer():
    assert dynamixel.answer(dynamixel.Packet(1, 0x55, b'\x80abc')) == (0x80, b'abc')
    assert dynamixel.answer(dynamixel.Packet(1, 0x55, b'\x07')) is None  # access error
    assert dynamixel.answer(dynamixel.Packet(1, 0x55, b'')) is None
    assert dynamixel.answer(dynamixel.Packet(1, 0x01, b'')) is None
    assert feetech.answer(feetech.Packet(1, 0x20, b'ab')) == (0x20, b'ab')  # overload, but data
    assert feetech.answer(feetech.Packet(0xFE, 0x82, b'ab')) is None


@TABLES
def test_tables_have_no_two_registers_in_one_place(table):
    taken = set()
    for entry in table.registers:
        places = set(range(entry.address, entry.address + entry.size))
        assert not places & taken, entry.name
        assert max(places) < table.memory, entry.name
        taken |= places
    assert len(table.by_name) == len(table.registers)


@TABLES
def test_every_register_takes_its_whole_range_and_no_more(table):
    memory = table.factory()
    for entry in table.registers:
        lowest, highest = entry.range
        for raw in (lowest, highest, entry.initial):
            assert entry.unpack(entry.pack(raw)) == raw, entry.name
            value = (raw - entry.zero) * entry.scale
            assert entry.decode(entry.encode(value)) == pytest.approx(value), entry.name
        with pytest.raises(ValueError, match=f'register {entry.name}: '):
            entry.encode((highest + 1 - entry.zero) * entry.scale)
        with pytest.raises(ValueError, match='nan'):
            entry.encode(math.nan)
        assert entry.unpack(memory[entry.address : entry.address + entry.size]) == entry.initial
    assert table['model_number'].unpack(memory[:2] if table.memory > 200 else memory[3:5]) == (
        table.model
    )


def test_registers_speak_si_units():
    sts, xl430, xl330 = (feetech_table.STS3215, dynamixel_table.XL430, dynamixel_table.XL330)
    assert sts['goal_position'].encode(0.0) == bytes((0x00, 0x08))  # 2048
    assert sts['goal_position'].encode(math.pi / 2) == bytes((0x00, 0x0C))  # 3072
    assert sts['present_position'].decode(bytes((0x05, 0x80))) == pytest.approx(
        -2053 * 2 * math.pi / 4096
    )
    assert sts['present_speed'].decode(bytes((0x02, 0x80))) == pytest.approx(-4 * math.pi / 4096)
    assert sts['present_load'].decode(bytes((0xF4, 0x05))) == pytest.approx(-0.5)  # 1024 + 500
    assert sts['present_voltage'].decode(b'\x7b') == pytest.approx(12.3)
    assert sts['offset'].encode(-10 * 2 * math.pi / 4096) == bytes((0x0A, 0x08))
    assert xl430['present_load'].decode(b'\x0c\xfe') == pytest.approx(-0.5)  # -500
    assert xl330['present_current'].decode(b'\x0c\xfe') == pytest.approx(-0.5)  # A
    assert xl430['present_speed'].decode(b'\xff\xff\xff\xff') == pytest.approx(
        -0.229 * 2 * math.pi / 60
    )
    assert xl330['goal_pwm'].encode(-1.0) == (-885).to_bytes(2, 'little', signed=True)
    assert xl330['min_voltage'].decode(b'\x23\x00') == pytest.approx(3.5)


def test_a_wrong_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match=r"STS3215 has no register 'goal'; .*goal_position"):
        feetech_table.STS3215['goal']
    with pytest.raises(ValueError, match=r'register id: 254.0 is not in 0\.\.253$'):
        feetech_table.STS3215['id'].encode(254.0)
    with pytest.raises(ValueError, match=r'register x: 7.0 is not in 1\.\.2 V'):
        Register('x', 0, 1, 'V', 1.0, lowest=1, highest=2).encode(7.0)
