"""How PPO acts while it collects."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import NoiseMatrix, StateDependentNoise
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.methods.ppo_paths import Path


class Sampler:
    """Draws actions for one rollout."""

    def __init__(
        self,
        path: Path,
        prepare: Callable[[Array], Tensor],
        rng: np.random.Generator,
        noise_steps: int,
    ) -> None:
        """Begin a rollout.

        Args:
            path: from inputs of the network to distributions.
            prepare: makes observations (N, ...) inputs of the network.
            rng: of the draws.
            noise_steps: for which noise that depends on the state keeps its matrix.
        """
        self.path, self.prepare, self.rng = path, prepare, rng
        self.noise_steps = noise_steps
        self._noise: NoiseMatrix | None = None

    @torch.no_grad()
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        """Actions (N, ...) and their log-probabilities (N,)."""
        policy = self.path.policy(self.prepare(observation))
        if isinstance(policy, StateDependentNoise):
            if self._noise is None:
                count, features = policy.latent.shape
                actions = policy.mean.shape[1]
                self._noise = NoiseMatrix(count, features, actions, self.noise_steps)
            self._noise.advance(self.rng)
            action = policy.sample(self._noise)
        else:
            action = policy.sample(self.rng)
        return action.numpy(), policy.log_prob(action).numpy()
