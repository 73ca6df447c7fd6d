"""A small base, and rows of problems whose answers are known, for the on-policy learners."""

import numpy as np
import torch

from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.policy.files import PolicyManifest
from lebot_rl_ros.policy.networks import ActorCritic

OBSERVATION, JOINTS = 3, 2
OFFSET = np.array([0.35, -0.25], np.float32)  # what the base does wrong, action units


def small_base(seed=0, hidden=(8, 8)):
    """Tensors and manifest of a base of random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ActorCritic(OBSERVATION, JOINTS, hidden, 'elu', 0.3)
        torch.nn.init.orthogonal_(network.actor[len(hidden)].weight, 0.5)
    layout = {'names': ('o',), 'widths': (OBSERVATION,), 'scales': (1.0,), 'history': 1}
    manifest = PolicyManifest(
        'toy', ('a', 'b'), (0.0, 0.0), 1.0, 50.0, {}, layout,
        {'hidden': list(hidden), 'activation': 'elu'},
    )  # fmt: skip
    return network.tensors(), manifest


def learner(of, config, seed=0, **trained):
    """A learner on the small base."""
    base, manifest = small_base()
    return of(Trained(base, manifest, TrainedConfig(**trained), seed), base, config, seed)


def mean_actions(trained, observation):
    with torch.no_grad():
        return trained.mean(torch.from_numpy(np.array(observation))).numpy()


def empty_rows(count):
    """Rows of one trajectory of the base, all numbers 0, nothing cut."""
    rows = np.zeros(count, transition_dtype(OBSERVATION, JOINTS, ()))
    rows['std'], rows['known'], rows['follows'], rows['mode'] = 0.3, 1, 1, 2
    rows['stamp'] = 20_000_000 * np.arange(count)
    rows['next_stamp'] = rows['stamp'] + 20_000_000
    rows['follows'][:1] = 0
    return rows


def act(rows, mean, rng):
    """Draw the rows' actions round means (B, J), with their log-probabilities."""
    std = rows['std']
    noise = rng.standard_normal(mean.shape).astype(np.float32)
    rows['mean'], rows['action'] = mean, mean + std * noise
    z = (rows['action'] - mean) / std
    rows['log_prob'] = (
        -0.5 * (z**2).sum(1) - np.log(std).sum(1) - 0.5 * mean.shape[1] * np.log(2 * np.pi)
    )


def signed(rows, version):
    """Let an adapter have acted: its version, and a hash that is as good as another."""
    rows['adapter_version'] = version
    rows['adapter_sha256'] = np.frombuffer(int(version).to_bytes(32, 'big'), np.uint8)
    return rows


def slipped_rows(acting, rng, count, version=0, std=0.2):
    """Steps on which the base is wrong by OFFSET: reward -|a - (base mean + OFFSET)|²; (count,).

    Observations wander on their own; every 100th step is cut, and every 50th lost.
    """
    rows = empty_rows(count + count // 50 + 1)
    rows['std'] = std
    observation = np.zeros((len(rows) + 1, OBSERVATION), np.float32)
    for t in range(len(rows)):
        observation[t + 1] = 0.5 * observation[t] + rng.standard_normal(OBSERVATION)
    rows['observation'], rows['next_observation'] = observation[:-1], observation[1:]
    act(rows, mean_actions(acting, rows['observation']), rng)
    with torch.no_grad():
        wanted = acting.base_mean(torch.from_numpy(np.array(rows['observation']))).numpy() + OFFSET
    rows['reward'] = -np.square(rows['action'] - wanted).sum(1)
    rows['truncated'][99::100] = 1
    rows['follows'][100::100] = 0
    lost = np.zeros(len(rows), bool)
    lost[25::50] = True
    rows['known'][np.flatnonzero(lost) - 1] = rows['next_observation'][
        np.flatnonzero(lost) - 1
    ] = 0
    rows['truncated'][np.flatnonzero(lost) - 1] = 1
    rows['follows'][np.flatnonzero(lost) + 1] = 0
    return signed(rows[~lost][:count], version)


def mistake(trained, seed=99):
    """Mean squared distance of the mean action from what is wanted; OFFSET² of the base."""
    observation = np.random.default_rng(seed).standard_normal((500, OBSERVATION))
    x = torch.from_numpy(observation.astype(np.float32))
    with torch.no_grad():
        error = trained.mean(x) - trained.base_mean(x) - torch.from_numpy(OFFSET)
    return float(error.square().sum(1).mean())


def chain_rows(count, rng, ends='truncated'):
    """Two states in turn, reward 1, cut every third step: worth 1 / (1 - discount) in truth."""
    rows = empty_rows(count)
    state = (np.arange(count) % 3) % 2
    rows['observation'][np.arange(count), state] = 1.0
    rows['next_observation'][np.arange(count), 1 - state] = 1.0
    act(rows, np.zeros((count, JOINTS), np.float32), rng)
    rows['reward'] = 1.0
    rows[ends][2::3] = 1
    rows['follows'] = np.arange(count) % 3 != 0
    return rows


def chain_values(found):
    """What the critic says of the two states."""
    x = found.trained.normalised(torch.eye(2, OBSERVATION))
    return found.critic(x).detach().numpy()


def the_same(a, b):
    """Two states are equal, bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
