"""What the learner node says of itself: the worst of what learning waits for or goes on with."""

import time
from typing import Any, Protocol

from lebot_rl_ros.nodes.learning_run import LearningRun
from lebot_rl_ros.ros import diagnostics, names
from lebot_rl_ros.ros.learner_topics import LearnerInput
from lebot_rl_ros.ros.swap_client import SwapClient

BUSY = 0.9  # s of work for each second of the robot, beyond which it is said
SILENT = 3.0  # s of wall time without a step, after which it is said


class Learning(Protocol):
    """What is looked at of the node."""

    config: Any
    run: LearningRun
    client: SwapClient
    input: LearnerInput
    ready: bool
    enabled: bool
    foreign: str  # hash of another base whose steps come
    load: float  # s of work for each second of the robot


def judged(node: Learning, missing: list[str], rate: float) -> tuple[bytes, str]:
    """Level and message.

    Args:
        node: the learner.
        missing: who has not been met yet.
        rate: steps a second of wall time, of late.
    """
    client, run = node.client, node.run
    stays = client.wanted or 'the base'
    if not node.ready:
        waiting = [*missing, *(['its adapter'] * client.lost)]
        return diagnostics.WARN, f'waiting for {", ".join(waiting) or "its adapter"}'
    if not node.enabled:
        return diagnostics.WARN, f'not enabled; {stays} stays'
    if client.other:
        again = f'set {stays} again, or call {names.ENABLE_LEARNER}'
        return diagnostics.WARN, f'{client.other}: nothing is learned; {again}'
    trouble = _trouble(node, rate)
    if trouble:
        return diagnostics.WARN, trouble
    how = 'acts' if run.acting == run.accepted else 'on trial'
    return diagnostics.OK, f'{run.acting or "the base"} {how}'


def _trouble(node: Learning, rate: float) -> str:
    if node.foreign:
        ours = node.run.base_sha256[:12]
        return f'steps of base {node.foreign[:12]}, this is {ours}: not learned from'
    if node.run.trouble:
        return node.run.trouble
    if not rate:
        silent = time.monotonic() - node.input.heard > SILENT
        return f'no {names.STEPS if silent else names.REWARDS}: learning waits'
    return node.input.refused or _slow(node)


def _slow(node: Learning) -> str:
    if node.config.lockstep or node.load <= BUSY:
        return ''
    left_out = node.run.session.metrics.get('updates_left_out', 0.0)
    rest = f'; {left_out:.0f} updates were left out so far' if left_out else ''
    return f'learning takes {node.load:.2f} s of each second of the robot{rest}'
