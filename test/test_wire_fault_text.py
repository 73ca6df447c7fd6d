import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.hardware.emulation.fault_text import WIRE_FAULTS, WireFault, parse_wire_fault

NAMES = ('fl_hip', 'fl_knee', 'fr_hip')


@pytest.mark.parametrize(
    'text, fault',
    [
        ('drop', WireFault('drop', value=0.1)),
        ('drop:0.2@5', WireFault('drop', value=0.2, start=5.0)),
        ('drop:fl_knee:0.2@5-8', WireFault('drop', 'fl_knee', '', 0.2, 5.0, 8.0)),
        ('late:fl_hip@1', WireFault('late', 'fl_hip', '', 15.0, 1.0)),
        ('late:30', WireFault('late', value=30.0)),
        ('corrupt:imu:1@2', WireFault('corrupt', 'imu', '', 1.0, 2.0)),
        ('duplicate@0.5-1', WireFault('duplicate', '', '', 0.1, 0.5, 1.0)),
        ('echo@3', WireFault('echo', start=3.0)),
        ('mute:fr_hip', WireFault('mute', 'fr_hip')),
        ('clash:fl_hip:fl_knee@3', WireFault('clash', 'fl_hip', 'fl_knee', None, 3.0)),
        ('baud@1-2', WireFault('baud', start=1.0, end=2.0)),
        ('unplug:camera', WireFault('unplug', 'camera')),
        ('overload:fl_knee', WireFault('overload', 'fl_knee')),
        ('heat:fl_knee:70', WireFault('heat', 'fl_knee', '', 70.0)),
        ('heat:fl_knee', WireFault('heat', 'fl_knee', '', 85.0)),
        ('brownout', WireFault('brownout', value=4.0)),
        ('brownout:5.5@1e1', WireFault('brownout', '', '', 5.5, 10.0)),
        ('silence:imu', WireFault('silence', 'imu')),
        ('freeze:camera', WireFault('freeze', 'camera')),
    ],
)
def test_faults_as_text(text, fault):
    assert parse_wire_fault(text, NAMES) == fault
    assert parse_wire_fault(str(fault), NAMES) == fault


def test_texts_of_faults_are_short():
    fault = parse_wire_fault('drop:fl_knee:0.20@5.0-8.0', NAMES)
    assert str(fault) == 'drop:fl_knee:0.2@5-8'
    assert str(parse_wire_fault('unplug:bus', NAMES)) == 'unplug:bus@0'


@given(
    kind=st.sampled_from(('drop', 'late', 'heat', 'brownout')),
    value=st.floats(0, 1),
    start=st.floats(0, 1e6),
    length=st.floats(1e-3, 1e6) | st.just(math.inf),
)
def test_every_fault_reads_back(kind, value, start, length):
    where = 'fl_hip' if kind == 'heat' else ''
    fault = WireFault(kind, where, '', value, start, start + length)
    assert parse_wire_fault(str(fault), NAMES) == fault


@pytest.mark.parametrize(
    'text, words',
    [
        ('', ['unknown kind', *WIRE_FAULTS]),
        ('explode:bus', ["'explode'", *WIRE_FAULTS]),
        ('drop:fl_elbow', ["'fl_elbow'", *NAMES]),
        ('drop:fl_elbow:0.2', ["'fl_elbow'", *NAMES]),
        ('drop:imu', ["'imu'", *NAMES]),
        ('corrupt:bus', ["'bus'", *NAMES, 'imu']),
        ('mute', ["mute of ''", *NAMES]),
        ('unplug', ["unplug of ''", 'bus', 'imu', 'camera']),
        ('silence:bus', ["'bus'", 'imu']),
        ('clash:fl_hip', ["fl_hip with ''", 'fl_knee, fr_hip']),
        ('clash:fl_hip:fl_hip', ["with 'fl_hip'", 'fl_knee, fr_hip']),
        ('drop:fl_hip:1.2', ['0 to 1', '1.2']),
        ('drop:fl_hip:0.1:0.2', ['takes one number']),
        ('echo:3', ['takes no number', '3']),
        ('late:-5', ['0 or more', '-5']),
        ('late:nan', ["'nan'"]),
        ('heat:fl_hip:hot', ["'hot'"]),
        ('echo@soon', ["'soon'"]),
        ('echo@', ["'' is no number"]),
        ('echo@-3', ["'' is no number"]),
        ('echo@5-5', ['end after', '5 to 5']),
    ],
)
def test_errors_name_the_thing_and_the_choices(text, words):
    with pytest.raises(ValueError, match=re.escape(repr(text))) as caught:
        parse_wire_fault(text, NAMES)
    for word in words:
        assert word in str(caught.value)
