"""TD3 for one walking robot: a few thousand steps, a base to start from, and a box to stay in.

Fujimoto et al., arXiv 1802.09477, grown from ``learning/methods/td3.py``. What is different: the
critics start from the base's own (``critics.py``), the actor is a :class:`Trained` part of the
base, it is held to what was accepted last, and it may not leave a box around the base, in which
alone the critics have seen actions: without it the actor finds where they are wrong at once.
"""

import copy
from collections.abc import Set
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lebot_rl_ros.learning.deterministic import bellman_target
from lebot_rl_ros.learning.method import Array, Metrics, State
from lebot_rl_ros.learning.methods.td3 import smallest
from lebot_rl_ros.learning.online.critics import Critics
from lebot_rl_ros.learning.online.experience import Experience
from lebot_rl_ros.learning.online.td3_config import OnlineTD3Config
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.learning.state import (
    load_module_state,
    load_optimiser_state,
    load_rng_state,
    module_state,
    optimiser_state,
    rng_state,
)
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.runtime import PolicyRuntime

RECORDED = 'recorded.'  # before the names of what came from bags, in a state
BURST = 4  # times the most updates at once, while the critics learn alone
HOLD = (1e-2, 1e2)  # range of the weight of the distance to what was accepted


class OnlineTD3:
    """Off-policy: every step is learned from many times, whoever made it."""

    name = 'td3'

    def __init__(
        self, trained: Trained, base: Tensors, config: OnlineTD3Config, seed: int = 0
    ) -> None:
        """Take what is trained, and the base that it belongs to."""
        self.trained, self.config = trained, config
        observation, actions = len(base['normaliser.mean']), len(base['log_std'])
        self._widths = observation, actions
        self.rng = np.random.default_rng([seed, 3])
        self.base = PolicyRuntime(base, trained.manifest)
        self.experience = self._empty()
        self._seed = seed
        self._make_critics()
        self.updates, self.left_out, self._credit = 0, 0, 0.0
        self.recorded: Experience | None = None  # steps of bags: half of a batch is of them
        self._alone = 0  # updates of the critics that are still due before the policy moves
        self._noise = torch.zeros(config.batch, actions)
        self.hold = config.anchor
        self._last = (0.0, 0.0)  # loss of the actor, and its deviation
        self._hold()
        self._make_optimisers()

    def ingest(self, rows: Array) -> None:
        """Remember steps; each buys some updates."""
        before = len(self.experience)
        self.experience.extend(rows)
        if before >= self.config.learning_starts:
            self._credit += len(rows) * self.config.updates_per_step

    def replay(self, rows: Array) -> None:
        """Remember recorded steps; critics that know nothing would let the policy wander.

        They stay apart, in a ring as large as that of the robot's own, and half of every batch is
        drawn from them, so that neither drowns the other (Ball et al., arXiv 2302.02948).
        """
        rows = rows.copy()
        rows['adapter_version'] = 0  # numbers of another run: none of them is rejected here
        recorded = self.recorded or self._empty()
        recorded.extend(rows)
        if len(recorded):
            self.recorded, self._alone = recorded, self.config.replay_updates

    def update(self) -> Metrics:
        """Do the updates that are due."""
        if self._alone:
            count = min(self._alone, BURST * self.config.most)
            self._alone, self._credit = self._alone - count, 0.0
            for _ in range(count):
                self._update(alone=True)
            return {}  # there is nothing to offer yet
        due = int(self._credit)
        if not due or len(self.experience) - self.experience.quarantined < self.config.batch:
            return {}
        self._credit -= due
        count = min(due, self.config.most)
        self.left_out += due - count
        numbers = [self._update() for _ in range(count)]
        value_loss, policy_loss, q_mean, deviation = np.mean(numbers, axis=0).tolist()
        return {
            'value_loss': value_loss,
            'policy_loss': policy_loss,
            'q_mean': q_mean,
            'deviation': deviation,
            'updates': float(self.updates),
            'updates_left_out': float(self.left_out),
            'hold': self.hold,
            'replay': float(len(self.experience)),
            'recorded': 0.0 if self.recorded is None else float(len(self.recorded)),
            'quarantined': float(self.experience.quarantined),
        }

    def accept(self, tensors: Tensors) -> None:
        """Hold on to what was accepted; learning goes on from where it is."""
        now = copy.deepcopy(self.trained.actor.state_dict())
        self.trained.load(tensors)
        self._hold()
        self.trained.actor.load_state_dict(now)

    def revert(self, tensors: Tensors | None, rejected: Set[int]) -> None:
        """Go on from an older policy, with fresh moments.

        The critics keep what they know; broken ones (not finite) begin anew, as the actor would
        follow them again.
        """
        if not all(torch.isfinite(p).all() for p in self.critics.parameters()):
            self._make_critics()
        if tensors is None:
            self.trained.reset()
        else:
            self.trained.load(tensors)
        if self.config.quarantine:
            self.experience.quarantine(rejected)
        self._hold()
        self._make_optimisers()

    def state(self) -> State:
        """All of it."""
        bags = {} if self.recorded is None else self.recorded.state()
        recorded = {f'{RECORDED}{name}': value for name, value in bags.items()}
        return {
            **module_state(self.trained.actor, 'actor'),
            **module_state(self.anchor, 'anchor'),
            **module_state(self.critics, 'critics'),
            **module_state(self.target, 'target'),
            **optimiser_state(self.actor_optimiser, 'actor_optimiser'),
            **optimiser_state(self.critic_optimiser, 'critic_optimiser'),
            **self.experience.state(),
            **recorded,
            'rng': rng_state(self.rng),
            'counts': np.array(
                [self.updates, self._credit, self.hold, *self._last, self._alone, self.left_out]
            ),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        for name in ('rng', 'counts'):
            if name not in state:
                raise ValueError(f'{name} is missing in the state of {self.name}')
        for name, module in (
            ('actor', self.trained.actor), ('anchor', self.anchor), ('critics', self.critics),
            ('target', self.target),
        ):  # fmt: skip
            load_module_state(module, state, name)
        load_optimiser_state(self.actor_optimiser, state, 'actor_optimiser')
        load_optimiser_state(self.critic_optimiser, state, 'critic_optimiser')
        self.experience.load_state(state)
        bags = {k.removeprefix(RECORDED): v for k, v in state.items() if k.startswith(RECORDED)}
        self.recorded = self._empty() if bags else None
        if self.recorded is not None:
            self.recorded.load_state(bags)
        load_rng_state(self.rng, state['rng'])
        updates, self._credit, self.hold, *last = state['counts'].tolist()
        self.updates, self._last = int(updates), (last[0], last[1])
        self._alone, self.left_out = (*map(int, last[2:]), 0, 0)[:2]  # an older state has fewer

    def _empty(self) -> Experience:
        return Experience(self.config.capacity, *self._widths, self.view)

    def _hold(self) -> None:
        """Let the policy as it is now be the anchor."""
        self.anchor = copy.deepcopy(self.trained.actor).requires_grad_(False)

    def _make_critics(self) -> None:
        config, inputs = self.config, self.experience.observations.shape[1]
        inputs += self.experience.actions.shape[1]
        self.critics = Critics(inputs, config.hidden, config.critics, self._seed)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)

    def _make_optimisers(self) -> None:
        config = self.config
        self._trained = self.trained.parameters()
        # Decay leads an adapter to the base; plain weights and biases it would lead to zero.
        factors: list[Tensor] = []
        plain: list[Tensor] = []
        for name, parameter in self.trained.named_parameters():
            (factors if name.endswith(('lora_A', 'lora_B')) else plain).append(parameter)
        groups: list[dict[str, Any]] = [
            {'params': factors, 'weight_decay': config.weight_decay},
            {'params': plain},
        ]
        self.actor_optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            [group for group in groups if group['params']],
            config.actor_rate,
            weight_decay=0.0,
            fused=True,
        )
        self.critic_optimiser: torch.optim.Optimizer = torch.optim.Adam(
            self.critics.parameters(), config.critic_rate, fused=True
        )

    def _update(self, *, alone: bool = False) -> tuple[float, float, float, float]:
        """One step of the critics, and unless ``alone`` one of the actor when it is due."""
        config = self.config
        views, actions, rewards, following, going_on = self._draw()
        seen, value, base = self._parts(views)
        with torch.no_grad():
            targets = bellman_target(
                rewards, config.discount * going_on, self.next_values(following)
            )
            targets = (targets - value) / config.value_scale
        corrections = self.critics(seen, actions)
        loss = (corrections - targets).square().mean(dim=-1).sum()
        self.critic_optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.critic_optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.critics.parameters()), config.tau
            )
        if self.updates % config.policy_delay == 0 and not alone:
            self._last = self._improve(seen, base)
        self.updates += 1
        q_mean = float(targets.mean()) * config.value_scale
        return (loss.item(), self._last[0], q_mean, self._last[1])

    def _draw(self) -> tuple[Tensor, ...]:
        """A batch, half of it from bags where there are any; all of it until there is more."""
        size, own = self.config.batch, self.experience
        if self.recorded is None:
            return own.sample(size, self.rng)
        if len(own) - own.quarantined < size:
            return self.recorded.sample(size, self.rng)
        parts = self.recorded.sample(size // 2, self.rng), own.sample(size - size // 2, self.rng)
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))

    @torch.no_grad()
    def view(self, observations: Array) -> Array:
        """What the base makes of observations (n, O): normalised, its value, its mean action.

        Each is looked at alone: a matrix product rounds by the size of its batch, and a run that
        goes on from a checkpoint must not depend on how its steps had come.
        """
        x = self.trained.normalised(torch.from_numpy(observations)).numpy()
        values = [[self.base.value(one), *self.base.act(one)] for one in observations]
        return np.concatenate((x, np.array(values, np.float32)), axis=1)

    def _parts(self, views: Tensor) -> tuple[Tensor, ...]:
        """Normalised observations (B, O), the base's values (B,) and mean actions (B, J)."""
        observation, actions = self._widths
        x, value, base = torch.split(views, [observation, 1, actions], dim=1)
        return x, value[:, 0], base

    @torch.no_grad()
    def next_values(self, views: Tensor) -> Tensor:
        """What comes after (B,): the least that any target critic says of a blurred action."""
        config = self.config
        following, value, base = self._parts(views)
        change = self.trained.mean_of(following) - base
        self.rng.standard_normal(dtype='float32', out=self._noise.numpy())
        noise = (self._noise * config.target_noise).clamp(-config.target_clip, config.target_clip)
        action = base + change.clamp(-config.deviation, config.deviation) + noise
        least = smallest(tuple(self.target(following, action)))
        return value + config.value_scale * least

    def _improve(self, seen: Tensor, base: Tensor) -> tuple[float, float]:
        """Climb the critics' slope, near the anchor and within the box; loss and deviation."""
        config, trained = self.config, self.trained
        action = trained.mean_of(seen)
        change = action - base
        beyond = F.relu(change.abs() - config.deviation).square().sum(dim=-1).mean()
        values = self.critics(seen, action)
        wall = config.hinge * (1.0 + float(values.detach().abs().mean()))  # whatever is promised
        loss = wall * beyond - values.mean()
        with torch.no_grad():
            held = trained.mean_of(seen, self.anchor)
        away = (action - held).square().sum(dim=-1).mean()
        loss = loss + self.hold * away + config.base * change.square().sum(dim=-1).mean()
        # The critics lend their slope; their own weights need no gradient now.
        torch.autograd.backward(loss, inputs=self._trained)
        torch.nn.utils.clip_grad_norm_(self._trained, config.gradient_norm)
        self.actor_optimiser.step()
        self.actor_optimiser.zero_grad()
        far = away.item() / config.step**2
        if not 0.5 < far < 2.0:
            self.hold = min(max(self.hold * (1.05 if far > 1.0 else 1 / 1.05), HOLD[0]), HOLD[1])
        return loss.item(), float(change.detach().square().mean().sqrt())
