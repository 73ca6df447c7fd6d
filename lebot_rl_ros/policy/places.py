"""Which folders are versions of adapters: ``<place>/<name>/<NNNN>/``, in two places."""

import re
from pathlib import Path

from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.terms import NAME, check_name


class Places:
    """A writable place and, below it, the adapters that ship with the package."""

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        """Take the places; neither has to be there."""
        self.root, self.shipped = root, shipped
        self.all = [root] if shipped is None else [root, shipped]

    def names(self) -> list[str]:
        """Names that have a version."""
        found = {
            entry.name
            for place in self.all
            for entry in _folders(place)
            if NAME.fullmatch(entry.name) and _versions(entry)
        }
        return sorted(found)

    def own_names(self) -> list[str]:
        """Names with a folder in the writable place, be it without a version."""
        return sorted(e.name for e in _folders(self.root) if NAME.fullmatch(e.name))

    def versions(self, name: str) -> list[int]:
        """Versions of a name in both places, oldest first; none of an unknown name."""
        check_name(name)
        return sorted({version for place in self.all for version in _versions(place / name)})

    def own_versions(self, name: str) -> list[int]:
        """Versions of a name in the writable place, oldest first."""
        return sorted(_versions(self.root / name))

    def known_versions(self, name: str) -> list[int]:
        """Versions of a name that has to be there.

        Raises:
            AdapterError: it is not; the message has the names that are.
        """
        versions = self.versions(name)
        if not versions:
            raise AdapterError(
                f'there is no adapter {name}; there are {", ".join(self.names()) or "none"} in '
                f'{" and ".join(map(str, self.all))}'
            )
        return versions

    def find(self, name: str, version: int) -> Path | None:
        """Folder of a version, in the writable place if both have it."""
        for place in self.all:
            path = place / name / f'{version:04d}'
            if NAME.fullmatch(name) and path.is_dir():
                return path
        return None

    def own(self, name: str, version: int) -> Path:
        """Folder of a version in the writable place, whether it is there or not."""
        return self.root / name / f'{version:04d}'


def _folders(place: Path) -> list[Path]:
    try:
        return [entry for entry in place.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AdapterError(f'{place} cannot be read: {error.strerror}') from error


def _versions(place: Path) -> list[int]:
    """Versions in the folder of a name; whatever else lies there is not seen."""
    names = [e.name for e in _folders(place) if re.fullmatch('[0-9]{4,9}', e.name)]
    return [int(name) for name in names if int(name) and name == f'{int(name):04d}']
