"""Worlds by the ids of Gymnasium."""

from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from lebot_rl_ros.envs.bodies import Body
from lebot_rl_ros.envs.gym_world import GymWorld as GymWorld
from lebot_rl_ros.envs.robot_body import Robots
from lebot_rl_ros.envs.single_envs import SingleEnvs
from lebot_rl_ros.envs.vector_envs import ManyEnvs, SameStepCartPole
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.robot import load_robot

ROBOTS = 'LeBotVelocity-v0'
MISSING = {  # what an environment may lack: a word of the error -> extra of gymnasium
    'box2d': 'box2d',
    'pygame': 'classic-control',
    'ale_py': 'atari',
}


def make_world(
    env_id: str,
    count: int,
    seed: int = 0,
    *,
    wrap: Any = None,
    stagger: bool = False,
    **kwargs: Any,
) -> GymWorld:
    """Build a world of ``count`` environments of a Gymnasium id.

    An environment's own vector version is used where it resets as a world must; else single ones
    stand in a row. LeBotVelocity-v0 is its task itself, without Gymnasium between.

    Args:
        env_id: as ``CartPole-v1``, or ``module:Id`` for a module to import first.
        count: how many, N.
        seed: of all draws.
        wrap: what wraps each single environment, as ``envs.shaping`` does.
        stagger: spread the ages of the first robots; LeBotVelocity-v0 only.
        **kwargs: for the environment.

    Raises:
        ValueError: there is no such environment, it lacks a package, its spaces are none that a
            method understands, or it does not take these arguments; the message says what to do.
    """
    if count < 1:
        raise ValueError(f'{count} environments of {env_id}; there must be at least one')
    body: Body | None = None
    try:
        if env_id == ROBOTS and wrap is None:
            body = _robots(count, stagger, **kwargs)
        elif wrap is None:
            body = _many(env_id, count, kwargs)
        if body is None:
            body = SingleEnvs(env_id, [lambda: _single(env_id, wrap, kwargs)] * count)
    except gymnasium.error.UnregisteredEnv as error:
        raise ValueError(
            f'there is no environment {env_id!r}: {error}. `lebot train METHOD --env` takes '
            f"Gymnasium's ids, as CartPole-v1, Pendulum-v1 and {ROBOTS}, or MODULE:ID"
        ) from error
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        extra = next((extra for word, extra in MISSING.items() if word in str(error).lower()), '')
        help_ = f": pip install 'gymnasium[{extra}]'" if extra else ''
        raise ValueError(f'{env_id} cannot be built, a package is missing{help_} ({error})') from (
            error
        )
    except (TypeError, gymnasium.error.Error) as error:
        raise ValueError(
            f'{env_id} cannot be built with {kwargs or "no arguments"}: {error}'
        ) from (error)
    return GymWorld(env_id, body, seed)


def has_pictures(env_id: str) -> bool:
    """Whether an environment says that it can be rendered into arrays."""
    entry = gymnasium.spec(env_id).entry_point
    creator = entry if callable(entry) else load_env_creator(str(entry))
    modes = getattr(creator, 'metadata', {}).get('render_modes')
    return modes is None or 'rgb_array' in modes


def _robots(
    count: int,
    stagger: bool,
    *,
    robot: str = 'lebot',
    config: Any = None,
    render_mode: str | None = None,
    threads: int = 0,
) -> Robots:
    task = VelocityTask(load_robot(robot), count, config, threads=threads)
    return Robots(ROBOTS, task, render_mode=render_mode, stagger=stagger)


def _many(env_id: str, count: int, kwargs: dict[str, Any]) -> ManyEnvs | None:
    """The environment's own vector version, if it has one that serves."""
    spec = gymnasium.spec(env_id)
    if spec.vector_entry_point is None or 'render_mode' in kwargs or spec.additional_wrappers:
        return None
    plain = set(kwargs) <= {'max_episode_steps'}  # it has no other reward
    if str(spec.entry_point).endswith(':CartPoleEnv') and plain:
        limit = spec.max_episode_steps
        given = {
            **spec.kwargs,
            **({} if limit is None else {'max_episode_steps': limit}),
            **kwargs,
        }
        return ManyEnvs(env_id, SameStepCartPole(count, **given))
    env = gymnasium.make_vec(
        env_id, num_envs=count, vectorization_mode='vector_entry_point', **kwargs
    )
    if env.metadata.get('autoreset_mode') != AutoresetMode.SAME_STEP and spec.entry_point:
        env.close()
        return None
    return ManyEnvs(env_id, env)


def _single(env_id: str, wrap: Any, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    # The world checks every step itself, Gymnasium's checker the first.
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    return env if wrap is None else wrap(env)
