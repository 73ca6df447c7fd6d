"""A method's training on disk, between two segments: one safetensors file, no pickle."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lebot_rl_ros.learning.method import State
from lebot_rl_ros.learning.runner import Callback, Runner
from lebot_rl_ros.policy.folders import replace_file

SCHEMA = 1
FILE = 'checkpoint.safetensors'


class Checkpoint(Callback):
    """Writes ``folder/checkpoint.safetensors`` after every segment, all of it or nothing."""

    def __init__(self, folder: Path, **identity: Any) -> None:
        """Prepare; ``identity`` is what else a training must share with a checkpoint, as JSON."""
        self.folder, self.identity = folder, identity

    def begin(self, run: Runner) -> None:
        """Refuse a run without segments, which could not be resumed."""
        if not run.segment:
            raise ValueError('checkpoints are written between segments; the runner has none')

    def at_segment(self, run: Runner) -> None:
        """Write."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {f'method.{name}': array for name, array in run.method.state().items()}
        data = {}
        for name, callback in _named(run.callbacks).items():
            data[name], more = callback.state()
            arrays |= {f'callback.{name}.{key}': array for key, array in more.items()}
        table = {
            'schema': SCHEMA,
            'identity': self._identity(run),
            'steps': run.steps,
            'segments': run.segments,
            'seconds': run.seconds,
            'episodes': run.episodes,
            'recent': list(run.recent),
            'history': run.history,
            'callbacks': data,
        }
        content = save(
            {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()},
            metadata={'run': json.dumps(table)},
        )
        replace_file(self.folder / FILE, content)

    def remove(self) -> None:
        """Remove what an earlier training left in the folder."""
        (self.folder / FILE).unlink(missing_ok=True)

    def resume(self, run: Runner) -> None:
        """Put a freshly built run where the checkpoint was written.

        Raises:
            ValueError: no checkpoint, a damaged one, or one of another training; the message
                says what differs.
        """
        path = self.folder / FILE
        table, arrays = _read(path)
        ours, theirs = self._identity(run), table['identity']
        differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        if differ:
            raise ValueError(
                f'{path} belongs to another training: '
                + ', '.join(f'{key} was {theirs.get(key)}, now {ours.get(key)}' for key in differ)
            )
        run.method.load_state(_under(arrays, 'method.'))
        for name, callback in _named(run.callbacks).items():
            if name in table['callbacks']:
                callback.load_state(table['callbacks'][name], _under(arrays, f'callback.{name}.'))
        run.steps, run.segments = int(table['steps']), int(table['segments'])
        run.seconds, run.episodes = float(table['seconds']), int(table['episodes'])
        run.recent.extend((value, length) for value, length in table['recent'])
        run.history[:] = table['history']

    def _identity(self, run: Runner) -> dict[str, Any]:
        """What decides the course of a training, as JSON gives it back; steps may be extended."""
        table = {
            'method': run.method.name,
            'config': asdict(run.method.config),
            'seed': run.method.seed,
            'env': run.world.name,
            'envs': run.world.count,
            'segment': run.segment,
            'torch': torch.__version__.split('+')[0],
            **self.identity,
        }
        restored: dict[str, Any] = json.loads(json.dumps(table))
        return restored


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """By class; there is one of each."""
    return {type(callback).__name__: callback for callback in callbacks}


def _read(path: Path) -> tuple[dict[str, Any], State]:
    try:
        with safe_open(path, framework='np') as file:
            table = json.loads((file.metadata() or {}).get('run', '{}'))
            arrays: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is not a checkpoint that can be read: {error}') from error
    if table.get('schema') != SCHEMA:
        raise ValueError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    return table, arrays


def _under(arrays: State, start: str) -> State:
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}


def stored_segment(folder: Path) -> int:
    """Steps of a segment of the training in a folder, which going on must keep.

    Raises:
        ValueError: there is no checkpoint that can be read.
    """
    table, _ = _read(folder / FILE)
    return int(table['identity']['segment'])
