"""What a bag was made of: a list in its run metadata, the oldest step first."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lebot_rl_ros import __version__

LINEAGE = 'lineage'  # key of the run metadata: a JSON list


class Known(Protocol):
    """What has to be known of a bag to name it; :class:`Bag` is one."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def sha256(self) -> str:
        """Of its content."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Of its run."""


def lineage(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Steps in which a bag was made out of others; none for a recording."""
    try:
        steps = json.loads(metadata.get(LINEAGE, '[]'))
    except json.JSONDecodeError:
        return []
    return steps if isinstance(steps, list) else []


def derived(operation: str, bag: Known, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Run metadata of a bag that is made out of one: its own, and one more step."""
    step = {'operation': operation, 'from': [_named(bag)], **_how(arguments)}
    return {**bag.metadata, LINEAGE: json.dumps([*lineage(bag.metadata), step])}


def joined(operation: str, bags: Sequence[Known], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Run metadata of a bag that is made out of several.

    On what all agree stays as it is. What differs stands in the step, bag by bag, and nowhere
    else: no bag speaks for the others.
    """
    first = bags[0].metadata
    agreed = {
        key: value
        for key, value in first.items()
        if key != LINEAGE and all(bag.metadata.get(key) == value for bag in bags)
    }
    sources = []
    for bag in bags:
        own = {key: value for key, value in bag.metadata.items() if key not in agreed}
        sources.append({**_named(bag), 'metadata': own})
    step = {'operation': operation, 'from': sources, **_how(arguments)}
    return {**agreed, LINEAGE: json.dumps([step])}


def _named(bag: Known) -> dict[str, str]:
    return {'path': str(bag.path), 'sha256': bag.sha256}


def _how(arguments: Mapping[str, Any]) -> dict[str, Any]:
    # No time of day: the same work on the same bags gives the same octets.
    return {'arguments': dict(arguments), 'version': __version__}
