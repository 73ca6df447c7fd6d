"""Where a recorder's bags lie, and what is in one, in words."""

import os
from datetime import datetime, timezone
from pathlib import Path

from lebot_rl_ros.data.bag.recording_options import RecordingStatus

MB = 1_000_000


def summary(status: RecordingStatus) -> str:
    """Where a bag is and what is in it."""
    files = f'{status.files} files' if status.files > 1 else '1 file'
    dropped = sum(status.dropped.values())
    return (
        f'{status.folder}: {status.written} messages in {files}, {status.octets / MB:.1f} MB'
        + (f', {dropped} dropped' if dropped else '')
    )


def user_folder() -> Path:
    """A new bag of this user: by the time, in ``lebot/bags`` of the user's data."""
    data = os.environ.get('XDG_DATA_HOME')
    home = Path(data) if data else Path.home() / '.local' / 'share'
    now = datetime.now(timezone.utc).astimezone()
    return home / 'lebot' / 'bags' / f'bag-{now:%Y%m%d-%H%M%S}'
