"""What `lebot train METHOD` and `lebot play` share: worlds, scores, videos, files for walking."""

import ast
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.envs.rollout_video import record, write_video
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.envs.world import ROBOTS, GymWorld, has_pictures, make_world
from lebot_rl_ros.learning.callbacks import evaluate
from lebot_rl_ros.learning.method import Method, Metrics
from lebot_rl_ros.learning.registry import METHODS
from lebot_rl_ros.mdp.observations import ObservationLayout
from lebot_rl_ros.policy.files import PolicyManifest, save_policy
from lebot_rl_ros.policy.lora import merge
from lebot_rl_ros.policy.networks import ActorCritic
from lebot_rl_ros.robot import load_robot

SIDE_BY_SIDE = 16  # environments of an evaluation, at most
SECONDS, RATE = 8.0, 25.0  # of a video, at most; Hz of its pictures, about


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE words for an environment; a value is a Python literal or a plain word.

    Raises:
        ValueError: a word is not KEY=VALUE.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition('=')
        if not equals:
            raise ValueError(f'--env-set {word!r} is not KEY=VALUE')
        try:
            found[key] = ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
        except (ValueError, SyntaxError):
            found[key] = text
    return found


def make_score(
    method: str, env: str, kwargs: Mapping[str, Any], envs: int, episodes: int, seed: int
) -> tuple[Callable[[Method[Any]], Metrics], GymWorld]:
    """How a method is judged, and the world in which: other episodes than those of training.

    Args:
        method: its name.
        env: id of the environment.
        kwargs: of the environment.
        envs: of the training; methods that adapt to tasks need as many to be judged.
        episodes: to play.
        seed: of the episodes, which are the same at every call.
    """
    tasks = METHODS[method].needs == 'tasks' if method in METHODS else False
    count = envs if tasks else min(episodes, SIDE_BY_SIDE)
    world = make_world(env, count, seed, **kwargs)
    if tasks:
        return lambda learner: _score_tasks(learner, world, seed), world
    return lambda learner: evaluate(learner, world, episodes, seed).metrics(), world


def _score_tasks(method: Any, world: GymWorld, seed: int) -> Metrics:
    """Returns before and after a method has adapted to tasks that it has not seen."""
    rng = np.random.default_rng([seed, 3])
    world.restart(seed)
    if hasattr(method, 'adapt'):  # by gradient steps: K tasks, some environments for each
        tasks = world.sample_tasks(world.count // method.config.episodes, rng)
        _, returns = method.adapt(world, tasks, seed=seed)
    else:  # by remembering: a task for each environment
        returns, _ = method.evaluate(world, world.sample_tasks(world.count, rng), seed=seed)
    world.finished.clear()
    means = [float(np.nanmean(row)) for row in returns]
    return {
        'eval_return': means[-1],
        'eval_return_std': float(np.nanstd(returns[-1])),
        'eval_return_before': means[0],
    }


def film(
    method: Method[Any],
    env: str,
    kwargs: Mapping[str, Any],
    path: Path,
    *,
    episodes: int = 1,
    seed: int = 0,
) -> list[float]:
    """Write a video of a method that does its best; the returns of its episodes.

    Raises:
        ValueError: the environment cannot be rendered here; the message says why.
    """
    if not has_pictures(env):
        raise ValueError(f'no video: {env} has no pictures')
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')  # no display is needed, so none is asked for
    world = None
    try:
        world = make_world(env, 1, seed, **{**kwargs, 'render_mode': 'rgb_array'})
        every = max(1, round(world.frame_rate / RATE))
        frames, returns = record(
            world,
            method.act,
            episodes,
            longest=round(SECONDS * world.frame_rate),
            every=every,
            forget=method.forget,
            see=getattr(method, 'see', None),
        )
        write_video(frames, path, world.frame_rate / every)
    except (RuntimeError, ImportError) as error:  # no OpenGL, no OpenCV
        raise ValueError(f'no video of {env}: {error}') from error
    finally:
        if world is not None:
            world.close()
    return returns


def save_walk(
    folder: Path, method: Method[Any], env: str, kwargs: Mapping[str, Any], training: Any
) -> bool:
    """Write a method as a policy that `lebot walk --policy` takes, where it can be one.

    Returns:
        Whether it could: a Gaussian actor and a critic of this kind, on LeBotVelocity-v0.
    """
    network = getattr(method, 'network', None)
    # Not of a subclass, whose actor wants other inputs.
    if env != ROBOTS or type(network) is not ActorCritic:
        return False
    robot, task = load_robot(kwargs.get('robot', 'lebot')), kwargs.get('config', VelocityConfig())
    network = deepcopy(network)
    merge(network)  # an adapter becomes part of the weights
    tensors = {name: x.numpy() for name, x in network.state_dict().items() if '.lora_' not in name}
    actor = network.actor
    hidden = [int(layer.out_features) for layer in list(actor)[:-1]]  # type: ignore[arg-type]
    manifest = PolicyManifest(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_pose=tuple(robot.stand.tolist()),
        action_scale=task.action_space.scale,
        control_rate=robot.control_rate,
        gait=asdict(task.gait),
        observation=asdict(ObservationLayout.of(robot, history=task.history)),
        network={'hidden': hidden, 'activation': actor.activation_name},
        training=training,
    )
    save_policy(folder, tensors, manifest)
    return True
