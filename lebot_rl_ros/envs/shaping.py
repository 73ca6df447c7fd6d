"""Reward shaping: a reward rebuilt of weighted terms, and potentials that change no best policy.

A term is a small pure function of one transition; a :class:`TermSet` has those of an environment,
and the weights with which they add up to the environment's own reward. All work over any leading
shape, so one term serves one environment and many side by side.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MODES = ('replace', 'log')
POTENTIAL = 'potential'  # name of the component that the potentials give


@dataclass(frozen=True)
class Transition:
    """One step of one environment (leading shape ``()``) or of many (``(N,)``)."""

    observation: Array  # (..., O) that was acted on
    action: Array  # (...) integers, or (..., J)
    next_observation: Array  # (..., O) that it led to, before any reset
    terminated: Array  # (...) bool
    truncated: Array  # (...) bool
    own: Mapping[str, Array]  # (...) components that the environment itself logs, weighted by it


Term = Callable[[Transition], Array]  # (...), unweighted
Potential = Callable[[Array], Array]  # observation (..., O) -> (...)


@dataclass(frozen=True)
class TermSet:
    """What can be weighted in an environment."""

    name: str  # of the environment
    terms: Mapping[str, Term]
    weights: Mapping[str, float]  # whose sum is the environment's own reward; others are 0
    potentials: Mapping[str, Potential] = field(default_factory=dict)


@dataclass(frozen=True)
class Shaping:
    """What is changed of a reward; names are those of the environment's :class:`TermSet`."""

    weights: Mapping[str, float] = field(default_factory=dict)  # in place of its own; 0 drops
    potential: Mapping[str, float] = field(default_factory=dict)  # weights of potentials
    discount: float = 0.99  # of the potentials: gamma of the learner, or the best policy changes
    scale: float = 1.0  # of all that the learner sees
    mode: str = 'replace'  # 'log': the reward stays what it is, components are told only

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of its range, or an unknown mode.
        """
        if self.mode not in MODES:
            raise ValueError(f'mode is {self.mode!r}, must be {" or ".join(MODES)}')
        if not (self.scale > 0.0 and math.isfinite(self.scale)):
            raise ValueError(f'scale is {self.scale}, must be positive')
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f'discount is {self.discount}, must be in [0, 1]')
        for name, weight in (*self.weights.items(), *self.potential.items()):
            if not math.isfinite(weight):
                raise ValueError(f'weight of {name} is {weight}, must be finite')


def potential_shaping(
    discount: float, before: Array, after: Array, terminated: Array
) -> npt.NDArray[np.float64]:
    """F = gamma Phi(s') - Phi(s), which leaves every best policy the best.

    What comes after the end is worth nothing, so Phi is 0 there; a truncated episode did not end.

    Args:
        discount: gamma.
        before: (...) Phi(s).
        after: (...) Phi(s').
        terminated: (...) s' is an end.

    Reference: Ng, Harada and Russell, Policy invariance under reward transformations, ICML 1999;
    Phi of an end: Grzes, Reward shaping in episodic reinforcement learning, AAMAS 2017.
    """
    return np.asarray(discount * np.where(terminated, 0.0, after) - before, dtype=np.float64)


class Shaper:
    """The components of a shaped reward, transition by transition. Stateless."""

    def __init__(self, shaping: Shaping, terms: TermSet) -> None:
        """Look the names up.

        Raises:
            ValueError: a term or potential that the environment does not have.
        """
        _check(shaping.weights, terms.terms, 'term', terms.name)
        _check(shaping.potential, terms.potentials, 'potential', terms.name)
        weights = {**terms.weights, **shaping.weights}
        scale = shaping.scale
        self.shaping = shaping
        self._terms = [
            (name, scale * weight, terms.terms[name]) for name, weight in weights.items() if weight
        ]
        self._potentials = [
            (scale * weight, terms.potentials[name])
            for name, weight in shaping.potential.items()
            if weight
        ]

    def __call__(self, step: Transition) -> dict[str, Array]:
        """Weighted and scaled components (...); their sum is the shaped reward."""
        found = {name: np.asarray(weight * term(step)) for name, weight, term in self._terms}
        if self._potentials:
            found[POTENTIAL] = potential_shaping(
                self.shaping.discount,
                self.potential(step.observation),
                self.potential(step.next_observation),
                step.terminated,
            )
        return found

    @property
    def names(self) -> list[str]:
        """Of the components."""
        return [name for name, _, _ in self._terms] + [POTENTIAL] * bool(self._potentials)

    def potential(self, observation: Array) -> Array:
        """Phi (...) of observations (..., O)."""
        return np.asarray(sum(weight * phi(observation) for weight, phi in self._potentials))


def _check(given: Mapping[str, Any], known: Mapping[str, Any], what: str, where: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f'{where} has no {what} {", ".join(map(repr, unknown))}; choices are '
            f'{", ".join(known) or "none"}'
        )
