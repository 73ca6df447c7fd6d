"""Adapters made ready to drive: read, checked, merged, warmed and tried, before they may act."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from lebot_rl_ros.control.walker import Policy, Walk
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, merge
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.policy.terms import Term, format_mix
from lebot_rl_ros.robot import share_path

NOTHING = '0' * 64  # hash of the base alone
GOLDEN = 64  # observations that a new policy must answer with finite numbers
WARM = 10  # calls, so that the first tick is as fast as the others


@dataclass(frozen=True)
class Prepared:
    """A policy that may act from the next tick on."""

    text: str  # as it was asked for
    label: str  # with every version: ``turn@3``, ``turn@2:0.7+ice@1:0.3``; empty for the base
    name: str  # of the adapter; of a mixture all names, joined by +
    version: int  # of the adapter; 0 for the base alone and for mixtures
    sha256: str  # of the adapter's file; of a mixture see :func:`prepare`
    runtime: Policy
    parts: tuple[tuple[Adapter, float], ...] = ()
    holds: tuple[IO[bytes], ...] = ()  # what keeps its files from being pruned

    def close(self) -> None:
        """Let go of the files; the policy itself stays usable."""
        for hold in self.holds:
            hold.close()


def default_store(root: str | Path = '') -> AdapterStore:
    """The adapters of this user, and below them those that ship with the package.

    Args:
        root: the writable place; without it ``$LEBOT_ADAPTERS``, else ``lebot/adapters`` in
            ``$XDG_DATA_HOME``, else in ``~/.local/share``.
    """
    given = root or os.environ.get('LEBOT_ADAPTERS')
    data = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    shipped = None
    with suppress(FileNotFoundError):
        shipped = share_path('adapters')
    return AdapterStore(Path(given) if given else Path(data) / 'lebot' / 'adapters', shipped)


def prepare(
    text: str,
    store: AdapterStore,
    tensors: Tensors,
    manifest: PolicyManifest,
    runtime: PolicyRuntime | None = None,
) -> Prepared:
    """Build the policy that a text names; nothing that acts is touched.

    The hash of one adapter of weight 1 is that of its file; any other is the hash of its label
    with the parts' hashes.

    Args:
        text: as :func:`~lebot_rl_ros.policy.terms.parse_mix` reads it.
        store: where adapters lie.
        tensors: of the base.
        manifest: of the base.
        runtime: the base as it runs; it is what '' gives, so that outputs are its own to the bit.

    Raises:
        AdapterError: the text, a file or the fit to the base is wrong, or the merged policy gives
            actions that are not finite; the message names it.
    """
    parts = tuple(store.load(text))
    if not parts:
        return Prepared(text, '', '', 0, NOTHING, runtime or PolicyRuntime(tensors, manifest))
    for adapter, _ in parts:
        adapter.check(manifest)
    terms = [Term(a.manifest.name, a.manifest.version, weight) for a, weight in parts]
    label = format_mix(terms)
    first = parts[0][0].manifest
    exact = '+'.join(
        f'{term}#{a.manifest.sha256}' for term, (a, _) in zip(terms, parts, strict=True)
    )
    alone = len(parts) == 1
    merged = PolicyRuntime(merge(tensors, parts), manifest)
    _try(merged, tensors, label)
    return Prepared(
        text=text,
        label=label,
        name='+'.join(term.name for term in terms),
        version=first.version if alone else 0,
        sha256=(
            first.sha256
            if alone and terms[0].weight == 1.0
            else hashlib.sha256(exact.encode()).hexdigest()
        ),
        runtime=merged,
        parts=parts,
    )


def _try(runtime: PolicyRuntime, base: Tensors, label: str) -> None:
    """Refuse a policy that answers likely observations with NaN or infinity; warm it."""
    mean, var = base['normaliser.mean'], base['normaliser.var']
    noise = np.random.default_rng(0).standard_normal((GOLDEN, len(mean)))
    observations = (mean + np.sqrt(var) * noise).astype(np.float32)
    with np.errstate(over='ignore', invalid='ignore'):
        actions = runtime.act_many(observations)
        finite = (
            np.isfinite(actions).all()
            and np.isfinite([runtime.value(observation) for observation in observations]).all()
        )
        for observation in observations[:WARM]:
            finite &= np.isfinite(runtime.act(observation)).all()
    if not finite:
        raise AdapterError(
            f'{label} on this base gives actions or values that are not finite for some of '
            f'{GOLDEN} likely observations'
        )


class AdapterSource:
    """Prepares adapters for one walk, and lists what there is; for one thread at a time."""

    def __init__(self, walk: Walk, store: AdapterStore) -> None:
        """Take the base and the place; nothing is read yet."""
        self._walk, self._store = walk, store
        self.base = Prepared('', '', '', 0, NOTHING, walk.policy)
        self.base_sha256 = walk.policy.sha256

    def __call__(self, text: str) -> Prepared:
        """Prepare what a text names, and hold its files.

        Raises:
            AdapterError: as in :func:`prepare`, or the base has no weights to adapt.
        """
        policy = self._walk.policy
        if not isinstance(policy, PolicyRuntime):
            if text.strip():
                raise AdapterError(
                    f'adapter {text!r} cannot be used: the policy trot has no weights to adapt'
                )
            return replace(self.base, text=text)
        made = prepare(text, self._store, self._walk.tensors, policy.manifest, policy)
        return replace(made, holds=tuple(self._store.hold(adapter) for adapter, _ in made.parts))

    def listing(self) -> Sequence[dict[str, Any]]:
        """Every name of the store with its versions, and what is known of each, for people."""
        return [
            {'name': name, 'versions': [self._known(name, v) for v in self._store.versions(name)]}
            for name in self._store.names()
        ]

    def _known(self, name: str, version: int) -> dict[str, Any]:
        try:
            manifest = self._store.manifest(name, version)
        except AdapterError as error:
            return {'version': version, 'verdict': 'damaged', 'reason': str(error)}
        fits = manifest.base_sha256 == self.base_sha256
        return {
            'version': version,
            'verdict': manifest.verdict,
            'reason': manifest.reason,
            'base': 'this' if fits else f'another: {manifest.base_sha256[:12]}',
        }
