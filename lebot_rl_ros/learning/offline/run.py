"""An offline training from data to a verdict: the loop, and the gate over the whole way."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lebot_rl_ros.learning.method import Array, Metrics
from lebot_rl_ros.learning.offline.contract import OfflineData, OfflineMethod
from lebot_rl_ros.learning.online.gate import Gate, GateConfig, Verdict
from lebot_rl_ros.policy.adapters import Adapter
from lebot_rl_ros.policy.files import PolicyManifest, Tensors

CHUNK = 250  # gradient steps between two rows of metrics


def train_offline(
    method: OfflineMethod, data: OfflineData, steps: int, chunk: int = CHUNK
) -> Iterator[Metrics]:
    """Learn; gives the metrics of each chunk, with ``steps`` so far.

    Raises:
        ValueError: the numbers ran away, or the data lack what the method needs.
    """
    done = 0
    while done < steps:
        count = min(chunk, steps - done)
        metrics = method.learn(data, count)
        done += count
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(
                f'{method.name}: {bad[0]} is {metrics[bad[0]]} after {done} steps; lower the rates'
            )
        yield {'steps': float(done), **metrics}


def split(
    data: OfflineData, share: float, least: int = GateConfig.evidence_least
) -> tuple[OfflineData, Array]:
    """Keep the last share of each recording from learning: the gate asks it for evidence.

    It is the end and not a draw: steps next to each other are alike, and one would know the other.

    Args:
        data: all that was recorded.
        share: of each recording.
        least: steps that the gate asks at all; where fewer would be kept, it is given all.

    Returns:
        What to learn from, and rows to judge by.

    Raises:
        ValueError: ``share`` is not in [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f'holdout is {share}, must be from 0 to below 1')
    learned, kept, sources, start = [], [], [], 0
    for count in data.sources:
        edge = start + count - int(share * count)
        learned.append(data.rows[start:edge])
        kept.append(data.rows[edge : start + count])
        sources.append(edge - start)
        start += count
    if not share:
        return data, data.rows
    judged = np.concatenate(kept)
    if len(judged) < least:
        judged = data.rows
    return OfflineData(np.concatenate(learned), tuple(sources)), judged


def whole_way(config: GateConfig) -> GateConfig:
    """Thresholds for a training that goes in one step where online learning takes dozens.

    Caps on a step are those on the whole way from the base; all others stay as they are.
    """
    return replace(
        config,
        change=config.change_base,
        kl_mean=config.kl_base,
        kl_p99=config.kl_base * config.kl_p99 / config.kl_mean,
    )


def judge_offline(
    adapter: Adapter,
    base: Tensors,
    manifest: PolicyManifest,
    rows: Array,
    start: Adapter | None = None,
    *,
    evidence: bool = True,
    config: GateConfig | None = None,
) -> tuple[Verdict, Adapter]:
    """Ask the gate whether an adapter may act on probation.

    Args:
        adapter: what was learned.
        base: tensors of the policy.
        manifest: of the policy.
        rows: (N,) recorded steps to judge by, best ones that were not learned from.
        start: the version that was gone on from; None is the base.
        evidence: whether it claims to earn more, so that the rows are asked.
        config: thresholds of the gate; its own without it.

    Returns:
        The verdict, and the adapter as it may act, perhaps a part of the way to what was learned.
    """
    gate = Gate(base, manifest, whole_way(config or GateConfig()))
    return gate.judge(adapter, rows['observation'], start, rows if evidence else None)
