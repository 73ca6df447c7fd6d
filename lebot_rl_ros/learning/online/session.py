"""A learning run: rows come in, versions go out, and what was not accepted is taken back.

No clock, no ROS: all that happens depends on the rows alone, so a run repeats, and the learner
node and a benchmark that steps a simulation directly run these very lines.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lebot_rl_ros.data.joining import Joiner, learnable
from lebot_rl_ros.learning.base import fingerprint
from lebot_rl_ros.learning.method import Array, Metrics, State
from lebot_rl_ros.learning.online.gate import Gate, GateConfig, Verdict
from lebot_rl_ros.learning.online.learner import Replaying
from lebot_rl_ros.learning.online.probation import Probation, ProbationConfig
from lebot_rl_ros.learning.online.registry import LEARNERS, make_learner
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.learning.online.versions import Memory, Store
from lebot_rl_ros.learning.online.versions import Swap as Swap
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, AdapterManifest
from lebot_rl_ros.policy.files import PolicyManifest, Tensors

COUNTS = (
    'rows', 'learned', 'replayed', 'falls', 'offered', 'accepted', 'refused', 'rolled_back',
)  # fmt: skip
BEFORE = 'it was learned before this walk, and passed the gate then'
STUBBORN = 4  # offers in a row that the gate refuses, after which the learner goes back


@dataclass(frozen=True)
class SessionConfig:
    """Who learns what, and how often it is offered."""

    name: str = 'recover'  # of the adapter
    learner: str = 'td3'
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the learner
    trained: TrainedConfig = field(default_factory=TrainedConfig)
    gate: GateConfig | None = field(default_factory=GateConfig)  # None: versions act unjudged
    probation: ProbationConfig = field(default_factory=ProbationConfig)
    update_every: int = 10  # steps from which the learner may learn at once
    offer_every: int = 250  # steps between two versions
    recent: int = 2000  # steps that the gate judges by

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number that is not positive.
        """
        for name in ('update_every', 'offer_every', 'recent'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be at least 1')


class Session:
    """Call :meth:`steps` and :meth:`rewards` as rows come, then :meth:`work`."""

    def __init__(
        self,
        base: Tensors,
        manifest: PolicyManifest,
        config: SessionConfig | None = None,
        store: Store | None = None,
        seed: int = 0,
        start: Adapter | None = None,
        first: Adapter | None = None,
    ) -> None:
        """Begin, or go on from an adapter that is accepted and acts.

        Args:
            base: tensors of the policy.
            manifest: of the policy.
            config: who learns what.
            store: of versions; without one they are kept in memory.
            seed: of every draw.
            start: of the same kind as what is trained.
            first: a version that no robot has accepted yet, as one that was trained offline: it
                is asked for before anything else, on probation, and gone on from meanwhile.

        Raises:
            ValueError: an unknown learner or setting, or a ``start`` or ``first`` that does not
                fit.
        """
        self.config = config = config or SessionConfig()
        self._manifest, self._store = manifest, store or Memory()
        trained = Trained(base, manifest, config.trained, seed)
        _ = trained.lora  # what cannot be written cannot be offered
        for one in (start, first):
            if one is not None:
                trained.load(one.tensors)
        self.learner = make_learner(config.learner, trained, base, config.settings, seed)
        self._gate = None if config.gate is None else Gate(base, manifest, config.gate)
        self._probation = Probation(config.probation, 0 if start is None else _version(start))
        self._joiner: Joiner | None = None
        self._types: list[np.dtype[Any] | None] = [None, None]
        self._waiting: tuple[list[Array], list[Array]] = ([], [])
        self._recent: deque[Array] = deque(maxlen=config.recent)
        self._accepted: Adapter | None = start
        self._acting: Adapter | None = start
        self._trial: Adapter | None = None  # on probation, or on its way to it
        self._first = first  # until it is judged
        self._swap: Swap | None = None  # asked for, not answered yet
        self._offered = ''  # fingerprint of the last offer
        self._back: str = ''  # why what was accepted must act again
        self._since_update = self._since_offer = self._refused = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)
        self.metrics: Metrics = {}
        self.counts = dict.fromkeys(COUNTS, 0)
        self._stamp = 0

    @property
    def accepted(self) -> str:
        """Label of what was accepted last; '' for the base alone."""
        return '' if self._accepted is None else self._accepted.manifest.label

    @property
    def acting(self) -> str:
        """Label of what acts, as far as is known here."""
        return '' if self._acting is None else self._acting.manifest.label

    def steps(self, rows: Array) -> None:
        """Take rows of `policy/steps`, in any order."""
        self._take(0, rows)

    def rewards(self, rows: Array) -> None:
        """Take rows of `reward/rewards`, in any order."""
        self._take(1, rows)

    def replay(self, rows: Array) -> int:
        """Let the learner have recorded steps, before the first one of the robot.

        Args:
            rows: ``data.rows.transition_dtype`` in the order of time, made with this base by
                whatever adapters; the newest count where the learner has no room for all.

        Returns:
            How many could be learned from.

        Raises:
            ValueError: the learner cannot use what another policy did, or they are of another
                base.
        """
        if not isinstance(self.learner, Replaying):
            able = [name for name, (one, _) in LEARNERS.items() if hasattr(one, 'replay')]
            raise ValueError(
                f'{self.config.learner} learns from what the acting policy does alone, not from '
                f'recorded steps; learners that can are {", ".join(able)}'
            )
        kept = rows[learnable(rows)]
        ours = np.frombuffer(bytes.fromhex(self._manifest.sha256), np.uint8)
        other = kept['base_sha256'][(kept['base_sha256'] != ours).any(axis=1)]
        if len(other):
            raise ValueError(
                f'recorded steps were made with the base {other[0].tobytes().hex()[:12]}, this '
                f'one is {self._manifest.sha256[:12]}'
            )
        self.learner.replay(kept)
        self.counts['replayed'] += len(kept)
        return len(kept)

    def work(self) -> Swap | None:
        """Learn and judge by what has come.

        Returns:
            What shall act from now on, if that changes. The next one comes only after
            :meth:`swapped` has told what became of it.
        """
        rows = self._joiner.take() if self._joiner else None
        if rows is not None and len(rows):
            self._watch(rows)
            self._learn(rows[learnable(rows)])
        if self._swap is not None:
            return None
        if self._back:
            reason, self._back = self._back, ''
            return self._ask(self._accepted, reason)
        if self._first is not None:
            return self._try(self._first)
        if self._trial is None and self._since_offer >= self.config.offer_every:
            return self._offer()
        return None

    def swapped(self, swap: Swap, acts: bool, reason: str) -> None:
        """Hear what became of a swap; ``reason`` says why it was refused."""
        self._swap = None
        if acts:
            self._acting = swap.adapter
            if swap.adapter is not None and swap.adapter is self._trial:
                self._probation.begin(swap.version)
            return
        if swap.adapter is not None and swap.adapter is self._trial:
            self._trial = None
            self._note('swap', swap.version, 'rejected', reason, {})
            self._judge(swap.adapter, 'rejected', reason)
            if swap.adapter is self._first:  # what is learned next would be far from what acts
                self._first = None
                self._go_back(set())
        else:
            self._back = swap.reason  # what was accepted has to act: ask again

    def statistics(self) -> dict[str, float]:
        """Counts and the learner's last numbers, by the field's names."""
        joined = {} if self._joiner is None else dict(self._joiner.counts)
        return {
            **{name: float(value) for name, value in self.counts.items()},
            **{f'stream_{name}': float(value) for name, value in joined.items()},
            **self.metrics,
        }

    @property
    def meta(self) -> dict[str, Any]:
        """What :meth:`load_state` needs beside the arrays, as JSON."""
        return {
            'accepted': 0 if self._accepted is None else self._accepted.manifest.version,
            'counts': dict(self.counts),
            'since': [self._since_update, self._since_offer, self._refused],
            'first': 0 if self._first is None else self._first.manifest.version,
        }

    def state(self) -> State:
        """What the learner knows; the gate looks at golden observations until new ones come."""
        return self.learner.state()

    def load_state(self, state: State, meta: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`: what was accepted acts, a trial that was cut short does not.

        Raises:
            ValueError: it does not fit, or the accepted version is no longer there.
        """
        self.learner.load_state(state)
        version = int(meta['accepted'])
        found = self._store.get(self.config.name, version) if version else None
        self._accepted = self._acting = found
        first = int(meta.get('first', 0))
        self._first = self._store.get(self.config.name, first) if first else None
        self._probation = Probation(self.config.probation, version)
        self.counts.update({name: int(value) for name, value in meta['counts'].items()})
        self._since_update, self._since_offer, self._refused = map(int, meta['since'])

    def _take(self, topic: int, rows: Array) -> None:
        """Hand rows to the joiner, which is made when both topics have spoken."""
        if self._joiner is not None:
            (self._joiner.steps if topic == 0 else self._joiner.rewards)(rows)
            return
        self._types[topic] = rows.dtype
        self._waiting[topic].append(rows.copy())
        step, reward = self._types
        if step is None or reward is None:
            return
        self._joiner = Joiner.fitting(
            step,
            reward,
            period=round(1e9 / self._manifest.control_rate),
            base_sha256=self._manifest.sha256,
        )
        for i, waiting in enumerate(self._waiting):
            for one in waiting:
                self._take(i, one)
            waiting.clear()

    def _watch(self, rows: Array) -> None:
        """Count, and judge what is on probation."""
        self._stamp = int(rows['next_stamp'][-1])
        self.counts['rows'] += len(rows)
        self.counts['falls'] += int(rows['terminated'].sum())
        if self._gate is None:
            return
        verdict = self._probation.take(rows)
        if verdict is None or self._trial is None:
            return
        trial, self._trial, self._first = self._trial, None, None
        version = trial.manifest.version
        self._note(verdict.stage, version, verdict.verdict, verdict.reason, verdict.measures)
        self._judge(trial, verdict.verdict, verdict.reason)
        if verdict.verdict == 'accepted':
            self.counts['accepted'] += 1
            self._accepted = trial
            self.learner.accept(trial.tensors)
        else:
            self.counts['rolled_back'] += 1
            self._go_back({version})
            self._back = verdict.reason

    def _learn(self, rows: Array) -> None:
        """Learn after every so many steps, however they were bundled on their way."""
        self.counts['learned'] += len(rows)
        self._recent.extend(rows)
        self._since_offer += len(rows)
        while len(rows):
            due = self.config.update_every - self._since_update
            part, rows = rows[:due], rows[due:]
            self.learner.ingest(part)
            self._since_update += len(part)
            if len(part) == due:
                self._since_update = 0
                self.metrics |= self.learner.update()

    def _try(self, first: Adapter) -> Swap | None:
        """Ask for what was trained before, once it is known what it must be as good as."""
        if self._gate is None:
            self._accepted, self._first = first, None
            return self._ask(first, 'not judged')
        if self._trial is not None or not self._probation.ready:
            return None
        self._trial = first
        self._note('behaviour', first.manifest.version, 'probation', BEFORE, {})
        return self._ask(first, BEFORE)

    def _offer(self) -> Swap | None:
        """Let the gate judge what has been learned; what passes is written and asked for."""
        self._since_offer = 0
        if not self.metrics:  # nothing has been learned yet
            return None
        candidate = self._candidate()
        digest = fingerprint(candidate.tensors)
        if digest == self._offered:  # as of a learner that waits for a batch
            if self._ahead(digest):  # or of one that is too far ahead to learn from what acts
                self._go_back(set())
            return None
        self._offered = digest
        self.counts['offered'] += 1
        verdict = None
        if self._gate is not None:
            rows = np.stack(list(self._recent))
            verdict, candidate = self._gate.judge(
                candidate, rows['observation'], self._accepted, rows
            )
            if verdict.verdict == 'rejected':
                self._refuse(candidate, verdict)
                return None
            self._refused = 0
        written = self._store.add(
            self.config.name, candidate.config, candidate.tensors, candidate.manifest
        )
        if verdict is None:  # nobody judges it: it counts as accepted once it acts
            self._accepted = written
            self.learner.accept(written.tensors)
            return self._ask(written, 'not judged')
        self._trial = written
        measures = {**verdict.measures, 'scale': verdict.scale}
        self._note(verdict.stage, written.manifest.version, 'probation', verdict.reason, measures)
        return self._ask(written, f'{self.config.learner} offers it')

    def _ahead(self, digest: str) -> bool:
        """Whether what the learner has is not what was accepted last."""
        last = self._accepted
        return last is None or fingerprint(last.tensors) != digest

    def _candidate(self) -> Adapter:
        """The adapter as the learner has it."""
        lora, tensors = self.learner.trained.export()
        manifest = AdapterManifest(
            name=self.config.name,
            version=0,
            base_sha256=self._manifest.sha256,
            robot=self._manifest.robot,
            joint_names=tuple(self._manifest.joint_names),
            parent=self.accepted,
            training={
                'method': f'online {self.config.learner}',
                'trained': self.config.trained.kind,
                'steps': self.counts['learned'],
                'falls': self.counts['falls'],
            },
        )
        return Adapter(lora, tensors, manifest)

    def _refuse(self, candidate: Adapter, verdict: Verdict) -> None:
        """The gate said no: a broken learner goes back at once, a hasty one after a while."""
        self.counts['refused'] += 1
        self._refused += 1
        self._note(verdict.stage, 0, 'rejected', verdict.reason, verdict.measures)
        if verdict.stage == 'static' or self._refused >= STUBBORN:
            self._refused = 0
            self._go_back(set())

    def _judge(self, adapter: Adapter, verdict: str, reason: str) -> None:
        try:
            self._store.judge(self.config.name, adapter.manifest.version, verdict, reason)
        except AdapterError as error:  # pruned, or the disk refuses: it has been published
            self._note('store', adapter.manifest.version, verdict, str(error), {})

    def _go_back(self, rejected: set[int]) -> None:
        last = self._accepted
        self.learner.revert(None if last is None else last.tensors, rejected)
        self._since_offer = 0

    def _ask(self, adapter: Adapter | None, reason: str) -> Swap:
        label = '' if adapter is None else adapter.manifest.label
        version = 0 if adapter is None else adapter.manifest.version
        self._swap = Swap(label, version, adapter, reason)
        return self._swap

    def _note(
        self, stage: str, version: int, verdict: str, reason: str, measures: Mapping[str, float]
    ) -> None:
        self.events.append(
            {
                'time': self._stamp / 1e9,
                'version': version,
                'stage': stage,
                'verdict': verdict,
                'reason': reason,
                'measures': dict(measures),
            }
        )


def _version(adapter: Adapter) -> int:
    return adapter.manifest.version
