"""Answers without a line: quick ways against slow ones, and any bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulated_rig import CODECS
from lebot_rl_ros.hardware.emulation.bank import servo_bank
from lebot_rl_ros.hardware.emulation.responder import ANSWERS

PROTOCOLS = ('feetech', 'dynamixel')


@pytest.mark.parametrize('protocol', PROTOCOLS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_all_answers_at_once_are_those_of_one_by_one(protocol, data):
    bank = servo_bank(protocol, [1, 2, 3, 4])
    codec = CODECS[protocol]
    ids = data.draw(st.permutations([1, 2, 3, 4]))[: data.draw(st.integers(1, 4))]
    address, length = data.draw(st.integers(40, 60)), data.draw(st.integers(1, 25))
    for row in range(4):  # bytes of which some need stuffing
        few = st.lists(st.sampled_from((0, 0x55, 0xFD, 0xFF)), min_size=100, max_size=100)
        bank.memory[row, 40:60] = data.draw(few)[:20]
    answers = ANSWERS[protocol](bank, None)
    answers.tune(None)
    request = codec.sync_read(address, length, ids)
    one_by_one = [
        frame
        for id in ids
        for answer in answers.take(codec.read(id, address, length))
        for frame in answer.frames
    ]
    for _ in range(2):  # the second time it is known
        (answer,) = answers.take(request)
        assert list(answer.frames) == one_by_one


@pytest.mark.parametrize('protocol', PROTOCOLS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_all_goals_at_once_are_those_of_one_by_one(protocol, data):
    codec = CODECS[protocol]
    banks = [servo_bank(protocol, [1, 2, 3, 4]) for _ in range(2)]
    quick, slow = (ANSWERS[protocol](bank, None) for bank in banks)
    quick.tune(None)
    slow.tune(None)
    goal = banks[0].table['goal_position']
    length = data.draw(st.sampled_from((2, 4, 6))) if protocol == 'feetech' else 4
    count = data.draw(st.integers(1, 4))
    for _ in range(3):
        ids = data.draw(st.permutations([1, 2, 3, 4]))[:count]
        goals = {id: data.draw(st.binary(min_size=length, max_size=length)) for id in ids}
        if protocol == 'dynamixel':
            number = st.integers(-10, 4200).map(lambda raw: raw.to_bytes(4, 'little', signed=True))
            goals = {id: data.draw(number) for id in ids}
        list(quick.take(codec.sync_write(goal.address, length, goals)))
        for id, values in goals.items():
            list(slow.take(codec.write(id, goal.address, values)))
        assert np.array_equal(banks[0].memory, banks[1].memory)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), protocol=st.sampled_from(PROTOCOLS))
def test_no_bytes_break_a_bus(data, protocol):
    answers = ANSWERS[protocol](servo_bank(protocol, [1, 2]), None)
    answers.tune(None)
    codec = CODECS[protocol]
    list(answers.take(data))
    # Whatever is inside a good packet
    for code in (1, 2, 3, 4, 5, 8, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A):
        for id in (1, 254):
            list(answers.take(codec.frame(id, code, data[:40])))
            answers.tune(None)
    answers.ear.reset()
    for id in answers.listeners:  # who has which id by now, is deaf to nobody
        assert any(answer.frames for answer in answers.take(codec.ping(id)))


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_damaged_sync_write_is_not_obeyed_though_its_like_is_known(protocol):
    bank, codec = servo_bank(protocol, [1, 2, 3, 4]), CODECS[protocol]
    answers = ANSWERS[protocol](bank, None)
    answers.tune(None)
    goal = bank.table['goal_position']
    for raw in (2000, 2100, 2200):
        data = dict.fromkeys((1, 2, 3, 4), goal.pack(raw))
        list(answers.take(codec.sync_write(goal.address, goal.size, data)))
    damaged = bytearray(codec.sync_write(goal.address, goal.size, data))
    damaged[-6] ^= 0x01
    assert list(answers.take(bytes(damaged))) == []
    assert bank.raw('goal_position').tolist() == [2200] * 4


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_what_one_request_changes_holds_for_the_next_of_the_same_bytes(protocol):
    bank, codec = servo_bank(protocol, [1, 2]), CODECS[protocol]
    answers = ANSWERS[protocol](bank, None)
    answers.tune(None)
    read = codec.sync_read(*bank.feedback, [1, 2])
    for _ in range(2):
        (answer,) = answers.take(read)
        assert all(answer.frames)
    rename = codec.write(2, bank.table['id'].address, b'\x07')
    told = list(answers.take(rename + read))
    assert [bool(frame) for frame in told[-1].frames] == [True, False]
