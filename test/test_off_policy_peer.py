"""From equal weights and equal draws, DDPG and TD3 step as stable-baselines3's do."""

import gymnasium
import numpy as np
import pytest
import torch

from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.method import Box
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.replay import Minibatch

torch.set_num_threads(1)
OBSERVATION, ACTIONS, BATCH, DISCOUNT = 5, 2, 64, 0.98
HIDDEN = (32, 24)
_SAME = {'hidden': HIDDEN, 'discount': DISCOUNT, 'batch': BATCH, 'learning_rate': 1e-3}
# Target noise is drawn within a gradient step; without it both draw the same numbers.
SETTINGS = {'ddpg': _SAME, 'td3': {**_SAME, 'target_noise': 0.0}}


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
    return cls(
        config(**SETTINGS[name]),
        Box((OBSERVATION,), -wide, wide),
        Box((ACTIONS,), -reach, reach),
    )


def peer(name, env, **settings):
    """The peer's model, and its networks and targets as ours are parted."""
    sb3 = pytest.importorskip('stable_baselines3', reason='the extra `baselines` is not installed')
    blur = {'target_noise_clip': 0.0} if name == 'td3' else {}
    model = getattr(sb3, name.upper())(
        'MlpPolicy', env, learning_rate=1e-3, gamma=DISCOUNT, batch_size=BATCH,
        policy_kwargs={'net_arch': list(HIDDEN), 'activation_fn': torch.nn.ReLU},
        seed=0, device='cpu', **blur, **settings,
    )  # fmt: skip
    model.set_logger(sb3.common.logger.Logger(None, []))
    networks = [linear(model.actor), *(linear(q) for q in model.critic.q_networks)]
    targets = [linear(model.actor_target), *(linear(q) for q in model.critic_target.q_networks)]
    return model, networks, targets


def spaces():
    """An environment that is never stepped."""

    class Spaces(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,))
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))

    return Spaces()


def give(ours, networks):
    """Begin with the peer's weights."""
    for mine, peers in zip(parts_of(ours.network), networks, strict=True):
        for a, b in zip(mine, peers, strict=True):
            a.load_state_dict(b.state_dict())
    ours.make_optimisers()


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
    model, networks, targets = peer(name, spaces())
    ours = make_ours(name)
    give(ours, networks)
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


@pytest.mark.parametrize('name', ['ddpg', 'td3'])
def test_a_whole_training_goes_as_that_of_stable_baselines3(name, monkeypatch):
    """Equal weights, episodes and draws: what both do and see stays equal, step by step.

    The pendulum is cut once; the peer must go on from the state beyond, as ours does.
    """
    uniform, steps = 150, 350
    world = make_world('Pendulum-v1', 1, seed=0)
    cls, config = find(name)
    ours = cls(
        config(**SETTINGS[name], learning_starts=uniform, steps=1),
        world.observation_space, world.action_space, seed=3,
    )  # fmt: skip
    rng = np.random.default_rng()
    rng.bit_generator.state = ours.rng.bit_generator.state

    env = gymnasium.make('Pendulum-v1')
    model, networks, _ = peer(name, env, learning_starts=uniform, train_freq=1, gradient_steps=1)
    # As our world seeds its first environment.
    model.env.seed(int(np.random.SeedSequence(0).generate_state(1)[0]))
    replay = model.replay_buffer

    def act(learning_starts, action_noise=None, n_envs=1):
        if model.num_timesteps < learning_starts:
            unit = rng.uniform(-1.0, 1.0, (n_envs, 1)).astype(np.float32)
        else:
            mean = model.policy.scale_action(model.predict(model._last_obs)[0])
            noise = 0.1 * rng.standard_normal((n_envs, 1), dtype=np.float32)
            unit = np.clip(mean + noise, -1.0, 1.0)
        return model.policy.unscale_action(unit), unit

    def sample(size, env=None):
        drawn = replay._get_samples(rng.integers(replay.size(), size=size), env=env)
        if name == 'td3':  # ours draws the noise of the target, whatever its size
            rng.standard_normal((size, 1), dtype=np.float32)
        return drawn

    monkeypatch.setattr(model, '_sample_action', act)
    monkeypatch.setattr(replay, 'sample', sample)
    give(ours, networks)
    model.learn(steps)
    while world.steps < steps:
        ours.iterate(world)
    assert ours.updates == model._n_updates == steps - uniform
    for field in ('observations', 'actions', 'rewards', 'next_observations'):
        mine, peers = (
            getattr(one, field)[:steps].reshape(steps, -1) for one in (ours.replay, replay)
        )
        np.testing.assert_allclose(mine, peers, atol=1e-3, err_msg=field)
    # A time-out that is taken for an end makes 5e-4 (td3) and 1e-2 (ddpg) of it.
    assert distance(parts_of(ours.network), networks) < 1e-4
