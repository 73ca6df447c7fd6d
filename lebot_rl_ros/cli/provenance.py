"""Where trained weights come from, for their manifests."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lebot_rl_ros.learning.train import Trainer


def describe_training(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Command, seed, revision and effort of a training, for a manifest."""
    return describe_run(trainer.config.seed, seconds) | {
        'steps': trainer.iteration * trainer.samples,
        'robots': trainer.robots,
    }


def describe_run(seed: int, seconds: float) -> dict[str, Any]:
    """Command, seed, revision and effort of anything that learns."""
    words = sys.argv[1:]
    return {
        'command': shlex.join(['lebot', *words]),
        'seed': seed,
        'revision': _revision(),
        'seconds': round(seconds, 1),
        'cores': os.cpu_count(),
        'torch': torch.__version__,
    }


def _revision() -> str:
    """Commit of the source tree, with a + when files differ from it; empty outside git."""
    here = Path(__file__).parent
    try:
        return subprocess.run(
            ['git', 'describe', '--always', '--abbrev=12', '--dirty=+', '--exclude=*'],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ''
