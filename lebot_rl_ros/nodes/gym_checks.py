"""What LeBotROS-v0 is given, checked before it reaches the robot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lebot_rl_ros.robot.state import FloatArray


def checked_action(action: Any, joint_names: Sequence[str], step: int) -> FloatArray:
    """The action as numbers (J,).

    Raises:
        ValueError: another shape, or not finite; the message names the joints.
    """
    found = np.asarray(action, dtype=float)
    if found.shape != (len(joint_names),):
        raise ValueError(
            f'LeBotROS-v0: the action has shape {found.shape}, expected '
            f'{(len(joint_names),)}, one number for each of {", ".join(joint_names)}'
        )
    if not np.isfinite(found).all():
        wrong = [name for name, x in zip(joint_names, found, strict=True) if not np.isfinite(x)]
        raise ValueError(
            f'LeBotROS-v0: the action is not finite for {", ".join(wrong)} in step {step}'
        )
    return found


def pinned_command(options: Mapping[str, Any] | None, *, drawn: bool) -> FloatArray | None:
    """The command (2,) of ``options``, or None if they have none.

    Args:
        options: of a reset.
        drawn: commands are the environment's to choose.

    Raises:
        ValueError: an unknown option, a command that is none, or one that is not ours to give.
    """
    options = options or {}
    if set(options) - {'command'} or (options and not drawn):
        raise ValueError(
            f"options are {dict(options)}; known is 'command', with commands='drawn' only"
        )
    if not options:
        return None
    command = np.asarray(options['command'], dtype=float)
    if command.shape != (2,) or not np.isfinite(command).all():
        raise ValueError(
            f"option 'command' is {options['command']!r}; expected (m/s, rad/s), two numbers"
        )
    return command
