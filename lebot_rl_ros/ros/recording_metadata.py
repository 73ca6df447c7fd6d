"""What a bag says about its run: code, robot, policy, adapter, parameters, arguments."""

import json
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lebot_rl_ros import __version__
from lebot_rl_ros.robot import share_path


class RunMetadata:
    """The mapping that is written into a bag; some of it becomes known while the robot walks."""

    def __init__(self, robot: str, policy: str, arguments: str) -> None:
        """Begin with what is known at once.

        Args:
            robot: name in config/robots, or path of a joint table.
            policy: its name.
            arguments: of the launch, as JSON; '' where there were none.

        Raises:
            OSError: there is no such robot.
        """
        self._fixed = {
            'version': __version__,
            'git_revision': git_revision(),
            'robot': robot_table(robot).read_text(),
            'policy': policy,
            'arguments': arguments,
        }
        self._policy_sha256, self._adapter = '', ''
        self._told = False
        self.parameters: Mapping[str, Mapping[str, Any]] = {}

    def active_adapter(self, text: str) -> None:
        """Take the first word of `policy/active_adapter`, JSON."""
        if not self._told:
            word, self._told = json.loads(text), True
            digest = str(word.get('base_sha256') or '')
            self._policy_sha256 = digest if digest.strip('0') else ''  # of trot there is none
            self._adapter = str(word.get('label') or '')

    def now(self) -> dict[str, str]:
        """All that is known, for a bag that begins now."""
        return self._fixed | {
            'started': datetime.now(timezone.utc).isoformat(timespec='milliseconds'),
            **self.known(),
        }

    def known(self) -> dict[str, str]:
        """What became known since the start."""
        return {
            'policy_sha256': self._policy_sha256,
            'adapter': self._adapter,
            'parameters': json.dumps(self.parameters, default=str),
        }


def robot_table(name: str) -> Path:
    """File of a robot's joint table.

    Raises:
        OSError: there is none of this name.
    """
    path = Path(name)
    return (
        path
        if path.suffix in ('.yaml', '.yml')
        else share_path('config', 'robots', f'{name}.yaml')
    )


def git_revision() -> str:
    """Commit of the source tree, with a + when files differ from it; empty outside git."""
    try:
        return subprocess.run(
            ['git', 'describe', '--always', '--abbrev=12', '--dirty=+', '--exclude=*'],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ''
