"""The fault campaign for people: a line per case, a table for the terminal, a page."""

import os
import platform
import re
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from lebot_rl_ros.cli.campaign_cases import LAST, Case
from lebot_rl_ros.cli.campaign_judge import PERIODS, WALKED, Outcome
from lebot_rl_ros.cli.campaign_measures import SAGS, WINDOW
from lebot_rl_ros.cli.campaign_play import ASKED, WALK
from lebot_rl_ros.robot import Robot

COLUMNS = (
    'fault', 'the robot', 'safe after', 'the operator is told', 'beyond limits', 'stale',
    'walks again',
)  # fmt: skip
SHORT = ('fault', 'safe after')  # columns that never wrap
LONGEST = 110  # letters of a message


def line(bus: str, case: Case, outcome: Outcome) -> str:
    """One case, as it is over; with rich's markup."""
    verdict = '[bold red]failed[/]' if outcome.troubles else '[green]ok[/]    '
    why = f': {escape("; ".join(outcome.troubles))}' if outcome.troubles else ''
    return f'{verdict}  {bus:<9}  {case.fault:<22}  {_did(outcome)}{why}'


def table(bus: str, done: Sequence[tuple[Case, Outcome]]) -> Table:
    """All cases of a bus, for a terminal."""
    shown = Table(title=bus, box=box.SIMPLE)
    shown.title_justify, shown.title_style = 'left', 'bold'
    for column in COLUMNS:
        shown.add_column(column, overflow='fold', no_wrap=column in SHORT)
    for case, outcome in done:
        style = 'red' if outcome.troubles else ''
        shown.add_row(*(escape(cell) for cell in _row(case, outcome)), style=style)
    return shown


def page(
    done: Sequence[tuple[str, Case, Outcome]],
    robot: Robot,
    seconds: float,
    repeated: int,
) -> str:
    """The page, Markdown.

    Args:
        done: bus, case and outcome, in order.
        robot: that walked.
        seconds: that all of it took.
        repeated: starts after which the robot did not get to walk, so that they told nothing.
    """
    failed = sum(bool(outcome.troubles) for _, _, outcome in done)
    judged, old, delayed = (
        sum(getattr(outcome, name) for _, _, outcome in done)
        for name in ('published', 'stale', 'delayed')
    )
    parts = [
        f"""# Faults of the wires

What the robot does when its wires fail: lost, late, damaged and doubled bytes, pulled cables,
servos without power, too hot or overloaded. This page was written by the command

```
lebot campaign --out docs/wire_faults.md
```

on {os.cpu_count()} cores of {platform.machine()}, in {seconds / 60:.1f} minutes:
{len(done)} cases, {failed or 'none'} of which failed. {repeated} starts were repeated, as the
robot did not get to walk before there was a fault: everything shares these cores, the physics too.

## How it was measured
Each case is a whole graph of its own, in real time, in a ROS domain of its own: the drivers, the
policy and all other nodes of `lebot walk --backend wire`. The emulator answers on the serial
ports byte for byte, at the speed of the wire, and the simulated body of {robot.name} moves behind
it. The robot walks {WALK:g} s at {ASKED:g} m/s; then the fault begins, and lasts {LAST:g} s. If
the robot has stopped by then, the operator waits until it lies still, calls
`servo_driver/clear_faults` (and, where it fell, `sim/reset` before; once more where it fell or was
stopped again while it stood up), and it has to walk again. No process may
have died, and none is started again.

## What the columns say
- **the robot**: modes of the driver while the fault lasted (`joint_commands_applied`; where the
  driver has no bus to apply anything to, `/diagnostics`).
- **safe after**: robot time from asking for the fault until the first tick in `hold`, `crouch` or
  `relaxed`: what the robot does then needs no more information. 0 s: it walked on, in `track`
  all the time and at more than {WALKED:.0%} of its speed in the last {WINDOW:g} s of the fault.
- **the operator is told**: on `/diagnostics`, the first new words of the worst level that the node
  in brackets came to, WARN or ERROR, and when. Nodes speak once a second, and at once when they
  change what they do.
- **beyond limits**: targets in `joint_commands_applied` beyond a joint's limits, and measured
  joints beyond them by more than {SAGS:g} rad (which a joint sags under the body's weight).
- **stale**: published joint states that show what was true more than {PERIODS} periods
  ({1e3 * PERIODS / robot.control_rate:.0f} ms) before their stamp: at one joint or more, they are
  outside of all that the body's true joint went through since then, by more than a step of the
  encoder and what the largest acceleration moves between two samples of the truth.
  {old:.0f} of {judged:.0f} were. The measure sees what it should: delayed by three periods,
  {delayed / max(len(done), 1):.0%} of the states of a walking robot count as stale. Then, what
  came on `joint_states`, `imu/data` or the camera's topic during a fault that leaves nothing to
  be known.
- **walks again**: seconds from clearing (from the end of the fault, where it walked on) until it
  had walked {WINDOW:g} s at more than {WALKED:.0%} of its speed. *latched*: it stayed down with
  the wires well until it was cleared.

Where the cable of the servos is out, nobody reaches them: the driver is `relaxed`, but they hold
their last goal until the cable is back, and then get no torque until asked for.
"""
    ]
    for bus in dict.fromkeys(bus for bus, _, _ in done):
        rows = [(case, outcome) for name, case, outcome in done if name == bus]
        parts.append(f'## {bus.capitalize()}\n' + _markdown(rows))
    return '\n'.join(parts)


def _markdown(rows: Sequence[tuple[Case, Outcome]]) -> str:
    lines = [f'| {" | ".join(COLUMNS)} |', '|' + '---|' * len(COLUMNS)]
    for case, outcome in rows:
        fault, *cells = _row(case, outcome)
        cells = [cell.replace('|', '/') for cell in cells]
        lines.append(f'| `{fault}`: {case.about} | {" | ".join(cells)} |')
        if outcome.troubles:
            lines.append(f'| **failed**: {"; ".join(outcome.troubles)} |' + ' |' * (len(cells)))
    return '\n'.join(lines) + '\n'


def _row(case: Case, is_: Outcome) -> tuple[str, ...]:
    told = ''
    if is_.told:
        after = f'{is_.told_after:.1f} s' if is_.told_after is not None else ''
        told = f'{_clean(is_.told)} ({case.teller}, {after})'
    stale = f'{is_.stale} of {is_.published}'
    if case.silent:
        stale += f'; {is_.unduly} on {case.silent}'
    again = 'no' if is_.again is None else f'{is_.again:.1f} s'
    again += ', as it should' * (is_.again is None and case.stays)
    again += ', latched' * (is_.latched and case.latched)
    again += ', after it fell standing up' * is_.fell_up
    again += ', cleared twice' * (is_.cleared_twice and not is_.fell_up)
    return (
        case.fault,
        _did(is_),
        'never' if is_.safe is None else f'{is_.safe:.2f} s',
        told,
        str(is_.beyond),
        stale,
        again,
    )


def _did(is_: Outcome) -> str:
    """Modes in words; to and fro between track and hold is counted."""
    words, holds = list(is_.modes), is_.modes.count('hold')
    if is_.safe == 0:
        words = ['walks on']
    elif holds > 1 and words[: 2 * holds] == ['track', 'hold'] * holds:
        words[: 2 * holds] = ['track', f'hold ({holds} times)']
    told = ', '.join(words) or 'nothing'
    return f'{told}; fell' if is_.fell else told


def _clean(message: str) -> str:
    """A message without this machine's paths, and not too long."""
    message = re.sub(r'(https?:/)?/\S*/', '', message)
    return message if len(message) <= LONGEST else f'{message[:LONGEST].rsplit(" ", 1)[0]} ...'
