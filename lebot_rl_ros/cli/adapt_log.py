"""What a run of `lebot benchmark adapt` notes, and when it is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lebot_rl_ros.envs.faulty_task import Judged
from lebot_rl_ros.learning.online.home import BASE_STAGE

Tell = Callable[[float], None]  # the share that is done


@dataclass
class Log:
    """What a run leaves behind; times in minutes of robot time."""

    curve: list[tuple[float, float]] = field(default_factory=list)  # judged reward a second
    judged_falls: list[tuple[float, float]] = field(default_factory=list)  # a minute of walking
    earned: list[tuple[float, float]] = field(default_factory=list)  # reward a second, learning
    falls: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    rolled_back: list[float] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)  # how often, by stage and verdict
    reasons: list[str] = field(default_factory=list)  # of the last refusals
    statistics: dict[str, float] = field(default_factory=dict)  # the learner's, at the end

    def judge(self, minute: float, judged: Judged) -> None:
        """Note one judgement."""
        self.curve.append((minute, judged.reward))  # all digits: equal must stay equal
        self.judged_falls.append((minute, round(judged.falls, 2)))

    def event(self, minute: float, event: Mapping[str, Any]) -> None:
        """Note a verdict of the session; other events are passed over."""
        if 'verdict' not in event:
            return
        stage, verdict = str(event.get('stage', '')), str(event['verdict'])
        what = f'{stage} {verdict}'.strip()
        self.verdicts[what] = self.verdicts.get(what, 0) + 1
        if stage == BASE_STAGE:
            return  # no version was accepted or taken back
        if verdict == 'accepted':
            self.accepted.append(round(minute, 3))
        elif verdict == 'rejected':
            self.reasons = [*self.reasons[-4:], str(event.get('reason', ''))]
            if stage == 'probation':
                self.rolled_back.append(round(minute, 3))


def schedule(minutes: float) -> list[float]:
    """Minutes at which a run is judged: often at first, its end among them."""
    due = [m for m in (*np.arange(0.5, 3.0, 0.5), *np.arange(3.0, 61.0, 1.0)) if m < minutes]
    return [float(m) for m in due] + [minutes]
