"""The learner node with a session of the test's own in it: quick, and it counts what it gets."""

import errno
import hashlib
import os
import sys
import time
import types
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adapter_samples import random_adapter

TRIAL = 10  # steps until a version is accepted


@dataclass(frozen=True)
class Swap:
    label: str
    version: int
    adapter: Any
    reason: str


@dataclass(frozen=True)
class SessionConfig:
    name: str = 'recover'
    learner: str = 'td3'
    settings: Any = None
    trained: Any = None
    offer_every: int = 250
    gate: Any = None
    probation: Any = None


@dataclass
class Session:
    """Offers a version whose numbers are the hash of all that came; accepts it ten steps later."""

    base: Any
    manifest: Any
    config: SessionConfig
    store: Any
    seed: int
    start: Any = None
    first: Any = None
    events: deque = field(default_factory=deque)
    acting: str = ''
    accepted: str = ''
    count: int = 0
    digest: bytes = bytes(32)
    trial: int = 0
    calls: int = 0

    def __post_init__(self):
        if self.config.learner not in ('td3', 'ppo'):
            raise ValueError(f'learner is {self.config.learner!r}; choices are td3, ppo')
        self._steps, self._rewards = {}, {}

    def steps(self, rows):
        self._steps |= {(int(row['sec']), int(row['nanosec'])): row.tobytes() for row in rows}

    def rewards(self, rows):
        self._rewards |= {(int(row['sec']), int(row['nanosec'])): row.tobytes() for row in rows}

    def work(self):
        self.calls += 1
        time.sleep(self.config.settings.get('slow', 0.0) if self.config.settings else 0.0)
        for stamp in sorted(set(self._steps) & set(self._rewards)):
            content = self._steps.pop(stamp) + self._rewards.pop(stamp)
            self.digest = hashlib.sha256(self.digest + content).digest()
            self.count += 1
            self.now = stamp[0] + stamp[1] / 1e9
            if self.acting != self.accepted:
                self.trial += 1
        if self.acting != self.accepted and self.trial >= TRIAL:
            self.trial, self.accepted = 0, self.acting
            version = int(self.acting.partition('@')[2])
            self.store.judge(self.config.name, version, 'accepted', 'as good')
            self._tell(version, 'probation', 'accepted', 'as good')
        elif self.acting == self.accepted and self.count % self.config.offer_every == 0:
            seed = int.from_bytes(self.digest[:4], 'little')
            config, tensors, manifest = random_adapter(self.manifest, self.config.name, seed)
            made = self.store.add(self.config.name, config, tensors, manifest)
            self._tell(made.manifest.version, 'behaviour', 'probation', 'small')
            return Swap(made.manifest.label, made.manifest.version, made, 'offered')
        return None

    def swapped(self, swap, successful, reason):
        if successful:
            self.acting = swap.label
        else:
            self._tell(swap.version, 'behaviour', 'rejected', f'the policy refused: {reason}')

    def _tell(self, version, stage, verdict, reason):
        measures = {'kl': 0.5, 'odd': float('nan')}
        self.events.append({
            'time': self.now, 'version': version, 'stage': stage, 'verdict': verdict,
            'reason': reason, 'measures': measures,
        })  # fmt: skip

    def statistics(self):
        return {'rows': float(self.count), 'calls': float(self.calls), 'value_loss': 0.25}

    def state(self):
        return {'digest': np.frombuffer(self.digest, np.uint8)}

    @property
    def meta(self):
        return {'count': self.count, 'acting': self.acting, 'accepted': self.accepted,
                'trial': self.trial}  # fmt: skip

    def load_state(self, state, meta):
        self.digest = state['digest'].tobytes()
        self.count, self.acting = meta['count'], meta['acting']
        self.accepted, self.trial = meta['accepted'], meta['trial']


if __name__ == '__main__':
    module = types.ModuleType('lebot_rl_ros.learning.online.session')
    module.Session, module.SessionConfig, module.Swap = Session, SessionConfig, Swap
    sys.modules[module.__name__] = module
    from lebot_rl_ros.learning.online import checkpoint
    from lebot_rl_ros.nodes.learner import main

    write = checkpoint.replace_file

    def replace_file(path, content):
        """The disk is full while a file `full` lies beside the folder of the run."""
        if (path.parent.parent / 'full').exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    checkpoint.replace_file = replace_file

    main()
