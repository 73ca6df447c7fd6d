"""Which version acts, which one was accepted, and which one is on trial."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.online.gate import Verdict
from lebot_rl_ros.learning.online.home import BASE_STAGE
from lebot_rl_ros.learning.online.probation import Probation
from lebot_rl_ros.learning.online.probation_config import ProbationConfig
from lebot_rl_ros.learning.online.versions import Store, Swap
from lebot_rl_ros.policy.adapters import Adapter, AdapterError

BEFORE = 'it was learned before this walk, and passed the gate then'


class Trials:
    """Asks for swaps, one after the other, and judges what came of them."""

    def __init__(
        self,
        name: str,
        store: Store,
        config: ProbationConfig | None,
        start: Adapter | None = None,
        first: Adapter | None = None,
    ) -> None:
        """Begin.

        Args:
            name: of the versions.
            store: of them.
            config: of probation; None: what is asked for counts as accepted.
            start: was accepted, and acts; None is the base.
            first: is to be tried before anything else.
        """
        self._name, self._store, self._config = name, store, config
        self._probation = Probation(config or ProbationConfig(), _version(start))
        self.accepted = self.acting = start  # the latter as far as is known here
        self.trial: Adapter | None = None  # on probation, or on its way to it
        self.homing = False  # the base is, beside what was accepted
        self.first = first  # until it is judged
        self.asked: Swap | None = None  # not answered yet
        self._back = ''  # why what was accepted must act again
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)
        self.now = 0  # ns

    def ask(self, adapter: Adapter | None, reason: str) -> Swap:
        """Ask for a version, None for the base; whether it acts is heard by :meth:`swapped`."""
        label = '' if adapter is None else adapter.manifest.label
        self.asked = Swap(label, _version(adapter), adapter, reason)
        return self.asked

    def due(self) -> Swap | None:
        """What has to be asked for before anything new may be tried."""
        if self._back:
            reason, self._back = self._back, ''
            return self.ask(self.accepted, reason)
        if self.free and self._probation.misses_base:
            self.homing, reason = True, f'{self._probation.misses_base}: the base is tried'
            self.note(BASE_STAGE, 0, 'probation', reason, {})
            return self.ask(None, reason)
        first = self.first
        if first is None:
            return None
        if self._config is None:
            self.accepted, self.first = first, None
            return self.ask(first, 'not judged')
        # What it must be as good as has to be known before.
        if self.trial is not None or not self._probation.ready:
            return None
        self.trial = first
        self.note('behaviour', _version(first), 'probation', BEFORE, {})
        return self.ask(first, BEFORE)

    @property
    def free(self) -> bool:
        """Whether something new may be tried."""
        return self.trial is None and self.first is None and not self.homing

    def try_out(self, written: Adapter, verdict: Verdict | None, whose: str) -> Swap:
        """Ask for a version that the gate let pass, or that nobody judges: None."""
        if verdict is None:  # it counts as accepted once it acts
            self.accepted = written
            return self.ask(written, 'not judged')
        self.trial = written
        measures = {**verdict.measures, 'scale': verdict.scale}
        self.note(verdict.stage, _version(written), 'probation', verdict.reason, measures)
        return self.ask(written, f'{whose} offers it')

    def swapped(self, swap: Swap, acts: bool, reason: str) -> bool:
        """Hear what became of a swap; ``reason`` says why it was refused.

        Returns:
            Whether the learner has to go back to what is accepted.
        """
        self.asked = None
        on_trial = swap.adapter is not None and swap.adapter is self.trial
        if acts:
            self.acting = swap.adapter
            if on_trial or self.homing:
                self._probation.begin(swap.version)
            return False
        if self.homing:
            self.homing, self._back = False, reason
            return False
        if not on_trial or swap.adapter is None:
            self._back = swap.reason  # what was accepted has to act: ask again
            return False
        self.trial = None
        self.note('swap', swap.version, 'rejected', reason, {})
        self._judge(swap.adapter, 'rejected', reason)
        if swap.adapter is not self.first:
            return False
        self.first = None  # what is learned next would be far from what acts
        return True

    def watch(self, rows: Array) -> tuple[Verdict, Adapter | None] | None:
        """Judge what acts by transitions (N,).

        Returns:
            The verdict on a trial that ends with them, and whose it is; None is the base.
        """
        verdict = None if self._config is None else self._probation.take(rows)
        if verdict is None:
            return None
        if self.homing:
            self.homing = False
            self.note(BASE_STAGE, 0, verdict.verdict, verdict.reason, verdict.measures)
            if verdict.verdict == 'accepted':
                self.accepted = None
            else:
                self._back = verdict.reason
            return verdict, None
        if self.trial is None:
            return None
        trial, self.trial, self.first = self.trial, None, None
        self.note(
            verdict.stage, _version(trial), verdict.verdict, verdict.reason, verdict.measures
        )
        self._judge(trial, verdict.verdict, verdict.reason)
        if verdict.verdict == 'accepted':
            self.accepted = trial
        else:
            self._back = verdict.reason
        return verdict, trial

    def note(
        self, stage: str, version: int, verdict: str, reason: str, measures: Mapping[str, float]
    ) -> None:
        """Keep a verdict for those who publish it."""
        self.events.append(
            {
                'time': self.now / 1e9,
                'version': version,
                'stage': stage,
                'verdict': verdict,
                'reason': reason,
                'measures': dict(measures),
            }
        )

    @property
    def meta(self) -> dict[str, int]:
        """Versions, for a checkpoint."""
        return {'accepted': _version(self.accepted), 'first': _version(self.first)}

    def load(self, meta: Mapping[str, Any]) -> None:
        """Go on from :attr:`meta`: what was accepted acts; a trial that was cut short does not.

        Raises:
            AdapterError: a version is no longer there.
        """
        numbers = int(meta['accepted']), int(meta.get('first', 0))
        self.accepted, self.first = (
            self._store.get(self._name, number) if number else None for number in numbers
        )
        self.acting = self.accepted
        self._probation = Probation(self._config or ProbationConfig(), numbers[0])

    def _judge(self, adapter: Adapter, verdict: str, reason: str) -> None:
        try:
            self._store.judge(self._name, _version(adapter), verdict, reason)
        except AdapterError as error:  # pruned, or the disk refuses: it has been published
            self.note('store', _version(adapter), verdict, str(error), {})


def _version(adapter: Adapter | None) -> int:
    return 0 if adapter is None else adapter.manifest.version
