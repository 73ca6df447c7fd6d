"""Numbers that change while a training goes on: learning rates, clip ranges, exploration."""

import math
from dataclasses import dataclass

KINDS = ('constant', 'linear', 'exponential')
FORMS = 'a number, constant:VALUE, linear:START:END[:SHARE] or exponential:START:END[:SHARE]'


@dataclass(frozen=True)
class Schedule:
    """From ``start`` to ``end`` while the progress of a training goes from 0 to ``share``.

    >>> Schedule.parse('linear:3e-4:0')(0.5)
    0.00015
    """

    start: float
    end: float
    kind: str = 'constant'  # one of KINDS
    share: float = 1.0  # of all steps, in (0, 1]; from there on the value is `end`

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'a schedule of kind {self.kind!r}; choices are {", ".join(KINDS)}')
        for name in ('start', 'end'):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f'{name} of a schedule is {getattr(self, name)}, not finite')
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f'share of a schedule is {self.share}, not in (0, 1]')
        if self.kind == 'exponential' and self.start * self.end <= 0.0:
            raise ValueError(
                f'an exponential schedule from {self.start:g} to {self.end:g}: both numbers must '
                f'be positive or both negative'
            )

    @classmethod
    def parse(cls, value: 'str | float | Schedule') -> 'Schedule':
        """Read a number, or words as ``'linear:3e-4:0'`` or ``'exponential:1:0.05:0.5'``.

        Raises:
            ValueError: it is neither; the message gives the forms.
        """
        if isinstance(value, Schedule):
            return value
        kind, *rest = [part.strip() for part in str(value).split(':')]
        try:
            if not rest:
                kind, rest = 'constant', [kind]
            numbers = [float(part) for part in rest]
        except ValueError:
            numbers = []
        if kind not in KINDS or len(numbers) not in ((1,) if kind == 'constant' else (2, 3)):
            raise ValueError(f'{value!r} is no schedule; write {FORMS}')
        if kind == 'constant':
            return cls(numbers[0], numbers[0])
        return cls(numbers[0], numbers[1], kind, *numbers[2:])

    def __call__(self, progress: float) -> float:
        """Value at a share of all steps that are spent, 0 to 1; outside it stays at the ends."""
        x = min(max(progress / self.share, 0.0), 1.0)
        if x == 1.0 or self.kind == 'constant':
            return self.end
        if self.kind == 'linear':
            return self.start + (self.end - self.start) * x
        return self.start * (self.end / self.start) ** x
