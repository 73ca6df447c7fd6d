"""Thresholds of the gate."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class GateConfig:
    """Thresholds; "step" is against the last accepted version, "base" against the base."""

    norm: float = 0.6  # of a layer's change, share of its base weight's Frobenius norm
    bias: float = 2.0  # Euclidean norm of a layer's change of biases, units of its output
    lineage: bool = True  # refuse what was not made from the last accepted version of its name
    change: float = 0.25  # rad, largest of a joint's mean target in one step
    change_base: float = 0.9  # rad, likewise; a horn that slipped by 0.35 rad needs 0.35
    sigma: float = 0.1  # action units, spread of the Gaussians whose divergence is taken
    kl_mean: float = 0.25  # nats a step; 0.042 rad at one joint. td3 goes 0.15 to 0.21 in 5 s
    kl_p99: float = 1.5  # nats a step, 99th percentile; 0.10 rad at one joint
    kl_base: float = 40.0  # nats, mean; the oracle of that horn has 17, shipped adapters 12 to 20
    saturation: float = 0.25  # rise of a joint's share of observations at its limit, from base
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)  # shares of the step that are tried, in order
    recent: int = 4096  # newest recent observations that are judged
    least: int = 250  # recent observations; with fewer, golden ones alone are judged
    evidence: float | None = 1.0  # least standard score, honest: 1 to 10; None asks for none
    evidence_least: int = 500  # steps; with fewer, evidence is not asked for
    trace: float = 0.9  # lambda of the advantages that evidence is made of
    discount: float = 0.98  # the base critic's

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value out of its range; the message has both.
        """
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == 'scales':
                good = bool(value) and all(0.0 < s <= 1.0 for s in value)
                good = good and list(value) == sorted(set(value), reverse=True)
                wanted = 'must fall, from 1 or less to above 0'
            elif value is None or isinstance(value, bool) or entry.name == 'evidence':
                good, wanted = value is None or math.isfinite(value), 'must be finite'
            elif entry.name in ('trace', 'discount'):
                good, wanted = 0.0 <= value <= 1.0, 'must be in [0, 1]'
            else:
                good, wanted = math.isfinite(value) and value > 0, 'must be positive'
            if not good:
                raise ValueError(f'{entry.name} is {value!r}, {wanted}')
