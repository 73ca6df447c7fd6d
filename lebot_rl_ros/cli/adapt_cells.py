"""What `lebot benchmark adapt` compares: faults, methods, and the numbers that decide a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

FAULTS: dict[str, tuple[str, ...]] = {  # name: texts of sim.fault_text
    'dead-knee': ('dead:fl_knee',),
    'dead-hip': ('dead:rl_hip',),
    'slip': ('slip:rr_hip:0.35',),
    'payload-350g': ('payload:0.35',),  # as the shipped adapter's; the base bears it
    'payload': ('payload:0.6',),
    'ice': ('friction:0.25',),  # level: the base bears it
    'ice-slope': ('friction:0.25', 'slope:5'),
}
LEARNERS = ('ppo', 'td3')
KINDS: dict[str, dict[str, Any]] = {  # fields of learning.online.trained.TrainedConfig
    'full': {'kind': 'all'},
    'lora1': {'kind': 'lora', 'r': 1},
    'lora4': {'kind': 'lora', 'r': 4},
    'lora8': {'kind': 'lora', 'r': 8},
    'bias': {'kind': 'bias'},
    'last_layer': {'kind': 'last_layer'},
    'residual': {'kind': 'residual'},
}
PEERS = ('sb3-ppo', 'sb3-sac')
METHODS = (
    'none',
    *(f'{learner}-{kind}' for learner, kind in product(LEARNERS, KINDS)),
    'actor_critic-lora4',
    *PEERS,
)
STREAMS = ('clean', 'hostile')
GATES = ('gate', 'no-gate')
PATHS = ('direct', 'ros')
MARKS = (2.0, 5.0, 10.0)  # robot minutes at which the recovered fraction is told
JUDGE = {'robots': 16, 'seconds': 15.0, 'settle': 5.0, 'seed': 5000}
EXPLORATION = 0.1  # standard deviation, action units: of ours, and of the peers at their start
LEARNING_SEED = 100  # of the robot that learns is this and the run's


def judged_by(fault: str) -> dict[str, Any]:
    """What decides how a fault is judged, beside the code, as JSON gives it back."""
    faults = FAULTS[fault]
    headings = {'headings': 'all'} if any(text.startswith('slope') for text in faults) else {}
    return {'faults': list(faults), 'judge': {**JUDGE, **headings}}


@dataclass(frozen=True)
class Cell:
    """One run: a method learns on one faulty robot."""

    fault: str  # of FAULTS
    method: str  # of METHODS
    seed: int
    minutes: float = 10.0  # of robot time, getting up included
    stream: str = 'clean'
    gate: str = 'gate'
    path: str = 'direct'  # stepped directly, or through the ROS graph

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ValueError: a name that there is none of; the message has the choices.
        """
        for what, choices in (
            ('fault', tuple(FAULTS)), ('method', METHODS), ('stream', STREAMS), ('gate', GATES),
            ('path', PATHS),
        ):  # fmt: skip
            value = getattr(self, what)
            if value not in choices:
                raise ValueError(f'{what} is {value!r}; choices are {", ".join(choices)}')
        if not self.minutes > 0:
            raise ValueError(f'minutes is {self.minutes:g}, must be positive')

    @property
    def learner(self) -> str:
        """Of our own methods, which learner; '' for the others."""
        return '' if self.method == 'none' or self.method in PEERS else self.method.split('-')[0]

    @property
    def trained(self) -> dict[str, Any]:
        """What is trained, as fields of TrainedConfig; for our own methods."""
        return KINDS[self.method.split('-')[1]]

    @property
    def sensible(self) -> bool:
        """Whether it differs from the plain run: who has no session has no stream and no gate.

        Through the graph a clean stream passes the gate; what is no adapter cannot.
        """
        plain = (self.stream, self.gate) == ('clean', 'gate')
        session = bool(self.learner and self.trained['kind'] != 'residual')
        return (plain and session) if self.path == 'ros' else (plain or session)

    @property
    def words(self) -> str:
        """For people, and the stem of its file."""
        extra = [
            word
            for word, usual in ((self.stream, 'clean'), (self.gate, 'gate'), (self.path, 'direct'))
            if word != usual
        ]
        return '.'.join((self.fault, self.method, *extra, f'{self.minutes:g}min', f'{self.seed}'))

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a run beside the code, as JSON gives it back."""
        return {**judged_by(self.fault), 'exploration': EXPLORATION}

    def file(self, folder: Path) -> Path:
        """Where its result lies."""
        return folder / 'cells' / f'{self.words}.json'


def cells(
    faults: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    minutes: float,
    **extra: Any,
) -> list[Cell]:
    """All runs, seeds outermost: what is there after a while can be judged.

    Raises:
        ValueError: a name that there is none of.
    """
    return [
        Cell(fault, method, seed, minutes, **extra)
        for seed in range(seeds)
        for fault in faults
        for method in methods
    ]


def usable(row: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a result was made with the settings of today."""
    return bool(row.get('settings') == cell.settings)
