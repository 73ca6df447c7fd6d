"""metadata.yaml of rosbag2, version 9 (Jazzy's): what lies in a bag, in words that it reads."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lebot_rl_ros.data.bag.types import BagError, Topic

NAME = 'metadata.yaml'
RUN = 'lebot_rl_ros'  # the MCAP metadata record with what is known of the run
VERSION = 9
_TOP = 'rosbag2_bagfile_information'
_NEVER = 2**63 - 1  # rosbag2's start of a bag without messages
_INFINITE = {'sec': 9223372036, 'nsec': 854775807}
# rmw's numbers, which stood in bags before version 9.
_POLICIES = {
    'history': ('system_default', 'keep_last', 'keep_all', 'unknown'),
    'reliability': ('system_default', 'reliable', 'best_effort', 'unknown', 'best_available'),
    'durability': ('system_default', 'transient_local', 'volatile', 'unknown', 'best_available'),
    'liveliness': (
        'system_default', 'automatic', 'manual_by_node', 'manual_by_topic', 'unknown',
        'best_available',
    ),
}  # fmt: skip


@dataclass
class FileInformation:
    """One file of a bag; times are log times in ns, of messages in whatever order."""

    path: str  # relative to the bag
    count: int = 0
    start: int = _NEVER
    end: int = 0

    def take(self, log_time: int) -> None:
        """Count one message."""
        self.count += 1
        self.start = min(self.start, log_time)
        self.end = max(self.end, log_time)


@dataclass
class BagMetadata:
    """All that metadata.yaml says: topics in the order of their adding, each with its count."""

    topics: list[tuple[Topic, int]] = field(default_factory=list)
    files: list[FileInformation] = field(default_factory=list)
    custom_data: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    @property
    def count(self) -> int:
        """Messages in all files."""
        return sum(file.count for file in self.files)

    @property
    def start(self) -> int:
        """Log time of the first message in ns; 2**63 - 1 where there is none."""
        return min((file.start for file in self.files if file.count), default=_NEVER)

    @property
    def duration(self) -> int:
        """From the first to the last message, ns."""
        ends = [file.end for file in self.files if file.count]
        return max(ends) - self.start if ends else 0


def profile(qos: Mapping[str, Any]) -> dict[str, Any]:
    """A QoS profile with all of rosbag2's keys in its order; what is missing gets the default."""
    whole: dict[str, Any] = {
        'history': 'unknown',
        'depth': 0,
        'reliability': 'reliable',
        'durability': 'volatile',
        'deadline': dict(_INFINITE),
        'lifespan': dict(_INFINITE),
        'liveliness': 'automatic',
        'liveliness_lease_duration': dict(_INFINITE),
        'avoid_ros_namespace_conventions': False,
    }
    for key in whole:
        if key in qos:
            value = qos[key]
            names = _POLICIES.get(key)
            if names and isinstance(value, int):
                value = names[value] if 0 <= value < len(names) else 'unknown'
            whole[key] = dict(value) if isinstance(value, Mapping) else value
    return whole


def dump_qos(profiles: Sequence[Mapping[str, Any]]) -> str:
    """Profiles as the YAML text that rosbag2 keeps with a channel."""
    return _dump([profile(qos) for qos in profiles]).rstrip('\n')


def load_qos(text: str | Sequence[Mapping[str, Any]] | None) -> tuple[dict[str, Any], ...]:
    """Profiles from a channel's text, or from metadata.yaml, of any version."""
    profiles = yaml.safe_load(text) if isinstance(text, str) else text
    return tuple(profile(qos) for qos in profiles or ())


def dump_information(metadata: BagMetadata) -> str:
    """What stands below `rosbag2_bagfile_information`, as rosbag2 keeps it inside a file too."""
    return _dump(_information(metadata)).rstrip('\n')


def write_metadata(folder: Path, metadata: BagMetadata) -> None:
    """Write metadata.yaml so that a crash leaves the old one or the new one, never half of one."""
    temporary = folder / f'.{NAME}.writing'
    with temporary.open('w', encoding='utf-8') as file:
        file.write(_dump({_TOP: _information(metadata)}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / NAME)
    sync_folder(folder)


def read_metadata(folder: Path) -> BagMetadata:
    """Read a metadata.yaml of version 4 or later.

    Raises:
        BagError: There is none, or it is no metadata of rosbag2's.
    """
    path = folder / NAME
    try:
        with path.open(encoding='utf-8') as file:
            bag = yaml.safe_load(file)[_TOP]
        version = int(bag['version'])
        paths = [Path(name).name for name in bag['relative_file_paths']]
        topics = [_read_topic(entry) for entry in bag['topics_with_message_count']]
        entries = bag.get('files') or _only_file(bag, paths)
        files = [_read_file(entry) for entry in entries]
        custom = {str(key): str(value) for key, value in (bag.get('custom_data') or {}).items()}
    except FileNotFoundError as error:
        raise BagError(
            f'{folder}: there is no {NAME}; `lebot bag recover {folder}` makes one'
        ) from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BagError(f'{path} cannot be read: {error}') from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BagError(f'{path} is no metadata of rosbag2: {error!r}') from error
    return BagMetadata(topics, files, custom, version)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _information(metadata: BagMetadata) -> dict[str, Any]:
    return {
        'version': VERSION,
        'storage_identifier': 'mcap',
        'duration': {'nanoseconds': metadata.duration},
        'starting_time': {'nanoseconds_since_epoch': metadata.start},
        'message_count': metadata.count,
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': topic.name,
                    'type': topic.type,
                    'serialization_format': 'cdr',
                    'offered_qos_profiles': [profile(qos) for qos in topic.qos],
                    'type_description_hash': topic.hash,
                },
                'message_count': count,
            }
            for topic, count in metadata.topics
        ],
        'compression_format': '',  # chunks are compressed inside MCAP, which rosbag2 does not name
        'compression_mode': '',
        'relative_file_paths': [file.path for file in metadata.files],
        'files': [
            {
                'path': file.path,
                'starting_time': {'nanoseconds_since_epoch': file.start},
                'duration': {'nanoseconds': file.end - file.start if file.count else 0},
                'message_count': file.count,
            }
            for file in metadata.files
        ],
        'custom_data': dict(metadata.custom_data) or None,
        'ros_distro': 'jazzy',
    }


def _read_topic(entry: Any) -> tuple[Topic, int]:
    topic = entry['topic_metadata']
    profiles = load_qos(topic.get('offered_qos_profiles'))
    digest = str(topic.get('type_description_hash') or '')
    return Topic(topic['name'], topic['type'], profiles, digest), int(entry['message_count'])


def _read_file(entry: Any) -> FileInformation:
    start = int(entry['starting_time']['nanoseconds_since_epoch'])
    duration = int(entry['duration']['nanoseconds'])
    return FileInformation(
        Path(entry['path']).name, int(entry['message_count']), start, start + duration
    )


def _only_file(bag: Any, paths: list[str]) -> list[dict[str, Any]]:
    """Before version 5 the times of single files are not said; those of the bag hold."""
    keys = ('starting_time', 'duration', 'message_count')
    return [{'path': path, **{key: bag[key] for key in keys}} for path in paths[:1]]


class _Dumper(yaml.SafeDumper):
    """Block style without anchors: equal profiles are written out each time, as rosbag2 does."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(data: Any) -> str:
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=2**20,  # no folds inside of values
    )
    return text
