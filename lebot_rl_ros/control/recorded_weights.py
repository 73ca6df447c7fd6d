"""Weights of the reward in a bag: as the run said them, or changed by hand."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lebot_rl_ros.data.bag.reader import Bag, find_topic
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.mdp.reward_files import OTHERS
from lebot_rl_ros.mdp.rewards import TERMS, RewardConfig

STEPS, REWARD_TERMS = 'policy/steps', 'reward/terms'
WEIGHTS = 'weights'  # status of reward/terms; parameters of the node begin so, too
SECOND = 1_000_000_000  # ns


def recorded_weights(bag: Bag, namespace: str = '') -> dict[int, RewardConfig]:
    """Weights as the bag says them: those that hold from the step of a stamp (ns) on.

    ``reward/terms`` has them; without it the parameters of the node in the run metadata. Empty if
    neither says anything.
    """
    found: dict[int, RewardConfig] = {}
    newest: RewardConfig | None = None
    for array in told_terms(bag, namespace):
        for status in array.status:
            if status.name == WEIGHTS:
                config = _config({pair.key: pair.value for pair in status.values})
                if config != newest:
                    found[stamp_of(array)] = newest = config
    return found or _parameters(bag.metadata.get('parameters', ''))


def reweighted(config: RewardConfig, given: Mapping[str, float]) -> RewardConfig:
    """A reward with other weights.

    Raises:
        ValueError: a term is unknown, or a weight is not finite.
    """
    terms = {name: weight for name, weight in given.items() if name not in OTHERS}
    others = {name: weight for name, weight in given.items() if name in OTHERS}
    return replace(config, weights={**config.weights, **terms}, **others)


def beside(bag: Bag, namespace: str, first: str, *others: str) -> list[str]:
    """Topics of one robot: the one that ends with ``first``, and others in its namespace.

    Raises:
        BagError: one is missing, or several robots have the first.
    """
    anchor = find_topic(bag, first, namespace)
    prefix = anchor.removesuffix(first)
    missing = [f'{prefix}{name}' for name in others if f'{prefix}{name}' not in bag.topics]
    if missing:
        raise BagError(
            f'{bag.path} has no topic {" and no ".join(missing)}; it has {", ".join(bag.topics)}'
        )
    return [anchor, *(f'{prefix}{name}' for name in others)]


def stamp_of(message: Any) -> int:
    """Nanoseconds of a decoded message's header."""
    stamp = message.header.stamp
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def told_terms(bag: Bag, namespace: str) -> Iterator[Any]:
    """Messages of reward/terms, where there are any."""
    topic = beside(bag, namespace, STEPS)[0].removesuffix(STEPS) + REWARD_TERMS
    if topic in bag.topics:
        yield from map(bag.decode, bag.messages([topic]))


def _config(values: Mapping[str, Any]) -> RewardConfig:
    numbers = {name: float(value) for name, value in values.items()}
    weights = {name: numbers.get(name, 0.0) for name in TERMS}
    others = {name: numbers[name] for name in OTHERS if name in numbers}
    return RewardConfig(weights, **others)


def _parameters(text: str) -> dict[int, RewardConfig]:
    try:
        nodes = json.loads(text)
    except json.JSONDecodeError:
        return {}
    for name, parameters in nodes.items() if isinstance(nodes, dict) else ():
        if str(name).rpartition('/')[2] == 'reward' and isinstance(parameters, dict):
            given = {
                key.removeprefix(f'{WEIGHTS}.'): value
                for key, value in parameters.items()
                if key.startswith(f'{WEIGHTS}.') or key in OTHERS
            }
            return {0: _config(given)} if given else {}
    return {}
