"""The page of `lebot benchmark adapt`, in words."""

import platform
from collections.abc import Sequence

from lebot_rl_ros.cli.adapt_cells import JUDGE
from lebot_rl_ros.cli.adapt_oracle import GAIN, LOSS
from lebot_rl_ros.cli.adapt_page import (
    COLUMNS,
    FAULT_COLUMNS,
    FaultRows,
    Summary,
    fault_words,
    markdown,
    words,
)
from lebot_rl_ros.envs.adapting import COMMAND, GET_UP


def page(summaries: Sequence[Summary], faults: FaultRows, minutes: float) -> str:
    """Markdown of the page; pictures are expected in ``images/`` beside it."""
    steps = sorted({row['oracle']['steps'] for row in faults.values() if row['oracle']})
    parts = [
        _head(minutes),
        markdown(FAULT_COLUMNS, [fault_words(row) for row in faults.values()]),
        _oracle(steps),
        '## What was recovered\n\n' + _reading(),
    ]
    parts.append('![all methods](images/adapt_all.png)' if summaries else 'No run is there yet.')
    for fault in dict.fromkeys(summary.fault for summary in summaries):
        rows = [words(summary) for summary in summaries if summary.fault == fault]
        parts.append(f'### {fault}\n\n{markdown(COLUMNS, rows)}')
        if fault in faults:
            parts.append(f'![{fault}](images/adapt_{fault}.png)')
    return '\n\n'.join(parts) + '\n'


def _head(minutes: float) -> str:
    machine, python = platform.machine(), platform.python_version()
    robots, seconds, get_up = JUDGE['robots'], JUDGE['seconds'], f'{GET_UP:g} s'
    speed, loss, gain = COMMAND[0], f'{LOSS:.0%}', f'{GAIN:.0%}'
    return f"""# How much of a fault is learned away, and how fast

Made by `lebot benchmark adapt` on {machine}, Python {python}. One robot walks at
{speed} m/s with a fault from its first step and learns for {minutes:g} minutes of its own time,
50 steps a second. A fall costs {get_up} of that time, without reward: until it stands again.
Learning, exploration, gate and probation are those of the learner node; the robot is stepped
directly, by the same lines as the nodes have.

J is the mean reward a second of robot time of what acts at that minute, its exploration switched
off: {robots} robots, {seconds:g} s of walking each after {JUDGE['settle']:g} s to settle, with
sensor noise and starts that no learning has seen, on a slope heading in all directions, and
{get_up} more for every fall. The reward is the base's own; it knows only what the robot can sense.

## Faults

A fault is admitted where the frozen base loses {loss} of the healthy reward or more, and the
oracle gets {gain} of that back. *Lost* is of the healthy reward, so more than 100 % is a negative
reward; falls are a minute of walking."""


def _oracle(steps: Sequence[int]) -> str:
    told = ' and '.join(f'{n:,}' for n in steps) or 'no'
    return f"""The oracle is the base, all its weights trained on that very fault by 256 simulated
robots for {told} steps, by the trainer of the walk. It stands for what can be had; no run sees
it. It may earn more than the healthy base, as it knows one speed only. *Steps to 0.8*: of all its
robots together, until its training first had 0.8 of what it got in the end; the walk of one
robot has 30,000 in ten minutes."""


def _reading() -> str:
    return """RF(t) = (J(t) - J0) / (J\\* - J0): 0 is the frozen base, 1 the oracle. Numbers are
interquartile means over seeds with 95 % stratified bootstrap intervals (Agarwal et al., arXiv
2108.13264). *Falls* are all of a run, exploration's too; *after acceptance* those after the gate
had accepted its first version. *Worse than none*: share of the runs that end with less reward
than the frozen base. CPU is of one core, of all that learns, gate and probation included, without
simulation and judging. *hostile*: 5 % of the rows are lost, the others up to 10 ms
late, 5 % of them out of order, and all four versions behind. *ros*: through the real graph in
lockstep, by `lebot walk --learn`.

`none` is the frozen base. PPO and SAC of stable-baselines3 start from the base's actor with the
observation normaliser folded in, PPO from the base's critic, too; both begin with the same spread
of exploration as ours, and train all weights as their users do, without a gate. A residual
network (64 units, at most 0.25 added to an action) is no adapter: it acts ungated, too."""
