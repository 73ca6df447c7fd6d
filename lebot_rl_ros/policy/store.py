"""Where adapters lie: ``<root>/<name>/<NNNN>/``, one folder a version.

There are two places, a writable one and the adapters that ship with the package; numbers go on
over both, and where both have one, the writable one is taken. Any number of processes may read,
add, judge and prune at once.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.adapter_files import MANIFEST, load_adapter, load_manifest, save_adapter
from lebot_rl_ros.policy.adapters import (
    VERDICTS,
    Adapter,
    AdapterError,
    AdapterManifest,
    LoraConfig,
)
from lebot_rl_ros.policy.folders import replace_file
from lebot_rl_ros.policy.places import Places
from lebot_rl_ros.policy.pruning import Removed as Removed
from lebot_rl_ros.policy.pruning import clear, lock, prune_folders
from lebot_rl_ros.policy.terms import Term
from lebot_rl_ros.policy.terms import parse_mix as parse_mix


class AdapterStore:
    """Adapters by name and version."""

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        """Take the places; neither has to be there.

        Args:
            root: where versions are added.
            shipped: adapters of the package; they are never changed.
        """
        self.root = Path(root)
        self.shipped = None if shipped is None else Path(shipped)
        self._places = Places(self.root, self.shipped)

    def names(self) -> list[str]:
        """Names that have a version."""
        return self._places.names()

    def versions(self, name: str) -> list[int]:
        """Versions of a name, oldest first; none of an unknown name."""
        return self._places.versions(name)

    def folder(self, name: str, version: int) -> Path:
        """Folder of a version.

        Raises:
            AdapterError: there is no such name or version; the message has those that are.
        """
        folder = self._places.find(name, version)
        if folder is None:
            known = ', '.join(map(str, self._places.known_versions(name)))
            raise AdapterError(f'adapter {name} has no version {version}; it has {known}')
        return folder

    def is_shipped(self, name: str, version: int) -> bool:
        """Whether a version belongs to the package and is read only."""
        return self.folder(name, version).parent.parent == self.shipped

    def manifest(self, name: str, version: int) -> AdapterManifest:
        """What is known of a version, whatever its verdict; its weights are not read.

        Raises:
            AdapterError: it is unknown, or its manifest cannot be used.
        """
        folder = self.folder(name, version)
        manifest = load_manifest(folder)
        if (manifest.name, manifest.version) != (name, version):
            raise AdapterError(
                f'{folder / MANIFEST} is the one of {manifest.label}, expected {name}@{version}; '
                f'bring foreign folders in with `lebot adapters import`'
            )
        return manifest

    def get(self, name: str, version: int) -> Adapter:
        """Read a version, whatever its verdict: to look at, to export, to train on.

        Raises:
            AdapterError: it is unknown or damaged.
        """
        return load_adapter(self.folder(name, version), self.manifest(name, version))

    def choose(self, name: str) -> int:
        """Newest accepted version; where none was accepted, the newest that was not rejected.

        Raises:
            AdapterError: the name is unknown, or all its versions were rejected.
        """
        verdicts = {}
        for version in self._places.known_versions(name):
            try:
                verdicts[version] = self.manifest(name, version).verdict
            except AdapterError:
                if self._places.find(name, version):  # else another process has pruned it just now
                    raise
        for wanted in ({'accepted'}, set(VERDICTS) - {'rejected'}):
            fit = [version for version, verdict in verdicts.items() if verdict in wanted]
            if fit:
                return max(fit)
        last = max(self._places.known_versions(name))
        raise AdapterError(
            f'every version of adapter {name} was rejected ({", ".join(map(str, verdicts))}); '
            f'{name}@{last}: {self.manifest(name, last).reason or "no reason given"}'
        )

    def load(self, text: str, *, rejected: bool = False) -> list[tuple[Adapter, float]]:
        """Read the adapters that a text names, with their weights.

        Args:
            text: as :func:`parse_mix` reads it.
            rejected: take rejected ones, too: to look at, not to drive.

        Raises:
            AdapterError: the text is malformed, names what is not there, what was rejected, or
                one adapter twice, or a folder is damaged. Whether the adapters fit the base that
                runs, :meth:`Adapter.check` says.
        """
        parts: list[tuple[Adapter, float]] = []
        for term in parse_mix(text):
            adapter = self._read(term)
            if adapter.manifest.verdict == 'rejected' and not rejected:
                raise AdapterError(
                    f'adapter {term.path or adapter.manifest.label} was rejected: '
                    f'{adapter.manifest.reason or "no reason given"}'
                )
            if any(adapter.manifest.label == other.manifest.label for other, _ in parts):
                raise AdapterError(f'adapter {text!r} names {adapter.manifest.label} twice')
            parts.append((adapter, term.weight))
        return parts

    def add(
        self,
        name: str,
        config: LoraConfig,
        tensors: Mapping[str, npt.NDArray[np.float32]],
        manifest: AdapterManifest,
    ) -> Adapter:
        """Write the next version of a name; two writers at once get two numbers.

        Args:
            name: of the adapter.
            config: of the tensors.
            tensors: with plain names, as in :class:`Adapter`.
            manifest: its name and version are replaced; ``created``, where empty, becomes now.

        Raises:
            AdapterError: the name cannot be one, a tensor is not finite, or the disk refuses.
        """
        version = max(self.versions(name), default=0)
        created = manifest.created or datetime.now(timezone.utc).isoformat(timespec='seconds')
        while True:
            version += 1
            mine = replace(manifest, name=name, version=version, created=created)
            try:
                return save_adapter(self._places.own(name, version), config, tensors, mine)
            except FileExistsError:
                continue  # another writer was faster
            except OSError as error:
                raise AdapterError(
                    f'{self.root} cannot be written: {error.strerror}; $LEBOT_ADAPTERS names '
                    f'another folder'
                ) from error

    def judge(self, name: str, version: int, verdict: str, reason: str) -> None:
        """Write a verdict into the manifest of a version.

        Raises:
            AdapterError: there is no such verdict or version, or it ships with the package.
        """
        if verdict not in VERDICTS:
            raise AdapterError(f'verdict is {verdict!r}; choices are {", ".join(VERDICTS)}')
        manifest = self.manifest(name, version)
        if self.is_shipped(name, version):
            raise AdapterError(
                f'{manifest.label} ships with the package and stays {manifest.verdict}'
            )
        table = asdict(replace(manifest, verdict=verdict, reason=reason))
        content = (json.dumps(table, indent=2) + '\n').encode()
        folder = self.folder(name, version)
        try:
            with lock(folder):
                replace_file(folder / MANIFEST, content)
        except OSError as error:
            raise AdapterError(f'{folder} cannot be judged: {error.strerror}') from error

    def hold(self, adapter: Adapter) -> IO[bytes]:
        """Keep the folder of an adapter from being pruned, as long as the handle is open.

        The system lets go when the process ends, however it ends. An adapter from outside the
        store, or one removed since it was read, has nothing to hold; its handle holds nothing.
        """
        folder = self._places.find(adapter.manifest.name, adapter.manifest.version)
        try:
            if folder and load_manifest(folder).sha256 == adapter.manifest.sha256:
                return lock(folder)
        except (AdapterError, OSError):
            pass  # removed since it was read
        return Path(os.devnull).open('rb')

    def lineage(self, label: str) -> list[str]:
        """What a version was made from, and that from: ``turn@5, turn@3, turn@1``.

        Args:
            label: NAME@VERSION; NAME alone is the one that :meth:`choose` takes.

        Returns:
            Labels, this one first. A parent that is no longer there, or that is a mixture, is the
            last.

        Raises:
            AdapterError: the label is malformed or unknown.
        """
        name, version = self.resolve(label)
        chain = [f'{name}@{version}']
        while True:
            try:
                parent = self.manifest(name, version).parent
                if not parent or parent in chain:
                    return chain
                chain.append(parent)
                if '@' not in parent:  # which version it was is not known
                    return chain
                name, version = self.resolve(parent)
            except AdapterError:
                return chain

    def resolve(self, label: str) -> tuple[str, int]:
        """Name and version of one adapter of the store.

        Raises:
            AdapterError: the label is malformed or unknown, or has a weight.
        """
        terms = parse_mix(label)
        if len(terms) != 1 or terms[0].path is not None or terms[0].weight != 1.0:
            raise AdapterError(f'adapter {label!r}: expected one NAME or NAME@VERSION')
        name = terms[0].name
        version = self.choose(name) if terms[0].version is None else terms[0].version
        self.folder(name, version)
        return name, version

    def prune(
        self, keep: int, *, names: Iterable[str] | None = None, dry_run: bool = False
    ) -> list[Removed]:
        """Remove old versions: never an accepted one, one that a process holds or a shipped one.

        What killed writers left is removed too, once it is an hour old.

        Args:
            keep: newest versions of each name that stay beside those, 1 or more: the number of
                the last one must not be given again.
            names: which; all without it.
            dry_run: only say what would be done.

        Returns:
            What was done with each version of the writable place, and why.

        Raises:
            AdapterError: ``keep`` is less than 1, or a name is unknown.
        """
        if keep < 1:
            raise AdapterError(
                f'keep is {keep}, must be 1 or more: else a number would be given twice'
            )
        if names is None:
            chosen = self._places.own_names()
        else:
            chosen = [name for name in names if self._places.known_versions(name)]
        done: list[Removed] = []
        for name in sorted(chosen):
            folders = [
                (f'{name}@{version}', self._places.own(name, version))
                for version in reversed(self._places.own_versions(name))
            ]
            try:
                done += prune_folders(
                    folders, keep, self._why, self._choice(name), dry_run=dry_run
                )
                done += clear(self.root / name, dry_run=dry_run)
            except OSError as error:
                raise AdapterError(f'{self.root / name} cannot be pruned: {error}') from error
        return done

    def _why(self, label: str) -> str:
        """Why a version must stay, or ''."""
        name, _, version = label.partition('@')
        try:
            verdict = self.manifest(name, int(version)).verdict
        except AdapterError:
            return f'{MANIFEST} cannot be read'
        return verdict if verdict == 'accepted' else ''

    def _choice(self, name: str) -> str:
        try:
            return f'{name}@{self.choose(name)}'
        except AdapterError:
            return ''

    def _read(self, term: Term) -> Adapter:
        if term.path is not None:
            return load_adapter(term.path)
        version = self.choose(term.name) if term.version is None else term.version
        return self.get(term.name, version)
