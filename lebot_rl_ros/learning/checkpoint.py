"""Training on disk: one safetensors file with network, optimiser and history; no pickle."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lebot_rl_ros.learning.train import Trainer

SCHEMA = 1
FILE = 'checkpoint.safetensors'
ADAM = ('step', 'exp_avg', 'exp_avg_sq')


def save_checkpoint(trainer: Trainer, folder: Path) -> Path:
    """Write ``folder/checkpoint.safetensors``, all of it or nothing.

    Only between two segments, where the trainer's random draws start over: then nothing else is
    needed to go on to the same bits.

    Raises:
        ValueError: in the middle of a segment.
    """
    if trainer.iteration % trainer.config.segment:
        raise ValueError(
            f'iteration {trainer.iteration} is inside a segment of {trainer.config.segment}'
        )
    tensors = {name: value.contiguous() for name, value in trainer.network.state_dict().items()}
    if trainer.adapter is not None:
        tensors['flat'] = trainer.ppo.flat.detach().clone()  # tensors in a file share nothing
    state = trainer.ppo.optimiser.state[trainer.ppo.flat]
    tensors |= {f'adam.{name}': state[name] for name in ADAM if name in state}
    table = {
        'schema': SCHEMA,
        'config': _config(trainer),
        'iteration': trainer.iteration,
        'learning_rate': trainer.ppo.learning_rate,
        'history': trainer.history,
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary, path = folder / f'.{FILE}.{os.getpid()}', folder / FILE
    with temporary.open('wb') as file:
        file.write(save(tensors, metadata={'training': json.dumps(table)}))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return path


def load_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Put a freshly built trainer where the checkpoint was written.

    Raises:
        ValueError: no checkpoint, a damaged one, or one of another training; the message says
            what differs.
    """
    path = folder / FILE
    try:
        with safe_open(path, framework='pt') as file:
            table = json.loads((file.metadata() or {}).get('training', '{}'))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} is not a checkpoint that can be read: {error}') from error
    if table.get('schema') != SCHEMA:
        raise ValueError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    ours, theirs = _config(trainer), table['config']
    differ = [key for key in ours if key != 'steps' and ours[key] != theirs.get(key)]
    if differ:
        raise ValueError(
            f'{path} belongs to another training: '
            + ', '.join(f'{key} was {theirs.get(key)}, now {ours[key]}' for key in differ)
        )
    adam = {name: tensors.pop(f'adam.{name}') for name in ADAM if f'adam.{name}' in tensors}
    if trainer.adapter is not None:
        trainer.ppo.flat.data.copy_(tensors.pop('flat'))
    trainer.network.load_state_dict(tensors)  # copies in place, which is into views of the vector
    if adam:
        trainer.ppo.optimiser.state[trainer.ppo.flat] = adam
    trainer.ppo.set_rate(float(table['learning_rate']))
    trainer.iteration = int(table['iteration'])
    trainer.history[:] = table['history']


def _config(trainer: Trainer) -> dict[str, object]:
    """What decides the course of a training, as JSON gives it back."""
    table = {**asdict(trainer.config), 'robots': [task.robots for task in trainer.tasks]}
    table['base'] = trainer.origin
    table['torch'] = torch.__version__.split('+')[0]
    restored: dict[str, object] = json.loads(json.dumps(table))
    return restored
