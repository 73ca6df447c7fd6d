"""Where the updates of `lebot benchmark gate` are made: moments of honest runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lebot_rl_ros.cli.gate_walks import Place, Rows, Walk, in_order
from lebot_rl_ros.learning.online import evidence
from lebot_rl_ros.learning.online.behaviour import FloatArray
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, LoraConfig
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.robot import Robot

NAME = 'recover'  # of the adapter that is made
ROBOTS, STEPS = 16, 256  # whose steps one update learns from: 82 s of one robot
MINIBATCH = 512  # steps in a gradient step
GRADIENT_STEPS = 24
CLIP = 0.2
PLAIN_RATE = 1e-3  # of the plain gradient


@dataclass(frozen=True)
class Situation:
    """A moment of a run: what is accepted, and what was seen of late."""

    place: Place
    accepted: Adapter | None
    rows: Rows  # (N,), in the order of time, robot after robot
    history: tuple[Adapter, ...]  # all that were accepted before, oldest first
    seed: int

    @property
    def depth(self) -> int:
        """How many versions were accepted before."""
        return len(self.history)


@dataclass(frozen=True)
class Workshop:
    """What updates are made with."""

    robot: Robot
    base: Tensors
    manifest: PolicyManifest
    trained: TrainedConfig = TrainedConfig()

    def walk(self, place: Place, robots: int, seed: int) -> Walk:
        """Robots at a place."""
        return Walk(self.robot, self.base, self.manifest, place, robots, seed)

    def adapter(
        self, config: LoraConfig, tensors: Tensors, accepted: Adapter | None, **changes: object
    ) -> Adapter:
        """A version made from the accepted one."""
        last = accepted.manifest.version if accepted else 0
        manifest = AdapterManifest(
            NAME, last + 1, self.manifest.sha256, self.manifest.robot, self.manifest.joint_names,
            parent=accepted.manifest.label if accepted else '',
        )  # fmt: skip
        return Adapter(config, tensors, replace(manifest, **changes))  # type: ignore[arg-type]

    def learn(
        self, situation: Situation, seed: int, *, rate: float = 1e-3, sign: float = 1.0,
        rewards: FloatArray | None = None, plain: bool = False,
    ) -> Adapter:  # fmt: skip
        """A few steps of the clipped policy gradient (arXiv 1707.06347) from the accepted one.

        Args:
            situation: whose rows it learns from.
            seed: of the choice of rows.
            rate: of Adam.
            sign: -1 climbs down.
            rewards: (N,) in place of those of the rows.
            plain: advantages as they are, and the plain gradient, not shortened; in the reward's
                own units its steps are as small as the others'.
        """
        rows = situation.rows
        advantages = self.advantages(rows if rewards is None else _rewarded(rows, rewards))
        centred = advantages if plain else advantages - advantages.mean()
        centred = centred / (1.0 if plain else advantages.std() + 1e-8)
        trained = Trained(self.base, self.manifest, self.trained)
        if situation.accepted is not None:
            trained.load(situation.accepted.tensors)
        x, action, mean, std, gain = (
            torch.from_numpy(np.ascontiguousarray(value, np.float32))
            for value in (
                rows['observation'], rows['action'], rows['mean'], rows['std'], sign * centred
            )
        )  # fmt: skip
        x = trained.normalised(x)
        optimiser: torch.optim.Optimizer = torch.optim.Adam(trained.parameters(), lr=rate)
        if plain:
            optimiser = torch.optim.SGD(trained.parameters(), lr=PLAIN_RATE)
        rng = np.random.default_rng(seed)
        for _ in range(GRADIENT_STEPS):
            index = torch.from_numpy(rng.choice(len(rows), min(MINIBATCH, len(rows)), False))
            now, then = ((action[index] - m) / std[index] for m in (
                trained.mean_of(x[index]), mean[index]
            ))  # fmt: skip
            ratio = (0.5 * (then.square() - now.square()).sum(1)).exp()
            clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP)
            loss = -torch.minimum(ratio * gain[index], clipped * gain[index]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if not plain:
                torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimiser.step()
        return self.adapter(*trained.export(), situation.accepted)

    def advantages(self, rows: Rows) -> FloatArray:
        """What each step earned beyond what the base's critic expected, (N,)."""
        return evidence.advantages(
            rows, self.base, str(self.manifest.network['activation']), discount=0.98, trace=0.9
        )


def look(workshop: Workshop, place: Place, history: tuple[Adapter, ...], seed: int) -> Situation:
    """Let the last accepted version of a run walk, and take down what is seen."""
    accepted = history[-1] if history else None
    rows = in_order(workshop.walk(place, ROBOTS, seed).go(accepted, STEPS))
    return Situation(place, accepted, rows, history, seed)


def situations(
    workshop: Workshop, places: Sequence[Place], depth: int, seed: int
) -> Iterator[Situation]:
    """Honest runs of ``depth`` accepted versions at each place; a situation before each."""
    for number, place in enumerate(places):
        history: tuple[Adapter, ...] = ()
        own = seed * 1000 + number * 50
        for level in range(depth):
            situation = look(workshop, place, history, own + level)
            yield situation
            history += (workshop.learn(situation, own + level, rate=2e-3),)


def _rewarded(rows: Rows, rewards: FloatArray) -> Rows:
    changed = rows.copy()
    changed['reward'] = rewards
    return changed
