"""No wrong value in many reads of a bad bus: drivers against emulated servos whose answers fail.

Of a hundred answers, one each is lost, damaged and doubled, and in one read of a hundred one servo
answers so late that its answer comes in the next read. At every read all servos stand elsewhere,
by a rule that both sides know, so that an answer of another read, or of another servo, is seen to
be wrong. Fails if one wrong angle was accepted.

    python benchmarks/faulty_replies.py [--reads 100000]
"""

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.buses import PROTOCOLS, open_bus
from lebot_rl_ros.hardware.emulation.bank import servo_bank
from lebot_rl_ros.hardware.emulation.faults import FaultSchedule, parse_wire_fault
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.responder import EmulatedBus, serve
from lebot_rl_ros.hardware.registers import MIDDLE, STEP
from lebot_rl_ros.robot import load_robot

ROBOT = load_robot()
IDS = [joint.id for joint in ROBOT.joints]
NAMES = ROBOT.joint_names
SHARE = 0.01
LATE = 'late:{}:6'  # ms; answers are waited for about 3 ms


def raw(read: int) -> npt.NDArray[np.int64]:
    """Raw angles of all servos in this read."""
    return (read * 7 + 512 * np.arange(len(IDS))) % 4096


def answer(protocol: str, link: str, reads: int, stop: Event) -> None:
    """The servos, as a process of their own."""
    faults = [f'{kind}:{SHARE}' for kind in ('drop', 'corrupt', 'duplicate')]
    # The schedule's seconds are reads here.
    faults += [
        f'{LATE.format(NAMES[read // 100 % len(NAMES)])}@{read}-{read + 1}'
        for read in range(50, reads, 100)
    ]
    schedule = FaultSchedule([parse_wire_fault(text, NAMES) for text in faults], NAMES, seed=1)
    line, bank, count = Line(link), servo_bank(protocol, IDS), 0
    still = np.zeros(len(IDS))

    def move() -> None:
        nonlocal count
        count += 1
        schedule.at(count)
        bank.sense(0.02, (raw(count) - MIDDLE) * STEP, still, still)

    bus = EmulatedBus(line, bank, paced=False, faults=schedule, on_full_read=move)
    serve(bus, stop.is_set)
    line.close()


def measure(protocol: str, reads: int) -> int:
    """Read so often, print what came; returns how many wrong angles were accepted."""
    context = multiprocessing.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        link, stop = f'{folder}/servos', context.Event()
        servos = context.Process(target=answer, args=(protocol, link, reads, stop))
        servos.start()
        while not Path(link).exists():
            time.sleep(0.01)
        bus = open_bus(protocol, link, 1_000_000, IDS)
        wrong = accepted = whole = 0
        begin = time.monotonic()
        for read in range(1, reads + 1):
            feedback = bus.read()
            heard = feedback.missed == 0
            told = np.rint(feedback.position[heard] / STEP).astype(int) + MIDDLE
            wrong += int((told != raw(read)[heard]).sum())
            accepted += int(heard.sum())
            whole += bool(heard.all())
        seconds = time.monotonic() - begin
        errors = bus.errors
        stop.set()
        servos.join()
        bus.close()
    print(
        f'{protocol:<10} {reads} reads in {seconds:.0f} s: {whole} complete, {accepted} angles '
        f'accepted of {reads * len(IDS)}, {wrong} of them wrong; '
        f'{errors.missing.total()} missing, {errors.damaged.total()} damaged, '
        f'{errors.foreign} foreign',
        flush=True,
    )
    return wrong


def main() -> int:
    """Both protocols; 1 if anything wrong was accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--reads', type=int, default=100_000)
    args = parser.parse_args()
    wrong = [measure(protocol, args.reads) for protocol in PROTOCOLS]
    return int(any(wrong))


if __name__ == '__main__':
    raise SystemExit(main())
