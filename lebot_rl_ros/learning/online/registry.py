"""The learners by the names that `--learner` takes."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lebot_rl_ros.learning.online.actor_critic import OnlineActorCritic, OnlineActorCriticConfig
from lebot_rl_ros.learning.online.learner import OnlineLearner
from lebot_rl_ros.learning.online.ppo import OnlinePPO, OnlinePPOConfig
from lebot_rl_ros.learning.online.streaming import (
    StreamingActorCritic,
    StreamingActorCriticConfig,
)
from lebot_rl_ros.learning.online.td3 import OnlineTD3
from lebot_rl_ros.learning.online.td3_config import OnlineTD3Config
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors

LEARNERS: dict[str, tuple[Any, Any]] = {
    'td3': (OnlineTD3, OnlineTD3Config),
    'ppo': (OnlinePPO, OnlinePPOConfig),
    'actor_critic': (OnlineActorCritic, OnlineActorCriticConfig),
    'streaming_actor_critic': (StreamingActorCritic, StreamingActorCriticConfig),
}


# Where every weight moves at once, a step of Adam changes the actions so much more.
RATES = {'all': 0.2}  # of the rate at which an adapter is trained, by kind


def make_learner(
    name: str, trained: Trained, base: Tensors, settings: Mapping[str, Any], seed: int
) -> OnlineLearner:
    """Build one.

    Args:
        name: of ``LEARNERS``.
        trained: what it trains.
        base: tensors of the base.
        settings: fields of its config that shall differ from their defaults; the default rate of
            the policy is smaller where all weights are trained.
        seed: of its draws.

    Raises:
        ValueError: an unknown learner or setting; the message has those that are.
    """
    if name not in LEARNERS:
        raise ValueError(f'learner is {name!r}; choices are {", ".join(LEARNERS)}')
    learner, config = LEARNERS[name]
    known = [entry.name for entry in fields(config)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f'{name} has no setting {unknown[0]!r}; it has {", ".join(known)}')
    rate = 'learning_rate' if 'learning_rate' in known else 'actor_rate'
    usual = getattr(config(), rate) * RATES.get(trained.config.kind, 1.0)
    made: OnlineLearner = learner(trained, base, config(**{rate: usual, **settings}), seed)
    return made
