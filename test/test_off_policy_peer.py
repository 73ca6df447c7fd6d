"""From equal weights and equal draws, DDPG and TD3 step as stable-baselines3's do."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.replay import Minibatch

torch.set_num_threads(1)
OBSERVATION, ACTIONS, BATCH, DISCOUNT = 5, 2, 64, 0.98
HIDDEN = (32, 24)


def linear(network):
    return [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


def parts_of(network):
    """The actor and each critic of ours, as lists of layers."""
    return [linear(network.actor), *(linear(critic) for critic in network.critics)]


@torch.no_grad()
def distance(ours, theirs):
    """Largest difference of any weight or bias."""
    return max(
        float((getattr(a, name) - getattr(b, name)).abs().max())
        for mine, peers in zip(ours, theirs, strict=True)
        for a, b in zip(mine, peers, strict=True)
        for name in ('weight', 'bias')
    )


def make_ours(name):
    cls, config = find(name)
    reach = np.ones(ACTIONS, np.float32)
    wide = np.full(OBSERVATION, np.inf, np.float32)
    blur = {'target_noise': 0.0} if name == 'td3' else {}  # the only chance within a step
    return cls(
        config(hidden=HIDDEN, discount=DISCOUNT, batch=BATCH, **blur),
        Box((OBSERVATION,), -wide, wide),
        Box((ACTIONS,), -reach, reach),
    )


def make_theirs(name):
    sb3 = pytest.importorskip('stable_baselines3', reason='the extra `baselines` is not installed')
    import gymnasium

    class Spaces(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,))
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))

    blur = {'target_noise_clip': 0.0} if name == 'td3' else {}
    model = getattr(sb3, name.upper())(
        'MlpPolicy', Spaces(), learning_rate=1e-3, gamma=DISCOUNT, batch_size=BATCH,
        policy_kwargs={'net_arch': list(HIDDEN), 'activation_fn': torch.nn.ReLU},
        seed=0, device='cpu', **blur,
    )  # fmt: skip
    model.set_logger(sb3.common.logger.Logger(None, []))
    networks = [linear(model.actor), *(linear(q) for q in model.critic.q_networks)]
    targets = [linear(model.actor_target), *(linear(q) for q in model.critic_target.q_networks)]
    return model, networks, targets


def draw(rng):
    """One batch: observations, actions, rewards, next observations, and which ended (1.0)."""
    seen = rng.standard_normal((BATCH, OBSERVATION))
    rows = (
        seen,
        rng.uniform(-1.0, 1.0, (BATCH, ACTIONS)),
        5.0 * rng.standard_normal(BATCH) + seen[:, 0],
        seen + 0.1 * rng.standard_normal(seen.shape),
        rng.random(BATCH) < 0.05,
    )
    return [torch.from_numpy(row.astype(np.float32)) for row in rows]


@pytest.mark.parametrize('name', ['ddpg', 'td3'])
def test_gradient_steps_are_those_of_stable_baselines3(name):
    model, networks, targets = make_theirs(name)
    ours = make_ours(name)
    for mine, peers in zip(parts_of(ours.network), networks, strict=True):
        for a, b in zip(mine, peers, strict=True):
            a.load_state_dict(b.state_dict())
    ours.make_optimisers()
    start = [[layer.weight.detach().clone() for layer in part] for part in networks]
    rng = np.random.default_rng(0)
    from stable_baselines3.common.buffers import ReplayBufferSamples

    for step in range(30):
        seen, action, reward, following, ended = draw(rng)
        samples = ReplayBufferSamples(seen, action, following, ended[:, None], reward[:, None])
        model.replay_buffer.sample = lambda *_, given=samples, **__: given
        model.train(gradient_steps=1, batch_size=BATCH)
        ours.updates += 1
        ours.learn(Minibatch(seen, action, reward, following, DISCOUNT * (1.0 - ended)))
        assert distance(parts_of(ours.network), networks) < 1e-5, step
        assert distance(parts_of(ours.target.network), targets) < 1e-5, step
    for part, first in zip(networks, start, strict=True):  # far more than may differ
        moved = [
            float((layer.weight.detach() - w).abs().max())
            for layer, w in zip(part, first, strict=True)
        ]
        assert min(moved) > 5e-3
