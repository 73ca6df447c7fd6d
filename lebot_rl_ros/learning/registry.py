"""Every method by its name, imported when it is asked for."""

import importlib
from dataclasses import dataclass
from typing import Any

from lebot_rl_ros.learning.method import Method


@dataclass(frozen=True)
class Entry:
    """Where a method is, and what it is."""

    module: str  # in learning.methods
    cls: str  # its class; its config is the same name and `Config`
    about: str
    needs: str = ''  # 'tasks' where the environment must be a distribution of tasks


METHODS = {
    'q_learning': Entry('q_learning', 'QLearning', 'tabular Q-learning'),
    'reinforce': Entry('reinforce', 'Reinforce', 'Monte Carlo policy gradient'),
    'actor_critic': Entry('actor_critic', 'ActorCriticMethod', 'actor-critic, also of a stream'),
    'ppo': Entry('ppo', 'PPOMethod', 'proximal policy optimisation'),
    'ddpg': Entry('ddpg', 'DDPG', 'deterministic policy gradient with replay'),
    'td3': Entry('td3', 'TD3', 'twin delayed deterministic policy gradient'),
    'grpo': Entry('grpo', 'GRPO', 'groups in place of a critic; DAPO'),
    'dpo': Entry('dpo', 'DPO', 'direct preference optimisation'),
    'maml': Entry('maml', 'MAML', 'a start from which one update suffices', 'tasks'),
    'rl2': Entry('rl2', 'RL2', 'a recurrent policy that learns within episodes', 'tasks'),
}


def find(name: str) -> tuple[type[Method[Any]], type[Any]]:
    """A method's class and the class of its config.

    Raises:
        ValueError: there is none of that name; the message gives the choices.
    """
    if name not in METHODS:
        raise ValueError(f'no method {name!r}; choices are {", ".join(METHODS)}')
    entry = METHODS[name]
    module = importlib.import_module(f'lebot_rl_ros.learning.methods.{entry.module}')
    return getattr(module, entry.cls), getattr(module, f'{entry.cls}Config')
