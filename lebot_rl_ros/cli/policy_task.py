"""A policy read from disk, with adapters, and the task that it was made for."""

from dataclasses import asdict
from pathlib import Path

from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.mdp.commands import ActionSpace, Gait
from lebot_rl_ros.mdp.observations import ObservationLayout
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.files import PolicyManifest, load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot


def with_adapters(folder: Path, text: str, store: str = '') -> PolicyRuntime:
    """Read a policy and merge the adapters that a text names; '' is the user's own store.

    Raises:
        PolicyError: something cannot be read or does not fit.
    """
    tensors, manifest = load_policy(folder)
    parts = default_store(store).load(text)
    for adapter, _ in parts:
        adapter.check(manifest)
    return PolicyRuntime(merge(tensors, parts), manifest)


def task_config(robot: Robot, manifest: PolicyManifest, where: str | Path) -> VelocityConfig:
    """Return the task with the policy's own gait, action scale and history, once it fits.

    Raises:
        PolicyError: the policy was made for another robot; the message shows both sides.
    """
    manifest.check(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_pose=robot.stand.tolist(),
        control_rate=robot.control_rate,
        observation=asdict(
            ObservationLayout.of(robot, history=int(manifest.observation['history']))
        ),
        where=where,
    )
    return VelocityConfig(
        action_space=ActionSpace(manifest.action_scale),
        gait=Gait(**manifest.gait),
        history=int(manifest.observation['history']),
    )
