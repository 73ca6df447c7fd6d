"""What the recorder of a walk has left behind, for the walk's report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lebot_rl_ros.data.bag.metadata import read_metadata
from lebot_rl_ros.data.bag.types import BagError

MB = 1_000_000


def bags_at(folder: Path) -> list[Path]:
    """Bags of a recorder that was given this folder: it, its numbered ones, those of a ring."""
    named = [folder, *sorted(folder.parent.glob(f'{folder.name}_*'))]
    below = [path for one in named for path in sorted(one.glob('*'))]
    return [path for path in (*named, *below) if path.is_dir() and any(path.glob('*.mcap'))]


def describe_bags(folders: list[Path], words: Mapping[str, str]) -> list[dict[str, Any]]:
    """Data of each bag: path, messages, topics, octets, trouble.

    Args:
        folders: the bags.
        words: the recorder's last words of itself, on /diagnostics.
    """
    found = []
    for path in folders:
        bag: dict[str, Any] = {
            'path': str(path),
            'messages': 0,
            'topics': 0,
            'octets': sum(file.stat().st_size for file in path.glob('*.mcap')),
            'trouble': '',
        }
        try:
            metadata = read_metadata(path)
            bag['messages'] = metadata.count
            bag['topics'] = sum(count > 0 for _, count in metadata.topics)
        except BagError as error:
            bag['trouble'] = str(error)
        if str(path) == words.get('folder') and words.get('dropped', '0') != '0':
            bag['trouble'] = bag['trouble'] or f'{words["dropped"]} messages were dropped'
        found.append(bag)
    return found


def told(bags: list[dict[str, Any]], word: str) -> list[str]:
    """Lines for people: where the bags are, what is in them, what to do next.

    Args:
        bags: as :func:`describe_bags` gives them.
        word: the recorder's last, which says why there is none.
    """
    lines = []
    for bag in bags:
        size = f'{bag["messages"]} messages of {bag["topics"]} topics, {bag["octets"] / MB:.1f} MB'
        lines.append(f'bag {_short(bag["path"])}: {bag["trouble"] or size}')
    advice = f'next: lebot bag info {_short(bags[0]["path"])}' if bags else f'no bag: {word}'
    return [*lines, advice]


def _short(path: str) -> str:
    """A path from here, if it lies below."""
    whole = Path(path)
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
