"""The picture of `lebot benchmark gate`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lebot_rl_ros.cli.gate_page import STAGES, counts, kinds
from lebot_rl_ros.cli.gate_trials import Outcome
from lebot_rl_ros.learning.figures import new_figure, save_figure

COLOURS = ('#1b4965', '#3c7a89', '#7fb069', '#e6aa68', '#ca6f1e', '#c8c8c8')  # of the stages


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Where updates of each kind ended, with evidence and without."""
    figure = new_figure((10.0, 4.4))
    names = kinds(outcomes)[::-1]
    sides = figure.subplots(1, 2, sharey=True)
    for axes, evidence, title in zip(
        sides, (True, False), ('the gate', 'without evidence'), strict=True
    ):
        left = np.zeros(len(names))
        for stage, colour in zip(STAGES, COLOURS, strict=True):
            found = [counts(outcomes, name, evidence) for name in names]
            share = np.array([100.0 * row[stage] / row['updates'] for row in found])
            axes.barh(names, share, left=left, color=colour, label=stage)
            left += share
        axes.set(title=title, xlabel='% of the updates', xlim=(0, 100))
    handles, labels = sides[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(STAGES), frameon=False)
    save_figure(figure, path)
