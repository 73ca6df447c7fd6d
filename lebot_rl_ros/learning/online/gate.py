"""The gate that every adapter version passes before it acts, wherever it was trained.

static (finite, shapes, base, lineage, norms) -> behaviour (what the mean action does on golden and
recent observations, against the last accepted version and the base; a step that goes too far is
shortened before it is refused) -> evidence, where recorded steps are given (does the change point
where they earned more). What passes acts on probation: ``learning.online.probation``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.online import evidence
from lebot_rl_ros.learning.online.behaviour import (
    FloatArray,
    describe_change,
    layer_changes,
    mean_actions,
    part_way,
)
from lebot_rl_ros.learning.online.gate_config import GateConfig as GateConfig
from lebot_rl_ros.policy.adapters import Adapter, AdapterError
from lebot_rl_ros.policy.compare import golden_observations
from lebot_rl_ros.policy.files import PolicyManifest, Tensors

Measures = dict[str, float]
Caps = dict[str, tuple[float, str]]  # largest value by the name of a measure, and its unit


@dataclass(frozen=True)
class Verdict:
    """What was decided about one version, why, and the numbers."""

    stage: str  # static, behaviour, evidence or probation
    verdict: str  # probation (it may act, watched), accepted or rejected
    reason: str  # in words
    scale: float  # share of the step from the last accepted version that may act; 0 where none may
    measures: Measures = field(default_factory=dict)


class Gate:
    """Judges versions for one base."""

    def __init__(self, base: Tensors, manifest: PolicyManifest, config: GateConfig) -> None:
        """Take the base's tensors and manifest; they stay as they are."""
        self.config, self._base, self._manifest = config, base, manifest
        self._golden = golden_observations(base)

    def judge(
        self,
        adapter: Adapter,
        recent: npt.NDArray[np.floating],
        accepted: Adapter | None,
        rows: npt.NDArray[np.void] | None = None,
    ) -> tuple[Verdict, Adapter]:
        """Decide whether a version may act on probation.

        Args:
            adapter: the version.
            recent: (N, O) observations that the robot saw of late, newest last; N may be 0.
            accepted: the last accepted version; None is the base.
            rows: (M,) ``data.rows.transition_dtype``, of late, in the order of time, from which
                it was learned; evidence is asked for where they are given.

        Returns:
            The verdict, and the adapter as it may act: the one that was given, or a part of the
            way to it.
        """
        refusal = self._static(adapter, accepted)
        if refusal:
            return Verdict('static', 'rejected', refusal, 0.0), adapter
        norms = {
            f'{name}/{layer}': value
            for layer, values in layer_changes(self._base, adapter).items()
            for name, value in zip(('norm', 'bias'), values, strict=True)
        }
        refusal = self._exceeded(norms, self._norm_caps(norms))
        if refusal:
            return Verdict('static', 'rejected', refusal, 0.0, norms), adapter
        observations, note = self._observations(recent)
        before = [self._means(accepted, batch) for batch in observations]
        tried: list[str] = []
        for scale in self.config.scales:
            part = part_way(self._base, accepted, adapter, scale)
            measures = self._measure(part, observations, before)
            refusal = self._exceeded(measures, self._caps(measures))
            measures |= norms
            if not refusal:
                refusal, support = self._evidence(part, accepted, rows)
                measures |= support
                if refusal:
                    return Verdict('evidence', 'rejected', refusal, 0.0, measures), adapter
                reason = f'{self._words(measures)}{f"; {tried[0]}" if tried else ""}{note}'
                return Verdict('behaviour', 'probation', reason, scale, measures), part
            tried.append(f'at {scale:g} of its step {refusal}')
            if len(tried) == 1 and self._hopeless(measures):
                tried[0] += ': too far to be shortened'
                break
        reason = '; '.join([*tried[:1], *tried[1:][-1:]]) + note
        return Verdict('behaviour', 'rejected', reason, 0.0, measures), adapter

    def _static(self, adapter: Adapter, accepted: Adapter | None) -> str:
        """Why an adapter cannot be meant for this base and this moment, or ''."""
        for name, value in adapter.tensors.items():
            if value.dtype != np.float32:
                return f'tensor {name} is {value.dtype}, expected float32'
            bad = int(np.count_nonzero(~np.isfinite(value)))
            if bad:
                return f'tensor {name} has {bad} of {value.size} values that are not finite'
        try:
            adapter.check(self._manifest)
        except AdapterError as error:
            return str(error)
        mine, parent = adapter.manifest, adapter.manifest.parent
        if not (self.config.lineage and parent.startswith(f'{mine.name}@')):
            return ''  # trained elsewhere or from the base: only what it does can be judged
        if accepted is None or parent != accepted.manifest.label:
            last = 'the base' if accepted is None else accepted.manifest.label
            return f'stale: made from {parent}, but what is accepted now is {last}'
        return ''

    def _observations(self, recent: FloatArray) -> tuple[list[FloatArray], str]:
        """Sets of observations to judge by, and what is to be said of them."""
        recent = np.asarray(recent)
        if recent.ndim != 2 or recent.shape[1] != self._golden.shape[1]:
            raise ValueError(
                f'recent observations have shape {recent.shape}, '
                f'expected (N, {self._golden.shape[1]})'
            )
        recent = recent[-self.config.recent :]
        good = np.isfinite(recent).all(axis=-1)
        bad, note = int(np.count_nonzero(~good)), ''
        if bad:
            note = f'; {bad} of {len(recent)} recent observations are not finite and do not count'
        recent = recent[good]
        if len(recent) >= self.config.least:
            return [self._golden, recent], note
        note += f'; golden observations alone were judged, as {len(recent)} recent ones are fewer'
        return [self._golden], f'{note} than {self.config.least}'

    def _means(self, accepted: Adapter | None, batch: FloatArray) -> tuple[FloatArray, ...]:
        """Mean actions of the base and of the last accepted version."""
        base = mean_actions(self._base, self._manifest, None, batch)
        if accepted is None:
            return base, base
        return base, mean_actions(self._base, self._manifest, accepted, batch)

    def _measure(
        self,
        adapter: Adapter,
        observations: Sequence[FloatArray],
        before: Sequence[tuple[FloatArray, ...]],
    ) -> Measures:
        """What an adapter does, the worst over sets of observations."""
        found = Measures()
        for batch, (base, old) in zip(observations, before, strict=True):
            new = mean_actions(self._base, self._manifest, adapter, batch)
            values = describe_change(base, old, new, self._manifest, self.config.sigma)
            for name, value in values.items():  # of numpy: NaN is larger than anything
                found[name] = float(np.maximum(value, found.get(name, -np.inf)))
        return found

    def _evidence(
        self, adapter: Adapter, accepted: Adapter | None, rows: npt.NDArray[np.void] | None
    ) -> tuple[str, Measures]:
        least = self.config.evidence
        if least is None or rows is None:
            return '', {}
        rows = evidence.usable(rows)
        if len(rows) < self.config.evidence_least:
            return '', {'evidence_steps': float(len(rows))}
        old, new = (
            mean_actions(self._base, self._manifest, one, rows['observation'])
            for one in (accepted, adapter)
        )
        if not np.abs(new - old).max() > 0.0:
            return '', {'evidence_steps': float(len(rows))}  # it changes nothing
        advantages = evidence.advantages(
            rows, self._base, str(self._manifest.network['activation']),
            discount=self.config.discount, trace=self.config.trace,
        )  # fmt: skip
        score = evidence.standard_score(rows, advantages, new - old)
        measures = {'evidence': score, 'evidence_steps': float(len(rows))}
        if score >= least:
            return '', measures
        return (
            f'evidence is {score:.2f}, less than {least:g}: in {len(rows)} recorded steps, '
            f'actions towards where it goes did not earn more'
        ), measures

    def _norm_caps(self, norms: Measures) -> Caps:
        units = {'norm': 'of the weight', 'bias': 'in norm'}
        return {
            name: (getattr(self.config, name.partition('/')[0]), units[name.partition('/')[0]])
            for name in norms
        }

    def _caps(self, measures: Measures) -> Caps:
        config = self.config
        caps: Caps = {
            name: (float(getattr(config, name)), 'rad' if name.startswith('change') else 'nats')
            for name in ('change', 'change_base', 'kl_mean', 'kl_p99', 'kl_base')
        }
        share = (config.saturation, 'of the observations')
        return caps | {name: share for name in measures if name.startswith('saturation/')}

    def _hopeless(self, measures: Measures) -> bool:
        """Whether even the shortest step is too far, were actions linear in it.

        They are not quite: a quarter of a wild step may look tame, and still is no honest one.
        """
        ratio = self.config.scales[0] / self.config.scales[-1]
        powers = {'change': 1, 'kl_mean': 2, 'kl_p99': 2}
        return any(
            not measures[name] <= getattr(self.config, name) * ratio**power * (1.0 + 1e-6)
            for name, power in powers.items()
        )

    @staticmethod
    def _exceeded(measures: Measures, caps: Caps) -> str:
        """Everything that is beyond its cap, in words, or ''. What is not finite is beyond."""
        found = [
            f'{name} is {measures[name]:.3g} {unit}, more than {cap:g}'
            for name, (cap, unit) in caps.items()
            if not measures[name] <= cap
        ]
        return ', '.join(found)

    def _words(self, measures: Measures) -> str:
        return (
            f'the mean action moves by {measures["change"]:.3f} rad at most, '
            f'kl_mean {measures["kl_mean"]:.3g}, kl_p99 {measures["kl_p99"]:.3g}; '
            f'from the base {measures["change_base"]:.3f} rad, {measures["kl_base"]:.3g} nats'
        )
