"""What a fault costs and what could be had: healthy, frozen and oracle rewards of one fault.

    python -m lebot_rl_ros.cli.adapt_oracle --fault slip --runs DIR [--steps N]

The oracle is the base, all its weights trained on that very fault by many simulated robots for
far longer than any run lasts. It is made once and kept, with its numbers, in the runs' folder.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lebot_rl_ros.cli.adapt_cells import FAULTS, JUDGE, judged_by
from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.cli.provenance import describe_training
from lebot_rl_ros.envs.adapting import NOISY
from lebot_rl_ros.envs.faulty_task import FaultyTask, Judged, judge
from lebot_rl_ros.learning.ppo import PPOConfig
from lebot_rl_ros.learning.train import TrainConfig, Trainer, share_cores
from lebot_rl_ros.policy.files import PolicyManifest, Tensors, load_policy, save_policy
from lebot_rl_ros.policy.folders import replace_file
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot, load_robot, share_path
from lebot_rl_ros.sim.randomisation import NOMINAL

LOSS = 0.2  # of the healthy reward that the frozen base must lose, or there is nothing to gain
GAIN = 0.5  # of what was lost that the oracle must get back, or nobody can
STEPS = 2_000_000  # of all robots together
ROBOTS, SHARDS = 256, 4
SEED = 0
GROWTH = 1.25  # between two iterations after which the oracle's training is judged
Row = dict[str, Any]


class Bench:
    """Robot, base and the held-out rollouts of one fault; '' is none."""

    def __init__(self, fault: str) -> None:
        """Load the base and build the robots that judge."""
        self.robot: Robot = load_robot()
        self.folder = share_path('policies', 'walk')
        tensors, manifest = load_policy(self.folder)
        self.tensors: Tensors = tensors
        self.manifest: PolicyManifest = manifest
        self.faults = FAULTS[fault] if fault else ()
        own = task_config(self.robot, manifest, self.folder)
        self.config = replace(own, randomisation=NOISY)
        self.learning = replace(own, randomisation=NOMINAL, episode=1e6)  # of one robot
        longest = replace(self.config, episode=1e6)
        self._task = FaultyTask(self.robot, int(JUDGE['robots']), self.faults, longest)

    def task(self, robots: int) -> FaultyTask:
        """Robots to learn from."""
        return FaultyTask(self.robot, robots, self.faults, self.config)

    def judge(self, act: Callable[[Any], Any]) -> Judged:
        """Held-out rollouts of a deterministic policy; the same for equal policies."""
        return judge(
            self._task, act, int(JUDGE['seed']), float(JUDGE['seconds']), float(JUDGE['settle'])
        )


def admit(healthy: float, frozen: float, oracle: float | None) -> str:
    """Why a fault is not admitted; '' if it is. Rewards a second."""
    lost = healthy - frozen
    if lost < LOSS * healthy:
        return f'no adaptation loses {lost / healthy:.0%}, less than {LOSS:.0%}'
    if oracle is not None and oracle - frozen < GAIN * lost:
        return f'the oracle gets back {(oracle - frozen) / lost:.0%}, less than {GAIN:.0%}'
    return ''


def file_of(folder: Path, fault: str) -> Path:
    """Where a fault's numbers lie."""
    return folder / 'faults' / f'{fault}.json'


def load_fault(folder: Path, fault: str, steps: int | None = None) -> Row | None:
    """A fault's numbers, if they were made with the settings of today; ``steps`` None: any."""
    path = file_of(folder, fault)
    if not path.exists():
        return None
    row: Row = json.loads(path.read_text())
    settings = judged_by(fault)
    trained = row['oracle'] and row['oracle']['steps']
    fits = row['settings'] == settings and (steps is None or trained in (None, steps))
    return row if fits else None


def measure(fault: str, folder: Path, steps: int, tell: Callable[[str], None]) -> Row:
    """Judge healthy and frozen; train the oracle where that makes sense; keep and return all."""
    bench = Bench(fault)
    base = PolicyRuntime(bench.tensors, bench.manifest).act_many
    healthy, frozen = Bench('').judge(base), bench.judge(base)
    oracle: Row | None = None
    why = admit(healthy.reward, frozen.reward, None)
    if not why:
        place = folder / 'oracles' / fault
        tensors, training = train(bench, place, steps, tell)
        judged = bench.judge(PolicyRuntime(tensors, bench.manifest).act_many)
        oracle = {
            **asdict(judged), 'steps': steps, 'seconds': training['seconds'],
            'curve': training.get('curve', []),  # an older oracle has none
        }  # fmt: skip
        why = admit(healthy.reward, frozen.reward, judged.reward)
    row: Row = {
        'fault': fault,
        'settings': judged_by(fault),
        'healthy': asdict(healthy), 'frozen': asdict(frozen), 'oracle': oracle,
        'admitted': not why, 'why': why,
    }  # fmt: skip
    path = file_of(folder, fault)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(row, indent=1) + '\n').encode())
    return row


def train(
    bench: Bench, place: Path, steps: int, tell: Callable[[str], None]
) -> tuple[Tensors, Row]:
    """The oracle's weights and how they were made; from its folder, if it was made before."""
    if (place / 'manifest.json').exists():
        tensors, manifest = load_policy(place)
        made = dict(manifest.training)
        if made['asked'] == steps and made['faults'] == list(bench.faults):
            return tensors, made
    share_cores()
    trainer = Trainer(
        [bench.task(ROBOTS // SHARDS) for _ in range(SHARDS)],
        TrainConfig(
            steps=steps, segment=20, seed=SEED, start_std=0.3, critic_warmup=5,
            activation=bench.manifest.network['activation'],
            ppo=PPOConfig(learning_rate=1e-3, desired_kl=None),
        ),
        bench.tensors,
    )  # fmt: skip
    started, curve, due = time.monotonic(), list[tuple[int, float]](), 1.0
    for _ in trainer.run():
        tell(f'{trainer.iteration / trainer.iterations:.3f}')
        if trainer.iteration >= due:  # the rollouts are the bench's own: the training sees nothing
            due = GROWTH * trainer.iteration
            runtime = PolicyRuntime(trainer.network.tensors(), bench.manifest)
            steps_now = trainer.iteration * trainer.samples
            curve.append((steps_now, bench.judge(runtime.act_many).reward))
    training = describe_training(trainer, time.monotonic() - started)
    training |= {'asked': steps, 'faults': list(bench.faults), 'curve': curve}
    tensors = trainer.network.tensors()
    save_policy(place, tensors, replace(bench.manifest, training=training, scores={}))
    return tensors, training


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fault', required=True, choices=list(FAULTS))
    parser.add_argument('--runs', required=True, type=Path)
    parser.add_argument('--steps', type=int, default=STEPS)
    args = parser.parse_args()

    def tell(words: str) -> None:
        sys.stdout.write(f'{words}\n')
        sys.stdout.flush()

    measure(args.fault, args.runs, args.steps, tell)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
