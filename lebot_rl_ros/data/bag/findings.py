"""What the numbers of a check come to: findings, each with how bad it is and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from lebot_rl_ros.data.bag.checking import Answers, Latency, Timing
from lebot_rl_ros.data.bag.integrity import FileState

SEVERITIES = ('error', 'warning', 'note')  # only a note leaves a bag healthy
MANY = 0.01  # share of messages lost, or ticks missed, from which on a bag is bad
CONTROL = (  # what a robot walks and learns by
    '/joint_states', '/imu/data', '/joint_commands', '/joint_commands_applied', '/policy/steps',
    '/reward/rewards',
)  # fmt: skip
SILENT = 5.0  # s before the end of the bag from which on a topic has stopped
LATE = 1.0  # s; a gap between arrivals over this is more than a busy machine
EDGE = 2  # steps at the two ends of a bag that have no reward, or no successor, in any recording
AHEAD = -1.0  # ms; stamps later than their arrival by more come from another clock


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    severity: str  # one of SEVERITIES
    topic: str  # '' for the bag as a whole
    what: str
    do: str = ''

    def __str__(self) -> str:
        """One line."""
        return f'{self.topic}: {self.what}' if self.topic else self.what


@dataclass(frozen=True)
class TopicReport:
    """One topic of a bag. Times are ns of the log, as long as nothing else is said."""

    name: str
    type: str
    octets: int
    start: int
    end: int
    timing: Timing
    latency: Latency | None = None  # from the stamp in the header to the bag
    transport: Latency | None = None  # from publishing to the bag
    events: bool = False  # latched, or of a type that is sent when something happens


def judge_topic(
    report: TopicReport, bag_end: int, where: str = '', *, none_lost: bool = False
) -> list[Finding]:
    """Findings on the times of one topic.

    Args:
        report: its numbers.
        bag_end: ns log time of the last message in the bag.
        where: what to say of the longest gap, as in 'at 12.3 s'.
        none_lost: the recorder says that it lost none, so what is missing was never sent: that is
            bad only for what the robot walks and learns by.
    """
    timing, found = report.timing, []

    def find(severity: str, what: str, do: str = '') -> None:
        found.append(Finding(severity, report.name, what, do))

    if report.events:
        return found
    if timing.backwards:
        find(
            'warning',
            f'{timing.backwards} messages out of order by their stamps',
            'look for two publishers on this topic',
        )
    if timing.restarts:
        find(
            'note',
            f'stamps jump back {timing.restarts} times',
            'the simulator was reset, or the clock was set; each part counts by itself',
        )
    if report.latency and report.latency.least < AHEAD:
        find(
            'warning',
            f'stamped up to {-report.latency.least:.1f} ms after it was recorded',
            'let the clocks of the two machines agree (NTP), or latency means nothing',
        )
    if not timing.regular:
        return found
    silent = (bag_end - report.end) / 1e9
    if silent > max(SILENT, 5 * timing.period / 1e9):
        find(
            'warning',
            f'silent for the last {silent:.1f} s of the bag',
            'look in /diagnostics for why its node stopped',
        )
    if timing.lost and timing.stamped:
        share = timing.lost / (timing.lost + timing.count)
        sure = '' if timing.exact else 'about '
        walks = report.name.endswith(CONTROL)
        severity = 'error' if share > MANY else 'warning'
        never = 'never sent: a node or a bus was too slow, see missed ticks in /diagnostics'
        find(
            'note' if none_lost and not walks else severity,
            f'{sure}{_count(timing.lost, "message")} missing ({share:.2%}) in '
            f'{_count(len(timing.gaps), "gap")}, longest {timing.longest / 1e6:.1f} ms{where}',
            f'{never}; the recorder lost none'
            if none_lost
            else f'{never}; or lost on the way to the recorder, which counts its drops there',
        )
    elif timing.gaps and timing.stamped:
        find(
            'note',
            f'{_count(len(timing.gaps), "message")} late, the worst by '
            f'{(timing.longest - timing.period) / 1e6:.1f} ms{where}; none missing',
        )
    elif timing.gaps:
        long = timing.longest > LATE * 1e9
        find(
            'warning' if long else 'note',
            f'{_count(len(timing.gaps), "gap")} between arrivals, longest '
            f'{timing.longest / 1e6:.1f} ms{where}',
            'without stamps it is not known whether anything was lost' if long else '',
        )
    return found


def judge_files(states: list[FileState]) -> list[Finding]:
    """Findings on the files."""
    found = [
        Finding('error', '', f'{state.name}: {damage.what}', 'what it held is lost; read the rest')
        for state in states
        for damage in state.damage
    ]
    unchecked = sum(state.unchecked for state in states)
    if unchecked:
        found.append(Finding('note', '', f'{unchecked} chunks carry no CRC: damage is not seen'))
    return found


def judge_counts(promised: Mapping[str, int], read: Mapping[str, int]) -> list[Finding]:
    """Messages that the index or metadata.yaml promises against those that were read."""
    return [
        Finding('error', name, f'{count} messages promised, {read.get(name, 0)} read')
        for name, count in promised.items()
        if count != read.get(name, 0)
    ]


def judge_answers(result: Answers) -> list[Finding]:
    """Findings on states and their commands."""
    found = []
    ticks = result.answered + result.unanswered
    if result.unanswered:
        share = result.unanswered / ticks
        found.append(
            Finding(
                'error' if share > MANY else 'warning',
                '',
                f'{result.unanswered} of {ticks} states have no command ({share:.2%}): '
                'missed ticks',
                'the policy was too slow or was not heard: see tick_p99_ms in /diagnostics',
            )
        )
    if result.foreign:
        found.append(
            Finding(
                'warning',
                '',
                f'{result.foreign} commands answer a state that is not in the bag',
                'joint_states were lost on the way to the recorder, or have another clock',
            )
        )
    return found


def judge_joins(counts: Mapping[str, int]) -> list[Finding]:
    """Findings on steps and rewards, from the counts of `data.joining.Joiner`."""
    found = []

    def find(severity: str, what: str, do: str = '') -> None:
        found.append(Finding(severity, '', what, do))

    joined = counts.get('joined', 0)
    if not joined:
        find('error', 'no step has a reward', 'was the reward node running, on the same clock?')
    for key, what in (
        ('lost_rewards', 'steps without a reward'),
        ('lost_steps', 'rewards without a step'),
    ):
        count = counts.get(key, 0)
        if count > EDGE and joined:
            many = count > MANY * (joined + count)
            find('error' if many else 'warning', f'{count} {what}', 'they are not learned from')
    for key, severity, what, do in (
        ('conflicting', 'error', 'rows came again with other content', 'two runs on one topic?'),
        ('foreign', 'error', 'rows of another base or shape', 'cut the bag where it changed'),
        ('nonfinite', 'warning', 'rows hold NaN or infinity', 'they are not learned from'),
        ('late', 'warning', 'rows came too late to be joined', ''),
    ):
        if counts.get(key, 0):
            find(severity, f'{counts[key]} {what}', do)
    if counts.get('gaps', 0):
        find(
            'note', f'trajectories are cut at {_count(counts["gaps"], "gap")} between transitions'
        )
    return found


def judge_recorder(values: Mapping[str, str]) -> list[Finding]:
    """Findings on what the recorder said of itself last, on /diagnostics; {} if it did not.

    It counts ``dropped``, as the disk was too slow, and ``lost``, which never reached it; of each
    topic beside the sum, as in ``dropped/imu/data``.
    """
    found = []
    for key, do in (
        ('dropped', 'the disk was too slow, or full: record fewer topics, or elsewhere'),
        ('lost', 'the network or the machine was too busy to bring them'),
    ):
        number = int(values.get(key, 0))
        if number:
            topics = [
                f'{name.removeprefix(key)} {count}'
                for name, count in values.items()
                if name.startswith(f'{key}/')
            ]
            which = f': {", ".join(topics)}' if topics else ''
            words = f'the recorder says that {_count(number, "message")} were {key}{which}'
            found.append(Finding('error', '', words, do))
    return found


def status(findings: list[Finding]) -> int:
    """Exit status: 1 where something is wrong."""
    return int(any(finding.severity != 'note' for finding in findings))


def _count(number: int, word: str) -> str:
    return f'{number} {word}' + ('' if number == 1 else 's')
