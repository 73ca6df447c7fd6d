"""A learning run: rows come in, versions go out, and what was not accepted is taken back.

No clock, no ROS: all that happens depends on the rows alone, so a run repeats, and the learner
node and a benchmark that steps a simulation directly run these very lines.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from lebot_rl_ros.data.joining import learnable
from lebot_rl_ros.learning.base import fingerprint
from lebot_rl_ros.learning.method import Array, Metrics, State
from lebot_rl_ros.learning.online.gate import Gate, Verdict
from lebot_rl_ros.learning.online.intake import Intake
from lebot_rl_ros.learning.online.learner import Replaying
from lebot_rl_ros.learning.online.registry import LEARNERS, make_learner
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.learning.online.trials import Trials
from lebot_rl_ros.learning.online.versions import Memory, Store
from lebot_rl_ros.learning.online.versions import Swap as Swap
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest
from lebot_rl_ros.policy.files import PolicyManifest, Tensors

COUNTS = (
    'rows', 'learned', 'replayed', 'falls', 'offered', 'accepted', 'refused', 'rolled_back',
    'went_home',
)  # fmt: skip
STUBBORN = 4  # offers in a row that the gate refuses, after which the learner goes back


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
        self._intake = Intake(manifest)
        judged = None if config.gate is None else config.probation
        self.trials = Trials(config.name, self._store, judged, start, first)
        self._recent: deque[Array] = deque(maxlen=config.recent)
        self._offered = ''  # fingerprint of the last offer
        self._since_update = self._since_offer = self._refused = 0
        self.metrics: Metrics = {}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.events = self.trials.events

    @property
    def accepted(self) -> str:
        """Label of what was accepted last; '' for the base alone."""
        return _label(self.trials.accepted)

    @property
    def acting(self) -> str:
        """Label of what acts, as far as is known here."""
        return _label(self.trials.acting)

    def steps(self, rows: Array) -> None:
        """Take rows of `policy/steps`, in any order."""
        self._intake.steps(rows)

    def rewards(self, rows: Array) -> None:
        """Take rows of `reward/rewards`, in any order."""
        self._intake.rewards(rows)

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
        rows = self._intake.transitions()
        if rows is not None and len(rows):
            self._watch(rows)
            self._learn(rows[learnable(rows)])
        if self.trials.asked is not None:
            return None
        swap = self.trials.due()
        if swap is None and self.trials.free and self._since_offer >= self.config.offer_every:
            return self._offer()
        return swap

    def swapped(self, swap: Swap, acts: bool, reason: str) -> None:
        """Hear what became of a swap; ``reason`` says why it was refused."""
        if self.trials.swapped(swap, acts, reason):
            self._go_back(set())

    def statistics(self) -> dict[str, float]:
        """Counts and the learner's last numbers, by the field's names."""
        return {
            **{name: float(value) for name, value in self.counts.items()},
            **{f'stream_{name}': float(value) for name, value in self._intake.counts.items()},
            **self.metrics,
        }

    @property
    def meta(self) -> dict[str, Any]:
        """What :meth:`load_state` needs beside the arrays, as JSON."""
        return {
            **self.trials.meta,
            'counts': dict(self.counts),
            'since': [self._since_update, self._since_offer, self._refused],
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
        self.trials.load(meta)
        self.counts.update({name: int(value) for name, value in meta['counts'].items()})
        self._since_update, self._since_offer, self._refused = map(int, meta['since'])

    def _watch(self, rows: Array) -> None:
        """Count, and judge what is on probation."""
        self.trials.now = int(rows['next_stamp'][-1])
        self.counts['rows'] += len(rows)
        self.counts['falls'] += int(rows['terminated'].sum())
        ended = self.trials.watch(rows)
        if ended is None:
            return
        verdict, trial = ended
        if trial is None:  # the base was tried again
            if verdict.verdict == 'accepted':
                self.counts['went_home'] += 1
                self._go_back(set())
        elif verdict.verdict == 'accepted':
            self.counts['accepted'] += 1
            self.learner.accept(trial.tensors)
        else:
            self.counts['rolled_back'] += 1
            self._go_back({trial.manifest.version})

    def _learn(self, rows: Array) -> None:
        """Learn after every so many steps, wherever the bundles end in which they come.

        Of a bundle that spans more than one such turn the last alone is learned at, with all that
        came: what the learner limits at once is so limited, and it does not fall ever further
        behind a robot that does not wait.
        """
        self.counts['learned'] += len(rows)
        self._recent.extend(rows)
        self._since_offer += len(rows)
        turns, after = divmod(self._since_update + len(rows), self.config.update_every)
        self._since_update = after
        if turns:
            before = len(rows) - after
            self.learner.ingest(rows[:before])
            self.metrics |= self.learner.update()
            rows = rows[before:]
        if len(rows):
            self.learner.ingest(rows)

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
                candidate, rows['observation'], self.trials.accepted, rows
            )
            if verdict.verdict == 'rejected':
                self._refuse(candidate, verdict)
                return None
            self._refused = 0
        written = self._store.add(
            self.config.name, candidate.config, candidate.tensors, candidate.manifest
        )
        if verdict is None:
            self.learner.accept(written.tensors)
        return self.trials.try_out(written, verdict, self.config.learner)

    def _ahead(self, digest: str) -> bool:
        """Whether what the learner has is not what was accepted last."""
        last = self.trials.accepted
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
        self.trials.note(verdict.stage, 0, 'rejected', verdict.reason, verdict.measures)
        if verdict.stage == 'static' or self._refused >= STUBBORN:
            self._refused = 0
            self._go_back(set())

    def _go_back(self, rejected: set[int]) -> None:
        last = self.trials.accepted
        self.learner.revert(None if last is None else last.tensors, rejected)
        self._since_offer = 0


def _label(adapter: Adapter | None) -> str:
    return '' if adapter is None else adapter.manifest.label
