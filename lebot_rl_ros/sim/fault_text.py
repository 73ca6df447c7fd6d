"""Faults as text: ``kind:where[:value]@time``, without physics, for quick checks by a command."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

JOINT_FAULTS = {
    'dead': ('', 'the servo gives no torque'),
    'weak': ('0.4', 'the servo has this share of its torque'),
    'stuck': ('', 'the joint does not turn'),
    'slip': ('0.35', 'the horn has slipped by this many rad'),
}
WORLD_FAULTS = {
    'payload': ('0.35', 'kg strapped on the left front of its back'),
    'sag': ('6.0', 'V of the supply'),
    'friction': ('0.25', 'of the floor'),
    'slope': ('6', 'degrees by which the floor now rises, towards where x pointed at the start'),
}


@dataclass(frozen=True)
class Fault:
    """One fault. ``joint`` is empty for faults of the world."""

    kind: str
    joint: str
    value: float
    time: float  # s

    def __str__(self) -> str:
        """Return the form that :func:`parse_fault` reads."""
        where = f':{self.joint}' if self.joint else ''
        value = f':{_shortest(self.value)}' if not math.isnan(self.value) else ''
        return f'{self.kind}{where}{value}@{_shortest(self.time)}'


def _shortest(number: float) -> str:
    """Digits that read back as the same number."""
    short = f'{number:g}'
    return short if float(short) == number else repr(number)


def parse_fault(text: str, joint_names: Sequence[str]) -> Fault:
    """Read ``dead:fl_knee@20``, ``slip:rr_hip:0.35@10``, ``payload:0.3@10``, ``friction:0.2``.

    Raises:
        ValueError: unknown kind or joint, or a number that is none; the message gives the choices.
    """
    body, _, time = text.partition('@')
    kind, *rest = body.split(':')
    if kind not in JOINT_FAULTS and kind not in WORLD_FAULTS:
        raise ValueError(
            f'fault {text!r}: unknown kind {kind!r}; '
            f'kinds are {", ".join([*JOINT_FAULTS, *WORLD_FAULTS])}'
        )
    joint = ''
    if kind in JOINT_FAULTS:
        joint = rest.pop(0) if rest else ''
        if joint not in joint_names:
            raise ValueError(
                f'fault {text!r}: unknown joint {joint!r}; joints are {", ".join(joint_names)}'
            )
    default = (JOINT_FAULTS | WORLD_FAULTS)[kind][0]
    if len(rest) > 1 or (rest and not default):
        raise ValueError(
            f'fault {text!r}: {kind} takes {"one" if default else "no"} number, found {rest}'
        )
    try:
        value = float(rest[0] if rest else default or 'nan')
        start = float(time or 0.0)
    except ValueError:
        raise ValueError(f'fault {text!r}: expected numbers, as in slip:rr_hip:0.35@10') from None
    if start < 0 or not math.isfinite(start) or (default and not math.isfinite(value)):
        raise ValueError(f'fault {text!r}: time must be 0 or more, and the value finite')
    if value < 0 and kind != 'slip':
        raise ValueError(f'fault {text!r}: {kind} is {value:g}, must be 0 or more')
    return Fault(kind, joint, value, start)
