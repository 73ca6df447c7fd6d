"""One update after the other: judged by the gate, walked on probation, rolled back or accepted."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lebot_rl_ros.cli.gate_updates import BAD, good
from lebot_rl_ros.cli.gate_walks import Place, Rows, Walk, in_order, score
from lebot_rl_ros.cli.gate_workshop import Situation, Workshop, look, situations
from lebot_rl_ros.learning.online.gate import Gate, GateConfig, Verdict
from lebot_rl_ros.learning.online.probation import Probation
from lebot_rl_ros.policy.adapters import Adapter

PLACES = (
    Place('slip:rr_hip:0.35'),
    Place('dead:fl_knee'),
    Place('payload:0.35'),
    Place('', None),
)
DEPTH = 4  # accepted versions of the honest run at each place
LONGEST = 1000  # steps of a probation, at most
SETTLING, KNOWN = 250, 1000  # steps of a start, and of the accepted version's level after it
BEFORE = 100  # steps that the accepted version walks before a swap
AFTER = 250  # and after one, where updates follow each other
JUDGES, JUDGED = 8, 250  # robots and steps that tell what an accepted version is worth
BARE = ('rate x 100', 'one joint saturated')  # finite ones, that probation is tried on alone
NO_GATE = ', no gate'  # in the name of their kind
EVIDENCE = (True, False)  # the gate as it is, and without its last stage


@dataclass(frozen=True)
class Trial:
    """What became of one update."""

    gate: Verdict
    probation: Verdict | None = None  # where it walked; None with it: LONGEST was too short
    walked: float = 0.0  # s
    loss: float = 0.0  # of an accepted one: reward a step, against what was accepted at first

    @property
    def acted(self) -> bool:
        """Whether it reached a servo."""
        return self.gate.verdict != 'rejected'

    @property
    def accepted(self) -> bool:
        """Whether it stayed."""
        return self.acted and (self.probation is None or self.probation.verdict == 'accepted')


@dataclass(frozen=True)
class Outcome:
    """One update, by the gate as it is (True) and without evidence (False)."""

    kind: str
    place: str
    trials: dict[bool, Trial]


@dataclass
class Rig:
    """A robot that walks on and on, its gate and its probation, at one moment of a run."""

    workshop: Workshop
    situation: Situation
    gate: Gate
    probation: Probation
    walk: Walk

    @classmethod
    def at(cls, workshop: Workshop, situation: Situation, *, evidence: bool) -> 'Rig':
        """Begin there, with what is accepted; its level is measured first."""
        config = GateConfig() if evidence else GateConfig(evidence=None)
        accepted = situation.accepted
        probation = Probation(accepted=accepted.manifest.version if accepted else 0)
        walk = workshop.walk(situation.place, 1, situation.seed + 25)
        walk.go(accepted, SETTLING)
        probation.take(in_order(walk.go(accepted, KNOWN)))
        gate = Gate(workshop.base, workshop.manifest, config)
        return cls(workshop, situation, gate, probation, walk)

    def judge(
        self, update: Adapter, *, stays: bool = False, gated: bool = True
    ) -> tuple[Trial, Adapter]:
        """Take one update all the way.

        Args:
            update: made at this moment.
            stays: an accepted one is accepted from now on; else all is as it was before.
            gated: without it everything may act.

        Returns:
            What became of it, and the adapter that acted.
        """
        moment = self.situation
        verdict, part = Verdict('behaviour', 'probation', 'not asked', 1.0), update
        if gated:
            verdict, part = self.gate.judge(
                update, moment.rows['observation'], moment.accepted, moment.rows
            )
        if verdict.verdict == 'rejected':
            return Trial(verdict), part
        self.probation.take(in_order(self.walk.go(moment.accepted, BEFORE)))
        probation = self.probation if stays else copy.deepcopy(self.probation)
        found: list[Verdict] = []

        def stop(row: Rows) -> bool:
            last = probation.take(row)
            if last is not None:
                found.append(last)
            return last is not None

        probation.begin(part.manifest.version)
        rows = self.walk.go(part, LONGEST, stop)
        seconds = len(rows) / self.workshop.manifest.control_rate
        return Trial(verdict, found[0] if found else None, seconds), part

    def loss(self, part: Adapter, first: Adapter | None, seed: int) -> float:
        """Reward a step that an adapter earns less than another, over some robots of each."""
        walk = self.workshop.walk(self.situation.place, 2 * JUDGES, seed)
        earned = score(walk, [first] * JUDGES + [part] * JUDGES, JUDGED)
        return float(np.mean(earned[:JUDGES]) - np.mean(earned[JUDGES:]))


def judge_all(
    workshop: Workshop,
    updates: int,
    seed: int,
) -> Iterator[Outcome]:
    """Judge ``updates`` of each bad kind and as many good ones, at moments of honest runs."""
    moments = [s for s in situations(workshop, PLACES, DEPTH, seed) if s.depth >= 2]
    rigs = [{e: Rig.at(workshop, moment, evidence=e) for e in EVIDENCE} for moment in moments]
    for kind, make in (*BAD.items(), ('good', good)):
        if kind == 'slow drift':
            yield from drift(workshop, moments, updates, seed)
            continue
        for number in range(updates * len(BAD) if kind == 'good' else updates):
            own = seed * 100_000 + number + 50_000 * (kind == 'good')
            which = number % len(moments)
            yield one(rigs[which], kind, make(workshop, moments[which], own), own)
    yield from bare(workshop, [rig[True] for rig in rigs], updates, seed)


def bare(workshop: Workshop, rigs: Sequence[Rig], updates: int, seed: int) -> Iterator[Outcome]:
    """Bad ones that the gate would never let through, on probation: what it finds alone."""
    for kind in BARE:
        for number in range(updates):
            rig = rigs[number % len(rigs)]
            update = BAD[kind](workshop, rig.situation, seed * 100_000 + 2 * number)
            trial, _ = rig.judge(update, gated=False)
            yield Outcome(
                f'{kind}{NO_GATE}', str(rig.situation.place), dict.fromkeys(EVIDENCE, trial)
            )


def one(rigs: Mapping[bool, Rig], kind: str, update: Adapter, seed: int) -> Outcome:
    """One update at a moment, by both gates."""
    trials: dict[bool, Trial] = {}
    for evidence in EVIDENCE:
        if not evidence and trials[True].gate.stage != 'evidence':
            trials[evidence] = trials[True]  # evidence changed nothing
            continue
        rig = rigs[evidence]
        trial, part = rig.judge(update)
        if trial.accepted and kind != 'good':
            trial = replace(trial, loss=rig.loss(part, rig.situation.accepted, seed))
        trials[evidence] = trial
    return Outcome(kind, str(rigs[True].situation.place), trials)


def drift(
    workshop: Workshop, moments: Sequence[Situation], updates: int, seed: int
) -> Iterator[Outcome]:
    """Updates in a row, each from what the one before led to, at two moments by turns."""
    ways = moments[:: max(1, len(moments) // 2)][:2]
    rigs = [{e: Rig.at(workshop, moment, evidence=e) for e in EVIDENCE} for moment in ways]
    for number in range(updates):
        own, which = seed * 100_000 + number, number % len(ways)
        trials = {}
        for evidence, rig in rigs[which].items():
            before = rig.situation
            update = BAD['slow drift'](workshop, before, own)
            trial, part = rig.judge(update, stays=True)
            if trial.accepted:
                trial = replace(trial, loss=rig.loss(part, ways[which].accepted, own))
                history = (*before.history, part)
                rig.situation = look(workshop, before.place, history, own)
            if trial.acted:  # what acts now walks on, as it would before the next one
                rig.probation.take(in_order(rig.walk.go(rig.situation.accepted, AFTER)))
            trials[evidence] = trial
        yield Outcome('slow drift', str(ways[which].place), trials)
