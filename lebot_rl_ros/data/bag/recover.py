"""A bag that was not closed (power cut, kill -9, full disk), mended."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.data.bag.definitions import needs_record
from lebot_rl_ros.data.bag.metadata import (
    NAME,
    RUN,
    BagMetadata,
    FileInformation,
    load_qos,
    read_metadata,
    sync_folder,
    write_metadata,
)
from lebot_rl_ros.data.bag.recover_files import (
    DAMAGED,
    WORKING,
    check_room,
    clear,
    files_of,
    link_aside,
    locked,
    set_aside,
)
from lebot_rl_ros.data.bag.types import BagError, Topic

__all__ = ['DAMAGED', 'Recovered', 'recover']

if TYPE_CHECKING:
    from lebot_rl_ros.data.bag.mcap_index import Index


@dataclass(frozen=True)
class Recovered:
    """What there is now."""

    path: Path
    counts: Mapping[str, int]  # messages by topic
    lost_octets: int  # of content that nobody can read
    message: str  # for people
    healthy: bool  # whether it was whole before, and is as it was


def recover(path: str | Path, out: str | Path | None = None, *, keep: bool = True) -> Recovered:
    """Give a bag, a folder or one .mcap, the end that it lacks.

    Each torn file is written anew beside the old one, then takes its name, and the old one stays
    as `NAME.damaged`; a kill in the middle of this loses nothing, and the next call goes on.
    A file that is whole is not touched.

    Args:
        path: The bag.
        out: Where the mended bag goes instead; the old one then stays as it is.
        keep: False: cut off the torn end in place. This needs no room, and keeps no old file.

    Raises:
        BagError: There is no bag, it is being written, or there is no room.
    """
    path = Path(path)
    files = files_of(path)
    target = Path(out) if out is not None else None
    if target is not None and target.exists():
        raise BagError(f'{target} exists; recover needs a new name')
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(locked(file))
        if path.is_file():
            return _single(path, target, keep)
        return _folder(path, files, target, keep)


def _single(path: Path, target: Path | None, keep: bool) -> Recovered:
    index, lost = _mend(path, target, keep)
    if index is None:
        raise BagError(f'{path} holds nothing that could be recovered')
    counts = _counts([index])
    return _recovered(target or path, path, counts, lost, healthy=lost is None)


def _folder(path: Path, files: Sequence[Path], target: Path | None, keep: bool) -> Recovered:
    if target:
        target.mkdir(parents=True)
    kept: list[tuple[str, Index]] = []
    losses: list[int | None] = []
    for file in files:
        index, lost = _mend(file, target / file.name if target else None, keep)
        losses.append(lost)
        if index is not None:
            kept.append((file.name, index))
    if not kept:
        raise BagError(f'{path} holds nothing that could be recovered')
    old = _old_metadata(path)
    new = _metadata(kept, old)
    lost = None if all(loss is None for loss in losses) else sum(loss or 0 for loss in losses)
    healthy = lost is None and old is not None and _same(old, new)
    if target:
        write_metadata(target, new)
    elif not healthy:
        if keep and (path / NAME).exists():
            set_aside(path / NAME)
        write_metadata(path, new)
    if not target:
        clear(path)
    counts = _counts([index for _, index in kept])
    return _recovered(target or path, path, counts, lost, healthy=healthy)


def _mend(path: Path, target: Path | None, keep: bool) -> tuple['Index | None', int | None]:
    """One file: its index and what was lost; no index: it holds nothing; no loss: it is whole."""
    try:
        from lebot_rl_ros.data.bag.finishing import finish
        from lebot_rl_ros.data.bag.mcap_index import read_index
        from lebot_rl_ros.data.bag.mending import scan
    except ImportError as error:
        raise needs_record(error) from error
    index = read_index(path)
    if index is not None:
        if target:
            check_room(target.parent, path)
            shutil.copyfile(path, target)
        return index, None
    found = scan(path)
    if not found.spans:
        if not target:
            set_aside(path) if keep else path.unlink()
        return None, found.lost
    if target:
        check_room(target.parent, path)
        finish(path, found, target)
    elif not keep and found.in_place:
        finish(path, found)
    else:
        check_room(path.parent, path)
        working = path.with_name(path.name + WORKING)
        finish(path, found, working)
        if keep:
            link_aside(path)
        os.replace(working, path)
        sync_folder(path.parent)
    return found.index, found.lost


def _old_metadata(path: Path) -> BagMetadata | None:
    try:
        return read_metadata(path)
    except BagError:
        return None


def _metadata(kept: Sequence[tuple[str, 'Index']], old: BagMetadata | None) -> BagMetadata:
    """metadata.yaml from what the files say themselves."""
    topics: dict[str, Topic] = {}
    counts = _counts([index for _, index in kept])
    custom = dict(old.custom_data) if old else {}
    for _, index in kept:
        for channel in index.channels.values():
            schema = index.schemas.get(channel.schema_id)
            topics.setdefault(
                channel.topic,
                Topic(
                    channel.topic,
                    schema.name if schema else '',
                    load_qos(channel.metadata.get('offered_qos_profiles')),
                    channel.metadata.get('topic_type_hash', ''),
                ),
            )
        custom.update(index.metadatas.get(RUN, {}))
    files = [
        FileInformation(name, index.count, index.start, index.stop)
        if index.count
        else FileInformation(name)
        for name, index in kept
    ]
    return BagMetadata([(topics[name], counts[name]) for name in topics], files, custom)


def _counts(indexes: Sequence['Index']) -> Counter[str]:
    counts: Counter[str] = Counter()
    for index in indexes:
        for channel in index.channels.values():
            counts[channel.topic] += index.counts.get(channel.id, 0)
    return counts


def _same(old: BagMetadata, new: BagMetadata) -> bool:
    """Whether a metadata.yaml says what the files say."""
    return [(file.path, file.count) for file in old.files] == [
        (file.path, file.count) for file in new.files
    ] and {topic.name: count for topic, count in old.topics} == {
        topic.name: count for topic, count in new.topics
    }


def _recovered(
    path: Path, source: Path, counts: Mapping[str, int], lost: int | None, *, healthy: bool
) -> Recovered:
    total = f'{sum(counts.values())} messages of {len(counts)} topics'
    if healthy:
        message = f'{source} is whole: {total}; nothing was changed'
        if path != source:
            message = f'{source} is whole: {total}; {path} is a copy'
    elif lost is None:
        message = f'{path}: every file was whole, {total}; {NAME} is made anew'
    else:
        torn = f'{lost} octets at a torn place are' if lost else 'nothing that was written is'
        message = f'{path} is mended: {total}; {torn} lost'
    return Recovered(path, dict(counts), lost or 0, message, healthy)
