"""The makers' own clients drive the emulated buses, and check our codecs' frames.

Of the two Python packages of Feetech's kit, which install the same module, ftservo-python-sdk is
the one that the maker itself keeps up: it knows the STS registers by name, clears its input
before each request, and comes as a wheel. The other never clears it, so one late answer shifts
all that follow. (That it calls a sync read a success with a servo missing does not matter here:
every servo is asked for its own data.)
"""

import dynamixel_sdk as dxl
import numpy as np
import pytest
import scservo_sdk as scs
from hypothesis import assume, given
from hypothesis import strategies as st

from emulated_rig import Rig
from lebot_rl_ros.hardware import dynamixel, feetech

PATIENCE = 10_000.0  # ms; both give up after some milliseconds else, which a busy machine needs
IDS = (11, 12, 21, 22, 31, 32, 41, 42)
POSITIONS = np.linspace(-1.2, 1.2, 8)
RAW = [2048 + round(angle * 4096 / (2 * np.pi)) for angle in POSITIONS]


def pumped(port, rig):
    """Let the bus answer whenever the client looks for bytes: no threads, nothing to chance."""
    look = port.readPort
    patience = port.setPacketTimeout

    def read(length):
        rig.pump()
        return look(length)

    def wait(length):
        patience(length)
        port.packet_timeout = PATIENCE if port.patient else 0.0

    port.readPort, port.setPacketTimeout, port.patient = read, wait, True
    return port


class Sink:
    """A port that keeps what is sent; the clients' names of its methods."""

    is_using = False

    def clearPort(self):  # noqa: N802
        pass

    def writePort(self, packet):  # noqa: N802
        self.sent = bytes(packet)
        return len(packet)

    def setPacketTimeout(self, length):  # noqa: N802
        pass


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(protocol):
        rigs.append(Rig(tmp_path, protocol, ids=IDS))
        rigs[0].client.close()
        rigs[0].bank.sense(0.02, POSITIONS, np.full(8, 1.0), np.full(8, 0.1))
        module = {'feetech': scs, 'dynamixel': dxl}[protocol]
        port = module.PortHandler(str(tmp_path / 'servos'))
        assert port.openPort()
        assert port.setBaudRate(1_000_000)
        rigs.append(port)
        return rigs[0], pumped(port, rigs[0])

    yield make
    for entry in reversed(rigs):
        (entry.closePort if hasattr(entry, 'closePort') else entry.close)()


# Dynamixel


def test_dynamixels_own_client_finds_the_servos(rig):
    _, port = rig('dynamixel')
    client = dxl.PacketHandler(2.0)
    port.patient = False
    assert [client.ping(port, id)[1] for id in (1, 13)] == [dxl.COMM_RX_TIMEOUT] * 2
    port.patient = True
    assert [client.ping(port, id) for id in IDS] == [(1060, dxl.COMM_SUCCESS, 0)] * 8
    port.setPacketTimeoutMillis = lambda _: port.setPacketTimeout(0)
    port.isPacketTimeout = lambda: port.ser.in_waiting == 0  # else it waits for 252 servos
    assert client.broadcastPing(port) == ({id: [1060, 46] for id in IDS}, dxl.COMM_SUCCESS)


def test_dynamixels_own_client_reads_and_writes(rig):
    bus, port = rig('dynamixel')
    client = dxl.PacketHandler(2.0)
    for id, raw in zip(IDS, RAW, strict=True):
        assert client.read4ByteTxRx(port, id, 132) == (raw, dxl.COMM_SUCCESS, 0)
    assert client.write1ByteTxRx(port, 21, 64, 1) == (dxl.COMM_SUCCESS, 0)
    assert bus.bank.torque.tolist() == [id == 21 for id in IDS]
    assert client.write1ByteTxRx(port, 21, 31, 60) == (dxl.COMM_SUCCESS, dxl.ERRNUM_ACCESS)
    assert client.write4ByteTxRx(port, 11, 116, 5000)[1] == dxl.ERRNUM_DATA_LIMIT
    assert client.regWriteTxRx(port, 12, 65, 1, [1]) == (dxl.COMM_SUCCESS, 0)
    assert client.read1ByteTxRx(port, 12, 65) == (0, dxl.COMM_SUCCESS, 0)
    assert client.action(port, dxl.BROADCAST_ID) == dxl.COMM_SUCCESS
    assert client.read1ByteTxRx(port, 12, 65) == (1, dxl.COMM_SUCCESS, 0)
    assert client.reboot(port, 12) == (dxl.COMM_SUCCESS, 0)
    assert client.read1ByteTxRx(port, 12, 65) == (0, dxl.COMM_SUCCESS, 0)
    bus.bank.store('goal_position', -1)  # FF FF FF FF before FD: the answer is stuffed
    bus.bank.memory[:, 120] = 0xFD
    assert client.readTxRx(port, 11, 116, 5) == ([255] * 4 + [0xFD], dxl.COMM_SUCCESS, 0)


@pytest.mark.parametrize('fast', [False, True])
def test_dynamixels_own_client_reads_many_at_once(rig, fast):
    bus, port = rig('dynamixel')
    client = dxl.PacketHandler(2.0)
    block = dxl.GroupSyncRead(port, client, 126, 21)
    bulk = dxl.GroupBulkRead(port, client)
    for id in IDS:
        assert block.addParam(id)
        assert bulk.addParam(id, 132, 4)
    for times in (1, 2):  # the second request is one that the bus knows
        assert (block.fastSyncRead if fast else block.txRxPacket)() == dxl.COMM_SUCCESS
        assert bus.full_reads == times
        for id, raw in zip(IDS, RAW, strict=True):
            assert block.getData(id, 132, 4) == raw
            assert block.getData(id, 128, 4) == 42  # 1 rad/s
            assert block.getData(id, 126, 2) == 100
            assert block.getData(id, 146, 1) == 25
    assert (bulk.fastBulkRead if fast else bulk.txRxPacket)() == dxl.COMM_SUCCESS
    assert [bulk.getData(id, 132, 4) for id in IDS] == RAW


def test_dynamixels_own_client_writes_many_at_once(rig):
    bus, port = rig('dynamixel')
    client = dxl.PacketHandler(2.0)
    sync, bulk = dxl.GroupSyncWrite(port, client, 116, 4), dxl.GroupBulkWrite(port, client)
    for goals in (RAW, RAW[::-1]):
        sync.clearParam()
        for id, raw in zip(IDS, goals, strict=True):
            assert sync.addParam(id, list(raw.to_bytes(4, 'little')))
        assert sync.txPacket() == dxl.COMM_SUCCESS
        bus.pump()
        assert bus.bank.raw('goal_position').tolist() == goals
    for id in IDS[:3]:
        assert bulk.addParam(id, 64, 1, [1])
    assert bulk.txPacket() == dxl.COMM_SUCCESS
    bus.pump()
    assert bus.bank.torque.sum() == 3


@given(
    id=st.integers(0, 253),
    address=st.integers(0, 1000),
    data=st.lists(st.sampled_from((0, 1, 0x55, 0xFD, 0xFF)), min_size=1, max_size=40),
)
def test_dynamixels_own_client_makes_the_same_packets(id, address, data):
    request = dynamixel.write(id, address, bytes(data))
    assume(dynamixel.STUFFED not in request)  # requests, this client forgets to stuff
    port, client = Sink(), dxl.PacketHandler(2.0)
    assert client.writeTxOnly(port, id, address, len(data), data) == dxl.COMM_SUCCESS
    assert port.sent == request
    parser = dynamixel.Parser()
    (packet,) = parser.feed(port.sent)
    assert packet.params[2:] == bytes(data)
    port.is_using = False
    group = dxl.GroupSyncRead(port, client, address, 4)
    group.addParam(id)
    assert group.txPacket() == dxl.COMM_SUCCESS
    assert port.sent == dynamixel.sync_read(address, 4, [id])


# Feetech


def test_feetechs_own_client_finds_the_servos(rig):
    _, port = rig('feetech')
    client = scs.sms_sts(port)
    port.patient = False
    assert [client.ping(id)[1] for id in (1, 13)] == [scs.COMM_RX_TIMEOUT] * 2
    port.patient = True
    assert [client.ping(id) for id in IDS] == [(777, scs.COMM_SUCCESS, 0)] * 8


def test_feetechs_own_client_reads_and_writes(rig):
    bus, port = rig('feetech')
    client = scs.sms_sts(port)
    for id, raw in zip(IDS, RAW, strict=True):
        assert client.ReadPosSpeed(id) == (raw, 652, scs.COMM_SUCCESS, 0)
        assert client.ReadMoving(id) == (1, scs.COMM_SUCCESS, 0)
    assert client.write1ByteTxRx(21, scs.SMS_STS_TORQUE_ENABLE, 1) == (scs.COMM_SUCCESS, 0)
    assert bus.bank.torque.tolist() == [id == 21 for id in IDS]
    assert client.WritePosEx(21, 3000, 1500, 50) == (scs.COMM_SUCCESS, 0)
    assert client.read4ByteTxRx(21, 41)[0] == 50 | 3000 << 8
    assert client.unLockEprom(21) == (scs.COMM_SUCCESS, 0)
    assert client.read1ByteTxRx(21, scs.SMS_STS_LOCK)[0] == 0
    assert client.RegWritePosEx(11, 1000, 0, 0) == (scs.COMM_SUCCESS, 0)
    assert bus.bank.raw('goal_position')[0] == 2048
    assert client.RegAction() == scs.COMM_SUCCESS
    bus.pump()
    assert bus.bank.raw('goal_position')[0] == 1000
    bus.bank.strain.forced[1] = True
    bus.bank.sense(0.02, POSITIONS, np.zeros(8), np.zeros(8))
    assert client.ReadPos(12) == (RAW[1], scs.COMM_SUCCESS, scs.ERRBIT_OVERLOAD)


def test_feetechs_own_client_reads_many_at_once(rig):
    bus, port = rig('feetech')
    block = scs.GroupSyncRead(scs.sms_sts(port), 56, 15)
    for id in IDS:
        assert block.addParam(id)
    for times in (1, 2):
        assert block.txRxPacket() == scs.COMM_SUCCESS
        assert bus.full_reads == times
        for id, raw in zip(IDS, RAW, strict=True):
            assert block.isAvailable(id, 56, 15) == (True, 0)
            assert block.getData(id, 56, 2) == raw
            assert block.getData(id, 58, 2) == 652
            assert block.getData(id, 60, 2) == 100
            assert block.getData(id, 63, 1) == 25


def test_feetechs_own_client_writes_many_at_once(rig):
    bus, port = rig('feetech')
    client = scs.sms_sts(port)
    for goals in (RAW, RAW[::-1]):
        client.groupSyncWrite.clearParam()
        for id, raw in zip(IDS, goals, strict=True):
            assert client.SyncWritePosEx(id, raw, 100, 20)
        assert client.groupSyncWrite.txPacket() == scs.COMM_SUCCESS
        bus.pump()
        assert bus.bank.raw('goal_position').tolist() == goals
        assert bus.bank.raw('goal_speed').tolist() == [100] * 8
        assert bus.bank.raw('acceleration').tolist() == [20] * 8


@given(
    id=st.integers(0, 253),
    address=st.integers(0, 255),
    data=st.lists(st.integers(0, 255), min_size=1, max_size=40),
)
def test_feetechs_own_client_makes_the_same_packets(id, address, data):
    port = Sink()
    client = scs.sms_sts(port)
    assert client.writeTxOnly(id, address, len(data), data) == scs.COMM_SUCCESS
    assert port.sent == feetech.write(id, address, bytes(data))
    group = scs.GroupSyncRead(client, address, 4)
    group.addParam(id)
    assert group.txPacket() == scs.COMM_SUCCESS
    assert port.sent == feetech.sync_read(address, 4, [id])
