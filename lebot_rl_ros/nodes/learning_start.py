"""How the learner node's run begins: from its parameters, one folder, and what was accepted."""

import fcntl
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.node import Node

from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.control.walker import policy_path
from lebot_rl_ros.learning.online.checkpoint import Checkpoint
from lebot_rl_ros.learning.online.gate import GateConfig
from lebot_rl_ros.learning.online.probation_config import ProbationConfig
from lebot_rl_ros.learning.online.session import Session
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.tensorboard import Scalars
from lebot_rl_ros.learning.online.trained import TrainedConfig
from lebot_rl_ros.nodes.learning_run import LearningRun
from lebot_rl_ros.policy.adapters import Adapter
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.parameters import declare

if TYPE_CHECKING:
    from lebot_rl_ros.data.bag.transitions import Recorded

# What a checkpoint must share with a run to be gone on from.
IDENTITY = ('robot', 'policy', 'adapter', 'learner', 'settings', 'what', 'rank', 'seed', 'bags')


def make_run(node: Node, config: Any) -> LearningRun:
    """Build the run that the node's parameters ask for.

    Args:
        node: declares what the gate and the probation may be told.
        config: ``nodes.learner.LearnerParameters``.

    Raises:
        ValueError: a parameter that cannot be, or a base that is not this robot's.
        OSError: the folder cannot be made.
    """
    folder = Path(config.folder) if config.folder else user_folder(config.adapter)
    lock = hold_folder(folder)
    robot = load_robot(config.robot)
    tensors, manifest = load_policy(policy_path(config.policy))
    manifest.check(robot=robot.name, joint_names=robot.joint_names)
    store = default_store(config.adapter_store)
    about = SessionConfig(
        name=config.adapter,
        learner=config.learner,
        settings=parse_settings(config.settings),
        trained=TrainedConfig(kind=config.what, r=config.rank),
        offer_every=config.offer_every,
        gate=declare(node, GateConfig, 'gate.'),
        probation=declare(node, ProbationConfig, 'probation.'),
    )
    start = None if config.fresh else newest_accepted(store, config.adapter)
    first = None if config.fresh else newest_untried(store, config.adapter)
    for one in (start, first):
        if one is not None:
            one.check(manifest)

    def make() -> Session:
        try:
            return Session(tensors, manifest, about, store, config.seed, start, first)
        except ValueError as error:
            one = first or start
            begins = f' (it begins from {one.manifest.label})' if one else ''
            raise ValueError(f'{error}{begins}') from error

    def begin(session: Session) -> str:
        words = f', first with {first.manifest.label} on trial' if first else ''
        bags = shlex.split(config.bags)
        if bags:
            kept = sum(session.replay(one.rows) for one in read_bags(bags))
            words += f', with {kept} recorded steps'
        return words

    identity = {key: getattr(config, key) for key in IDENTITY}
    identity['base_sha256'] = manifest.sha256
    if not config.resume:
        identity['run'] = config.run
    return LearningRun(
        make,
        identity,
        Checkpoint(folder, config.checkpoint_every),
        Scalars(folder / 'tensorboard') if config.tensorboard else None,
        lock,
        begin,
    )


def hold_folder(folder: Path) -> int:
    """Have a folder for this process alone, until it ends, however it ends; returns the lock.

    Raises:
        ValueError: another learner has it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ValueError(
            f'folder {folder} is in use by another learner; give each its own (learn_folder)'
        ) from error
    return lock


def newest_accepted(store: AdapterStore, name: str) -> Adapter | None:
    """The version that a run begins with; None where none was ever accepted.

    Raises:
        AdapterError: it is damaged.
    """
    for version in reversed(store.versions(name)):
        if store.manifest(name, version).verdict == 'accepted':
            return store.get(name, version)
    return None


def newest_untried(store: AdapterStore, name: str) -> Adapter | None:
    """The version, newer than any that was accepted, that was trained offline and never acted.

    Raises:
        AdapterError: it is damaged.
    """
    for version in reversed(store.versions(name)):
        manifest = store.manifest(name, version)
        if manifest.verdict == 'accepted':
            return None
        offline = str(manifest.training.get('method', '')).startswith('offline')
        if manifest.verdict == 'candidate' and offline:
            return store.get(name, version)
    return None


def read_bags(paths: list[str]) -> 'list[Recorded]':
    """Recorded steps of bags.

    Raises:
        BagError: a bag cannot be read, or has no steps, or they mix bases.
    """
    from lebot_rl_ros.data.bag.transitions import read_transitions  # late: the extra record

    return read_transitions(paths)


def parse_settings(text: str) -> dict[str, Any]:
    """Read ``NAME=VALUE``, separated by spaces; values are numbers, true, false or text.

    Raises:
        ValueError: a word without ``=``; the message has it.
    """
    found: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition('=')
        if not (name and equals and value):
            raise ValueError(f'settings has {word!r}, expected NAME=VALUE')
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    if text in ('true', 'false'):
        return text == 'true'
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def user_folder(adapter: str) -> Path:
    """Where a run lies whose folder was not named: by the adapter, in this user's state."""
    state = os.environ.get('XDG_STATE_HOME')
    home = Path(state) if state else Path.home() / '.local' / 'state'
    return home / 'lebot' / 'learner' / adapter
