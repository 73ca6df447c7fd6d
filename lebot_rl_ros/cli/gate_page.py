"""Shows `lebot benchmark gate`: a table, a page, a picture."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from lebot_rl_ros.cli.gate_trials import (
    BARE,
    BEFORE,
    DEPTH,
    JUDGED,
    JUDGES,
    NO_GATE,
    PLACES,
    Outcome,
    Trial,
)
from lebot_rl_ros.cli.gate_updates import BAD, CATASTROPHIC
from lebot_rl_ros.cli.gate_walks import SPREAD
from lebot_rl_ros.cli.gate_workshop import GRADIENT_STEPS, ROBOTS, STEPS
from lebot_rl_ros.learning.online.gate import GateConfig
from lebot_rl_ros.learning.online.probation_config import ProbationConfig

SOON = 2.0  # s of walking, within which a bad version is to be rolled back
ASKED = (0.95, 0.10)  # least share of the bad stopped in time, most of the good refused
STAGES: dict[str, Callable[[Trial], bool]] = {
    'static': lambda t: not t.acted and t.gate.stage == 'static',
    'behaviour': lambda t: not t.acted and t.gate.stage == 'behaviour',
    'evidence': lambda t: not t.acted and t.gate.stage == 'evidence',
    f'back in {SOON:g} s': lambda t: t.acted and not t.accepted and t.walked <= SOON,
    'back later': lambda t: t.acted and not t.accepted and t.walked > SOON,
    'accepted': lambda t: t.accepted,
}


def counts(outcomes: Sequence[Outcome], kind: str, evidence: bool) -> dict[str, int]:
    """How many of a kind ended at each stage."""
    trials = [outcome.trials[evidence] for outcome in outcomes if outcome.kind == kind]
    return {'updates': len(trials)} | {
        name: sum(ended(trial) for trial in trials) for name, ended in STAGES.items()
    }


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """Those that there are, the good ones last."""
    return [kind for kind in (*BAD, 'good') if any(o.kind == kind for o in outcomes)]


def asked(outcomes: Sequence[Outcome]) -> list[tuple[str, bool]]:
    """What was asked of the gate, with the numbers, and whether it was reached."""
    bad = [outcome.trials[True] for outcome in outcomes if outcome.kind in BAD]
    fine = [outcome.trials[True] for outcome in outcomes if outcome.kind == 'good']
    grave = [outcome.trials[True] for outcome in outcomes if outcome.kind in CATASTROPHIC]
    acted = [trial for trial in bad if trial.acted]
    soon = [t for t in acted if not t.accepted and t.walked <= SOON]
    reached = sum(trial.acted for trial in grave)
    stopped = (len(bad) - len(acted)) / max(1, len(bad))
    refused = sum(not trial.acted for trial in fine) / max(1, len(fine))
    lost = sum(not trial.accepted for trial in fine) / max(1, len(fine))
    return [
        (f'{reached} of {len(grave)} updates of the catastrophic kinds reached a servo (asked: '
         f'none)', reached == 0),
        (f'{stopped:.1%} of {len(bad)} bad updates were stopped before they acted (asked: '
         f'{ASKED[0]:.0%})', stopped >= ASKED[0]),
        (f'{len(soon)} of the {len(acted)} bad ones that acted were rolled back within {SOON:g} s '
         f'of walking (asked: all)', len(soon) == len(acted)),
        (f'{refused:.1%} of {len(fine)} good updates were refused by the gate, {lost:.1%} with '
         f'those that probation rolled back (asked: under {ASKED[1]:.0%})', lost < ASKED[1]),
    ]  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> Table:
    """For the terminal."""
    shown = Table(title='where updates ended', box=None, padding=(0, 1))
    for column in ('kind', 'updates', *STAGES):
        shown.add_column(column, justify='left' if column == 'kind' else 'right')
    for kind in kinds(outcomes):
        shown.add_row(kind, *(str(n) for n in counts(outcomes, kind, True).values()))
    return shown


def _markdown(outcomes: Sequence[Outcome], evidence: bool) -> str:
    names = [name for name in ('updates', *STAGES) if evidence or name != 'evidence']
    lines = [f'| kind | {" | ".join(names)} |', '|---' + '|---:' * len(names) + '|']
    for kind in kinds(outcomes):
        found = counts(outcomes, kind, evidence)
        lines.append(f'| {kind} | {" | ".join(str(found[name] or "") for name in names)} |')
    return '\n'.join(lines)


def _bare(outcomes: Sequence[Outcome]) -> str:
    names = ('updates', *list(STAGES)[3:])
    lines = [
        f'| kind | {" | ".join(names)} | median time to the verdict |',
        '|---' + '|---:' * (len(names) + 1) + '|',
    ]
    for kind in BARE:
        trials = [o.trials[True] for o in outcomes if o.kind == kind + NO_GATE]
        found = counts(outcomes, kind + NO_GATE, True)
        if trials:
            cells = ' | '.join(str(found[name] or '') for name in names)
            time = np.median([trial.walked for trial in trials])
            lines.append(f'| {kind} | {cells} | {time:.1f} s |')
    return '\n'.join(lines)


def _thresholds(config: Any) -> str:
    return ', '.join(f'`{name}` {value}' for name, value in asdict(config).items())


def _losses(outcomes: Sequence[Outcome], evidence: bool) -> str:
    """What accepted bad versions cost, kind by kind."""
    lines = []
    for kind in kinds(outcomes):
        trials = [o.trials[evidence] for o in outcomes if o.kind == kind]
        found = [trial.loss for trial in trials if trial.accepted]
        if found and kind != 'good':
            lines.append(
                f'* {kind}: {len(found)} accepted; median {np.median(found):+.2f}, '
                f'largest {np.max(found):+.2f}'
            )
    return '\n'.join(lines) or '* none was accepted'


def _made() -> str:
    return '\n'.join(
        f'* **{kind}**: {" ".join(str(make.__doc__).split())}' for kind, make in BAD.items()
    )


def _examples(outcomes: Sequence[Outcome]) -> str:
    """One reason of every stage that refused something."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        trial = outcome.trials[True]
        last = trial.probation if trial.acted else trial.gate
        bare = outcome.kind.endswith(NO_GATE)  # where probation has most to say
        if last is not None and last.verdict == 'rejected' and bare == (last.stage == 'probation'):
            found.setdefault(last.stage, f'* {last.stage} ({outcome.kind}): {last.reason}')
    return '\n'.join(found.values())


def page(outcomes: Sequence[Outcome], words: str, minutes: float, picture: str) -> str:
    """For the docs."""
    results = '\n'.join(
        f'* {"reached" if reached else "**not reached**"}: {text}'
        for text, reached in asked(outcomes)
    )
    shortened = sum(o.trials[True].gate.scale not in (0.0, 1.0) for o in outcomes)
    return f"""# The gate

Every version of an adapter passes the gate before it acts, and acts on probation before it is
accepted. This page shows what the gate makes of bad updates made on purpose, and of good ones. It
was written by

```
lebot benchmark gate {words}
```

on {os.cpu_count()} cores of {platform.machine()}, in {minutes:.1f} minutes.

## What the gate does
1. **static**: numbers are finite, names and shapes are those of the base, as are its hash, the
   robot and the order of joints; it was made from the version that is accepted now; no layer's
   weight or bias changes by more than a cap.
2. **behaviour**: on observations of two kinds (golden ones that never change, and what the robot
   saw of late) the mean action moves by no more than a cap, in rad and in nats, against the last
   accepted version and against the base, and no joint comes to sit at its limit. A step that goes
   too far is tried at a half and at a quarter of its way before it is refused
   ({shortened} of these updates acted shortened).
3. **evidence**: the gate works out by itself, from the rewards in the recorded steps and the
   base's critic, whether the change points to actions that earned more than expected. It asks for
   a standard score, so it is asked only where those steps are at hand. It tells nothing of the
   world beyond them: it finds learners that climb down, and changes that come from elsewhere.
4. **probation**: it walks, and its rewards and falls are compared with the accepted version's by
   cumulative sums. It is accepted after some windows, or rolled back.

`GateConfig`: {_thresholds(GateConfig())}.

`ProbationConfig`: {_thresholds(ProbationConfig())}.

## Results
{results}

{_markdown(outcomes, True)}

*back in {SOON:g} s*: passed the gate, walked, and was rolled back within {SOON:g} s; *accepted*:
probation ended well. What accepted bad ones cost, in reward a step against what was accepted
before ({JUDGES} robots of each for {JUDGED / 50:g} s, so that some tenths are chance; below 0 it
earned more):

{_losses(outcomes, True)}

![where the updates ended](images/{picture})

## Probation alone
Updates that the gate stops, let through on purpose: what the last line does alone. A wild change
may still walk, above all where what is accepted walks badly, and is accepted where it earns about
as much; so probation is no reason to do without the gate.

{_bare(outcomes)}

## Without evidence
The same updates with `evidence` off: what the caps and probation do alone.

{_markdown(outcomes, False)}

{_losses(outcomes, False)}

A step as small as an honest one looks like an honest one, whichever way it goes: caps on its size
cannot tell them apart, and what it costs is often less than what {SOON:g} s of walking can show.
That is why the gate asks for evidence, and why what slips through is small: the caps bound how
much one version can cost, and the next ones are made from what was accepted.

## Some reasons, as they are published
{_examples(outcomes)}

## How it was measured
Honest runs of {DEPTH} versions each, at {len(PLACES)} places ({'; '.join(map(str, PLACES))}), give
the moments at which updates are made. Each update learns from the steps of {ROBOTS} robots of
{STEPS} steps each ({ROBOTS * STEPS / 50:.0f} s of one robot) with an exploration of {SPREAD:g}
action units: {GRADIENT_STEPS} steps of the clipped policy gradient on a LoRA adapter of rank 4
with biases. *Good* ones are just that, with rates between 3e-4 and 2e-3. The bad ones:

{_made()}

What passes the gate then walks: one simulated robot at the same place, first {BEFORE / 50:g} s as
accepted, then with the update, until probation decides. *Slow drift* is two rows of updates, each
made from what the one before led to. Evidence is asked of the steps that were learned from, as on
the robot; so an honest update finds more of it than fresh steps would give.

Keep in mind: the thresholds were settled while looking at updates of seed 0, so its numbers
are no test on unseen ones; those of `--first-seed 1` are. And the half of *reward in wrong
units* that scales the whole reward was added after the other half, one term, had been seen to
pass more often than not: with that half alone, the share that is stopped before it acts
was below what is asked.
"""
