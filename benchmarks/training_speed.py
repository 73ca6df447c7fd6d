"""End-to-end training speed beside stable-baselines3's PPO: same task, networks, batch and epochs.

Three trainings take turns in one process, so that a busy machine is busy for all of them:

* ours: ``learning.train`` as ``lebot train base`` runs it;
* SB3 on eight plain ``LeBotVelocity-v0`` in a ``DummyVecEnv``, as its users run it;
* SB3 on our vector environment with as many robots as ours.

Each learns from rollouts of equal size, in equal minibatches, for equal epochs.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from lebot_rl_ros.cli.train import SHARDS
from lebot_rl_ros.envs.velocity_env import LeBotVelocityVectorEnv
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.learning.ppo import PPOConfig
from lebot_rl_ros.learning.train import TrainConfig, Trainer, share_cores
from lebot_rl_ros.robot import load_robot

PLAIN = 8  # environments
REQUIRED = {'SB3, eight plain environments': 4.0, 'SB3, our vector environment': 1.5}


class Sb3VecEnv(VecEnv):
    """Our vector environment as SB3 wants it."""

    def __init__(self, env: LeBotVelocityVectorEnv) -> None:
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.env = env
        self._infos: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]

    def reset(self) -> Any:
        return self.env.reset(seed=0)[0]

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done, infos = terminated | truncated, self._infos
        if done.any():
            infos = list(infos)
            for i in np.flatnonzero(done):
                infos[i] = {
                    'terminal_observation': info['final_obs'][i],
                    'TimeLimit.truncated': bool(truncated[i]),
                }
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def sb3(env: VecEnv, config: TrainConfig, samples: int) -> stable_baselines3.PPO:
    """SB3's PPO with our settings."""
    return stable_baselines3.PPO(
        'MlpPolicy', env, n_steps=samples // env.num_envs, batch_size=config.ppo.minibatch,
        n_epochs=config.ppo.epochs, learning_rate=config.ppo.learning_rate,
        gamma=config.ppo.discount, gae_lambda=config.ppo.trace, seed=0, device='cpu',
        policy_kwargs={
            'net_arch': list(config.hidden), 'activation_fn': torch.nn.ELU,
            'log_std_init': float(np.log(config.initial_std)),
        },
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description='training speed beside stable-baselines3')
    parser.add_argument('--robots', type=int, default=256)
    # One gradient step in 1,024 samples and five passes are what most PPOs for robots use.
    parser.add_argument('--epochs', type=int, default=5)
    parser.add_argument('--minibatch', type=int, default=1024)
    parser.add_argument('--rounds', type=int, default=3, help='turns of each')
    parser.add_argument('--seconds', type=float, default=8.0, help='of one turn, about')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()

    ppo = PPOConfig(epochs=args.epochs, minibatch=args.minibatch)
    config = TrainConfig(steps=10**12, ppo=ppo)
    robot = load_robot()
    tasks = [VelocityTask(robot, args.robots // SHARDS, seed=i) for i in range(SHARDS)]
    trainer = Trainer(tasks, config)
    samples = trainer.samples
    iterator = trainer.run()

    switch_interval, torch_threads = sys.getswitchinterval(), torch.get_num_threads()

    def ours() -> int:
        share_cores()
        next(iterator)
        sys.setswitchinterval(switch_interval)  # SB3's turns are as its users run it
        torch.set_num_threads(torch_threads)
        return samples

    def theirs(env: VecEnv) -> Callable[[], int]:
        model = sb3(env, config, samples)

        def learn() -> int:
            model.learn(samples, reset_num_timesteps=model.num_timesteps == 0)
            return samples

        return learn

    plain = DummyVecEnv([lambda: gymnasium.make('LeBotVelocity-v0') for _ in range(PLAIN)])
    runs = {
        'ours': ours,
        'SB3, eight plain environments': theirs(plain),
        'SB3, our vector environment': theirs(Sb3VecEnv(LeBotVelocityVectorEnv(args.robots))),
    }
    speeds = measure(runs, args.rounds, args.seconds)
    report(speeds, config, samples, args)
    ratios = {name: ratio(speeds, name) for name in REQUIRED}
    return 0 if all(ratios[name] >= least for name, least in REQUIRED.items()) else 1


def measure(
    runs: dict[str, Callable[[], int]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Steps/s of each turn; the first iteration of each run is not timed."""
    for run in runs.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                steps += run()
            speeds[name].append(steps / (time.perf_counter() - start))
    return speeds


def ratio(speeds: dict[str, list[float]], name: str) -> float:
    """How many times faster ours is: the median over the rounds."""
    return median(a / b for a, b in zip(speeds['ours'], speeds[name], strict=True))


def report(
    speeds: dict[str, list[float]], config: TrainConfig, samples: int, args: argparse.Namespace
) -> None:
    """Print a table; write the numbers as data if asked."""
    table = Table(
        title=f'environment steps/s, {args.robots} robots, {samples} steps a rollout, '
        f'{config.ppo.epochs} epochs of {config.ppo.minibatch}, networks {list(config.hidden)}'
    )
    for column in ('training', 'median', 'turns', 'ours is faster by', 'required'):
        table.add_column(column, justify='left' if column == 'training' else 'right')
    for name, values in speeds.items():
        table.add_row(
            name, f'{median(values):,.0f}', ' '.join(f'{v:,.0f}' for v in values),
            '' if name == 'ours' else f'{ratio(speeds, name):.2f}',
            f'{REQUIRED[name]}' if name in REQUIRED else '',
        )  # fmt: skip
    Console(width=120).print(table)
    if args.json:
        data = {'steps_per_second': speeds, 'ratio': {n: ratio(speeds, n) for n in REQUIRED}}
        args.json.write_text(json.dumps(data, indent=2) + '\n')


if __name__ == '__main__':
    raise SystemExit(main())
