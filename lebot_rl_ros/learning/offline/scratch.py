"""A whole policy from recorded steps alone: normaliser, actor and critic, cloned from nothing."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.offline.bc import BCConfig, BehaviourCloning
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.networks import LOG_STD, ActorCritic

CRITIC_BATCH = 256


def untrained(data: OfflineData, manifest: PolicyManifest, seed: int) -> Tensors:
    """Random networks of a policy's shape; what the normaliser and the spread are, the data say.

    Args:
        data: steps to come from.
        manifest: shapes and activation; nothing of its weights.
        seed: of the weights.
    """
    hidden = tuple(int(width) for width in manifest.network['hidden'])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ActorCritic(
            manifest.observation_size, len(manifest.joint_names), hidden,
            str(manifest.network['activation']),
        )  # fmt: skip
    network.normaliser.update(data.tensor('observation'))
    spread = data.tensor('std').clamp(*(math.exp(edge) for edge in LOG_STD)).log().mean(dim=0)
    with torch.no_grad():
        network.log_std.copy_(spread)
    return network.tensors()


class FromScratch:
    """Clones mean actions and values of recorded steps into fresh networks."""

    name = 'bc'

    def __init__(
        self, data: OfflineData, manifest: PolicyManifest, config: BCConfig, seed: int = 0
    ) -> None:
        """Draw the networks."""
        self.config, self._tensors = config, untrained(data, manifest, seed)
        # Its own hash is not known yet, and that of the policy that is imitated would be wrong.
        fresh = replace(manifest, sha256='')
        self.trained = Trained(self._tensors, fresh, TrainedConfig(kind='all'), seed)
        self._actor = BehaviourCloning(self.trained, self._tensors, config, seed)
        whole = ActorCritic(
            manifest.observation_size, len(manifest.joint_names),
            tuple(int(width) for width in manifest.network['hidden']),
            str(manifest.network['activation']),
        )  # fmt: skip
        whole.load_tensors(self._tensors)
        self._critic = whole.critic
        last = self._critic[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, float(data.rows['value'].mean()))  # sums of a long future
        self._optimiser = torch.optim.Adam(self._critic.parameters(), config.actor_rate)
        self._rng = np.random.default_rng([seed, 6])
        self._data: OfflineData | None = None

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many gradient steps of the actor and of the critic; see ``OfflineMethod``."""
        found = self._actor.learn(data, steps)
        if data is not self._data:
            self._data = data
            self._seen = self.trained.normalised(data.tensor('observation'))
            self._values = data.tensor('value')
        total = 0.0
        for _ in range(steps):
            rows = torch.from_numpy(self._rng.integers(len(data), size=CRITIC_BATCH))
            said = self._critic(self._seen[rows]).squeeze(-1)
            loss = (said - self._values[rows]).square().mean()
            self._optimiser.zero_grad()
            torch.autograd.backward(loss)
            self._optimiser.step()
            total += loss.item()
        return {**found, 'value_loss': total / steps}

    def tensors(self) -> Tensors:
        """The whole policy as it is now, by the names of the file format."""
        own: Tensors = dict(self._tensors)
        for net, module in (('actor', self.trained.actor), ('critic', self._critic)):
            for name, parameter in module.named_parameters():
                own[f'{net}.{name}'] = parameter.detach().numpy().astype(np.float32).copy()
        return own
