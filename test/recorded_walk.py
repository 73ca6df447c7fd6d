"""One real walk, recorded in lockstep by real processes; the tests of a process share it."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from ros_graph import lebot

SECONDS = 4


@functools.cache
def recorded_walk() -> Path:
    """The bag of a walk of the shipped policy; nobody changes it."""
    folder = Path(tempfile.mkdtemp(prefix='lebot-recorded-walk-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = ('--lockstep', '--real-time-factor', '0', '--duration', str(SECONDS), '--quiet')
    done = lebot('walk', '--record', *words, '--cmd', '0.25', '0.1', '--out', str(folder))
    bag = folder / 'bag'
    if not (bag / 'metadata.yaml').is_file():
        raise AssertionError(f'no bag was recorded: {done.stdout}{done.stderr}')
    return bag
