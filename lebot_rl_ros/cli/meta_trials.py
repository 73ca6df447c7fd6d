"""What one seed of `lebot benchmark meta` trains and measures."""

import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.envs.lebot_tasks import STRAIGHT_ON, describe
from lebot_rl_ros.envs.navigation import HORIZON
from lebot_rl_ros.envs.world import GymWorld, make_world
from lebot_rl_ros.learning.functional import Parameters, detached, spread
from lebot_rl_ros.learning.method import Array, Method
from lebot_rl_ros.learning.methods.maml import MAML, MAMLConfig
from lebot_rl_ros.learning.methods.rl2 import RL2, RL2Config
from lebot_rl_ros.learning.rollouts import collect
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.robot import load_robot, share_path

UNSEEN = 10_000  # seed of the tasks that are judged by; training draws from its own seeds
GOALS, DRAWN = 40, 4  # goals that are judged by, and drawn
UPDATES = 3  # steps of adaptation that are shown
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)  # tried for starts that have learned none; the best counts
NAVIGATION = MAMLConfig()
RECURRENT = RL2Config()
FAULTS = MAMLConfig(
    learning_rate=2e-4,
    episodes=20,
    horizon=100,
    epochs=5,
    target_kl=0.05,
    scale_advantages=True,
    hidden=(128, 128),
    activation='elu',
)
FAULT_RATES = (0.01, 0.03, 0.1, 0.3)
STD = 0.2  # action units, of the exploration that both starts on LeBot begin with


def train(method: Method[Any], world: GymWorld, steps: int) -> list[dict[str, float]]:
    """Spend the steps; rows of numbers, one an iteration."""
    rows, start = [], world.steps
    while world.steps - start < steps:
        method.progress = (world.steps - start) / steps
        rows.append({**method.iterate(world), 'steps': float(world.steps - start)})
        world.finished.clear()
    return rows


def best_adaptation(
    method: MAML, world: GymWorld, tasks: Any, rates: tuple[float, ...], updates: int
) -> tuple[float, Array]:
    """Adapt with each rate; the rate that is best after one update, and returns (updates + 1,).

    The rate is chosen on the very tasks that are judged by, in favour of the rival.
    """

    def adapt(rate: float, count: int) -> Array:
        for tensor in method.rates.values():
            tensor.fill_(rate)
        return method.adapt(world, tasks, count)[1].mean(axis=(1, 2))

    best = max(rates, key=lambda rate: float(adapt(rate, 1)[1]))
    return best, adapt(best, updates)


def walk(
    method: MAML, world: GymWorld, tasks: Array, parameters: Parameters
) -> tuple[Array, float]:
    """Positions (T, K, 2) of mean actions, and how far from their goals they end."""
    world.set_task(np.repeat(tasks, method.config.episodes, axis=0))
    quiet = np.zeros(world.count, np.float32)
    trials = collect(world, lambda x: (method.act_adapted(parameters, x), quiet), HORIZON)
    world.finished.clear()
    first = slice(None, None, method.config.episodes)
    return trials.observations[:, first], float(np.sqrt(-trials.rewards[-1, first]).mean())


def navigation(seed: int, steps: int) -> dict[str, Any]:
    """Train MAML, a plain policy and RL^2 for ``steps`` each; judge them on unseen goals."""
    started = time.monotonic()
    world = make_world('Navigation-v0', GOALS * NAVIGATION.episodes, seed)
    goals = world.sample_tasks(GOALS, np.random.default_rng(UNSEEN))
    goals = goals[np.argsort(-np.linalg.norm(goals, axis=1))]  # the farthest are drawn
    result: dict[str, Any] = {'goals': goals[:DRAWN].tolist(), 'oracle': _oracle(world, goals)}
    for name in ('distances', 'paths', 'learning'):
        result[name] = {}
    for part in (by_gradients, by_memory):
        for name, value in part(seed, steps, world, goals).items():
            result[name] = result[name] | value if name in result else value
    return result | {'seconds': time.monotonic() - started}


def by_gradients(seed: int, steps: int, world: GymWorld, goals: Array) -> dict[str, Any]:
    """An untrained policy, a plain one and MAML's start, before and after updates."""
    result: dict[str, Any] = {}
    learning, paths, distances = {}, {}, {}
    for name, updates, training in (
        ('untrained', 0, 0),
        ('plain', 0, steps),
        ('maml', NAVIGATION.inner_updates, steps),
    ):
        config = replace(NAVIGATION, inner_updates=updates)
        method = MAML(config, world.observation_space, world.action_space, seed=seed)
        rows = train(method, make_world('Navigation-v0', 20 * config.episodes, seed), training)
        if rows:
            learning[name] = _learning(rows)
        if updates:
            curve = method.adapt(world, goals, UPDATES)[1].mean(axis=(1, 2))
        else:
            result[f'rate_{name}'], curve = best_adaptation(method, world, goals, RATES, UPDATES)
        result[name] = curve.tolist()
        for when, parameters in (
            ('before', spread(detached(method.start()), GOALS)),
            ('after', method.adapt(world, goals, 1)[0]),
        ):
            way, distances[f'{name}_{when}'] = walk(method, world, goals, parameters)
            paths[f'{name}_{when}'] = way[:, :DRAWN].tolist()
    return result | {'learning': learning, 'paths': paths, 'distances': distances}


def by_memory(seed: int, steps: int, world: GymWorld, goals: Array) -> dict[str, Any]:
    """RL^2, by the episodes of its trials."""
    episodes = NAVIGATION.episodes  # as many trials of each goal as the others have episodes
    method = RL2(RECURRENT, world.observation_space, world.action_space, seed=seed)
    rows = train(method, make_world('Navigation-v0', 256, seed), steps)
    told = np.repeat(goals, episodes, axis=0)
    returns, trials = method.evaluate(world, told, explore=True)
    world.finished.clear()
    paths, distances = {}, {}
    for i in range(RECURRENT.episodes):
        part = slice(i * HORIZON, (i + 1) * HORIZON)
        distances[f'rl2_{i + 1}'] = float(np.sqrt(-trials.rewards[part][-1]).mean())
        way = trials.observations[part, ::episodes]
        paths[f'rl2_{i + 1}'] = way[:, :DRAWN].tolist()
    return {
        'rl2': returns.mean(axis=1).tolist(),
        'learning': {'rl2': _learning(rows)},
        'paths': paths,
        'distances': distances,
    }


def _oracle(world: GymWorld, goals: Array) -> float:
    """Return of who knows the goals."""
    world.set_task(np.repeat(goals, world.count // len(goals), axis=0))
    env = world.body.env.unwrapped  # type: ignore[attr-defined]
    total = sum(world.step(env.oracle().astype(np.float32)).reward.mean() for _ in range(HORIZON))
    world.finished.clear()
    return float(total)


def _learning(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Steps and returns of a training, thinned to 100 points."""
    thin = rows[:: max(1, len(rows) // 100)]
    names = ['steps', *(name for name in thin[0] if name.startswith('return_'))]
    return {name: [round(row[name], 4) for row in thin] for name in names}


def faults(seed: int, steps: int) -> dict[str, Any]:
    """Train MAML from the shipped policy on faults; let both starts adapt to unseen ones."""
    started = time.monotonic()
    robot, folder = load_robot('lebot'), share_path('policies', 'walk')
    tensors, manifest = load_policy(folder)
    own = task_config(robot, manifest, folder)
    task = replace(STRAIGHT_ON, gait=own.gait, action_space=own.action_space, history=own.history)
    tried = 8
    world = make_world('LeBotFaults-v0', tried * FAULTS.episodes, seed, config=task, threads=2)
    unseen = world.sample_tasks(tried, np.random.default_rng(UNSEEN))
    result: dict[str, Any] = {'tasks': [describe(robot, row) for row in unseen]}
    for name in ('base', 'maml'):
        config = replace(FAULTS, inner_updates=0)
        if name == 'maml':  # begins as the base does, with the rate that is best for it
            config = replace(FAULTS, inner_rate=result['rate_base'])
        method = MAML(config, world.observation_space, world.action_space, seed=seed)
        method.network.load_tensors(tensors)
        with torch.no_grad():
            method.network.log_std.fill_(float(np.log(STD)))
        method.make_optimisers()
        if name == 'base':
            result['rate_base'], curve = best_adaptation(method, world, unseen, FAULT_RATES, 5)
        else:
            learning = _learning(train(method, world, steps))
            curve = method.adapt(world, unseen, 5)[1].mean(axis=(1, 2))
        result[name] = curve.tolist()
        world.finished.clear()
    return result | {'learning': {'maml': learning}, 'seconds': time.monotonic() - started}


SETTINGS = {
    'navigation': {'maml': asdict(NAVIGATION), 'rl2': asdict(RECURRENT)},
    'faults': {'maml': asdict(FAULTS)},
}
