"""Films of `lebot compare rewards`: one episode of a trained policy, in front of a camera."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lebot_rl_ros.cli.reward_runs import JUDGING_SEED, Run, make
from lebot_rl_ros.envs.shaping import Array
from lebot_rl_ros.learning.method import Box, Space

PICTURES = 12.5  # a second of a film
WALK = 4.0  # s of a film of LeBot
AHEAD = (0.3, 0.0)  # m/s and rad/s, its command there


@dataclass(frozen=True)
class Film:
    """One episode as pictures."""

    frames: list[Array]  # (H, W, 3) uint8; the first is the start, the last is the end
    times: Array  # (F,) s
    returns: Array  # (F,) own return until then
    observations: Array  # (T + 1, O)
    ended: str  # in a word or two


def film(run: Run) -> Film:
    """Play the first of the judging episodes once more, in front of a camera.

    LeBot walks for a few seconds only, and where it can be told its speed, straight ahead.
    """
    import gymnasium  # late, as everywhere in the command line

    job = run.job
    world, method = make(job)
    world.close()
    method.load_state(run.weights)
    arguments = {**job.env_arguments, 'render_mode': 'rgb_array'}
    arguments.pop('threads', None)  # there is one robot
    env = gymnasium.make(job.env, **arguments)
    rate = float(env.metadata['render_fps'])
    stride, limit = max(1, round(rate / PICTURES)), 10_000
    if job.env.startswith('LeBot'):
        limit = round(rate * WALK)
        if hasattr(env.unwrapped, 'task'):
            env.unwrapped.task.pinned_command = np.array([AHEAD])
    simulation = _simulation(env)
    observation, _ = env.reset(seed=int(np.random.SeedSequence(JUDGING_SEED).generate_state(1)[0]))
    start = None if simulation is None else simulation.qpos[0, :2].copy()
    frames, seen, kept = [_picture(env)], [observation], [0]
    rewards, ended = [0.0], ''
    for step in range(1, limit + 1):
        action = _fitting(world.action_space, method.act(np.asarray(observation)[None])[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        rewards.append(float(reward))
        over = terminated or truncated or step == limit
        if step % stride == 0 or over:
            frames.append(_picture(env))
            kept.append(step)
        if over:
            ended = _ending(job.env, terminated, float(reward))
            if simulation is not None:
                ended = f'{np.hypot(*(simulation.qpos[0, :2] - start)):.2f} m, {ended}'
            break
    env.close()
    returns = np.cumsum(rewards)[kept]
    return Film(frames, np.array(kept) / rate, returns, np.array(seen), ended)


def _simulation(env: Any) -> Any:
    """Of a LeBot environment; None of others."""
    plain = env.unwrapped
    return getattr(getattr(plain, 'task', plain), 'simulation', None)


def _ending(env: str, terminated: bool, reward: float) -> str:
    if not terminated:
        return 'still in the air' if env.startswith('LunarLander') else 'on its feet'
    if env.startswith('LunarLander'):
        return 'landed' if reward > 0.0 else 'crashed'
    return 'fell' if env.startswith('LeBot') else 'ended'


def _fitting(space: Space, action: Array) -> Array:
    """An action inside its box, as a world does it."""
    return np.clip(action, space.low, space.high) if isinstance(space, Box) else action


def _picture(env: Any) -> Array:
    return np.array(env.render(), dtype=np.uint8)
