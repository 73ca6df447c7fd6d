"""What a walk learned: versions and their verdicts, falls, and the reward over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.bringup.graph import Stack
from lebot_rl_ros.learning.online.home import BASE_STAGE
from lebot_rl_ros.ros.monitor import Heard

WINDOW = 10.0  # s of the means that are compared
ENDING = 30.0  # s of the mean at the end: a stumble is not all
STANDING = 2.0  # s at the start that are left out: standing up earns something else
COLOURS = {'accepted': '#2a9d5c', 'rejected': '#c8442e', 'probation': '#8a8a8a'}
WORDS = {'accepted': 'accepted', 'rejected': 'refused or rolled back', 'probation': 'on trial'}

Verdicts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Count:
    """Versions, each once, by the last verdict on it."""

    offered: int
    accepted: int
    rejected: int

    def __str__(self) -> str:
        return f'{self.offered} offered, {self.accepted} accepted, {self.rejected} rejected'


def count(verdicts: Verdicts) -> Count:
    """Count versions by their last verdict; those still on trial are offered and no more.

    What the gate refused has no version, so each of those verdicts is one. Those on the base are
    not counted: nobody offered it.
    """
    offers = [verdict for verdict in verdicts if verdict['stage'] != BASE_STAGE]
    last = {v['version'] or -i: v['verdict'] for i, v in enumerate(offers, 1)}
    found = list(last.values())
    return Count(len(found), found.count('accepted'), found.count('rejected'))


def words(verdict: Mapping[str, Any]) -> str:
    """A verdict in one line."""
    if verdict['stage'] == BASE_STAGE:
        return f'the base: {verdict["verdict"]}: {verdict["reason"]}'
    which = f'version {verdict["version"]}' if verdict['version'] else 'an offer'
    return f'{which}, {verdict["stage"]}: {verdict["verdict"]}: {verdict["reason"]}'


@dataclass(frozen=True)
class Learning:
    """A learning walk; times count from the driver's first tick."""

    adapter: str
    learner: str
    verdicts: list[dict[str, Any]]
    falls: list[float]  # s, when
    rewards: list[tuple[float, float]]  # s, mean of 1 s of what a step earned
    fault: float  # s, when the first fault began; 0 without any

    def data(self) -> dict[str, Any]:
        """For ``--json``; a number that cannot be said is null."""
        counted = count(self.verdicts)
        accepted = [v['time'] for v in self.verdicts if v['verdict'] == 'accepted']
        before, low, end = self.levels()
        drop = before - low
        regained = (end - low) / drop if drop > 0.0 else float('nan')
        numbers = {
            'reward_before': before, 'reward_lowest': low, 'reward_end': end,
            'regained': regained,
        }  # fmt: skip
        return {
            'adapter': self.adapter,
            'learner': self.learner,
            'offered': counted.offered,
            'accepted': counted.accepted,
            'rejected': counted.rejected,
            'falls': len(self.falls),
            'fall_times_s': self.falls,
            'falls_after_first_accepted': (
                sum(time > accepted[0] for time in self.falls) if accepted else None
            ),
            **{name: float(v) if np.isfinite(v) else None for name, v in numbers.items()},
            'verdicts': self.verdicts,
        }

    def levels(self) -> tuple[float, float, float]:
        """Mean reward of a step: before the fault, in the worst window after it, at the end.

        Without a fault, "before" is the first window. NaN where nothing was heard.
        """
        time, reward = self._series()
        time, reward = time[time > STANDING], reward[time > STANDING]
        if not len(time):
            return (float('nan'),) * 3
        first = self.fault if self.fault > 0.0 else min(WINDOW, float(time[-1]))
        before = reward[time <= first]
        after = time > first
        smooth = windowed(time, reward)[after]
        end = reward[(time > time[-1] - ENDING) & (time > min(first, float(time[-1]) - 1.0))]
        return (
            float(before.mean()) if len(before) else float('nan'),
            float(np.nanmin(smooth)) if np.isfinite(smooth).any() else float('nan'),
            float(end.mean()),
        )

    def lines(self) -> list[tuple[str, str]]:
        """For people: name and value."""
        names = ('before', 'lowest', 'at the end')
        levels = zip(self.levels(), names, strict=True)
        known = [f'{value:+.2f} {name}' for value, name in levels if np.isfinite(value)]
        last = words(self.verdicts[-1]) if self.verdicts else 'none'
        return [
            ('learned', f'{self.adapter} by {self.learner}: {count(self.verdicts)}'),
            ('reward a step', ', '.join(known) or 'too few steps to tell'),
            ('last verdict', last),
        ]

    def draw(self, axes: Any) -> None:
        """Draw reward, falls, and every version in the colour of its last verdict."""
        time, reward = self._series()
        axes.plot(time, reward, color='#bfe0cd', linewidth=0.7, label='mean of 1 s')
        axes.plot(time, windowed(time, reward), color='#1f5c99', label=f'mean of {WINDOW:g} s')
        if self.falls:
            axes.plot(
                self.falls, np.zeros(len(self.falls)), 'v', color='#c8442e', markersize=5,
                transform=axes.get_xaxis_transform(), clip_on=False, label='fall',
            )  # fmt: skip
        told: set[str] = set()
        last: dict[int, str] = {}
        first: dict[int, float] = {}
        for i, verdict in enumerate(self.verdicts, 1):
            if verdict['stage'] == BASE_STAGE:
                if verdict['verdict'] == 'accepted':
                    axes.axvline(
                        verdict['time'], color='#1f1f1f', linestyle='--', linewidth=1.2,
                        label=None if BASE_STAGE in told else 'back to the base',
                    )  # fmt: skip
                    told.add(BASE_STAGE)
                continue
            version = verdict['version'] or -i  # what the gate refused has none
            last[version] = verdict['verdict']
            first.setdefault(version, verdict['time'])
        crowded = len(first) > 40  # labels would cover each other
        for version, when in first.items():
            end = last[version]
            axes.axvline(
                when, color=COLOURS.get(end, '#8a8a8a'), linewidth=0.8, alpha=0.7,
                linestyle='-' if end == 'accepted' else ':',
                label=None if end in told else f'version {WORDS.get(end, end)}',
            )  # fmt: skip
            told.add(end)
            if version > 0 and (not crowded or (end == 'accepted' and version % 10 == 0)):
                axes.annotate(
                    f'{version}', (when, 1.0), xycoords=('data', 'axes fraction'), fontsize=6,
                    color=COLOURS.get(end, '#8a8a8a'), ha='center', va='bottom',
                )  # fmt: skip
        axes.set_title('reward of a step, with versions of the adapter', pad=14)
        axes.set_xlabel('robot time, s')
        axes.legend(loc='lower right', ncols=3, fontsize='small')

    def _series(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        rewards = np.array(self.rewards, dtype=np.float64).reshape(-1, 2)
        rewards = rewards[np.isfinite(rewards).all(axis=1) & (rewards[:, 0] >= 0.0)]
        return rewards[:, 0], rewards[:, 1]


def windowed(
    time: npt.NDArray[np.float64], values: npt.NDArray[np.float64], window: float = WINDOW
) -> npt.NDArray[np.float64]:
    """Mean of the values (N,) of the ``window`` s up to each; NaN in the first window."""
    if not len(time):
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    start = np.searchsorted(time, time - window, side='right')
    number = np.arange(1, len(time) + 1)
    mean = (total[number] - total[start]) / (number - start)
    return np.where(time - time[0] >= window * 0.99, mean, np.nan)


def learned(stack: Stack, heard: Heard, begin: float) -> Learning | None:
    """What a walk learned; None if it was not asked to. ``begin``: s, the first stamp."""
    if not stack.arguments['learn']:
        return None
    end = float(stack.arguments['duration']) or float('inf')  # then it crouches
    faults = str(stack.arguments['faults']).split()
    starts = [float(fault.partition('@')[2].partition('-')[0] or 0) for fault in faults]
    learner = next(spec for spec in stack.nodes if spec.name == 'learner')
    return Learning(
        adapter=str(learner.parameters['adapter']),
        learner=str(learner.parameters['learner']),
        verdicts=[
            {**verdict, 'time': round(float(verdict['time']) - begin, 3)}
            for verdict in heard.verdicts
        ],
        falls=[round(time - begin, 3) for time in heard.falls],
        rewards=[(time - begin, r) for time, r in heard.rewards if time - begin <= end],
        fault=min(starts, default=0.0),
    )
