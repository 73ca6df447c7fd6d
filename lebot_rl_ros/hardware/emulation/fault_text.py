"""Faults of wires and devices as text: ``KIND[:WHERE][:VALUE]@START[-END]``, robot seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Kind: default value as text (empty: it takes none), what it is.
WIRE_FAULTS: dict[str, tuple[str, str]] = {
    'drop': ('0.1', 'this share of the answers (of a joint, or of all) is lost'),
    'late': ('15', 'answers (of a joint, or of all) come this many ms late'),
    'corrupt': ('0.1', 'this share of the answers (of a joint, of all, of imu) is damaged'),
    'duplicate': ('0.1', 'this share of the answers (of a joint, or of all) comes twice'),
    'echo': ('', 'requests come back, as from a half-duplex adapter without a switch'),
    'mute': ('', 'the servo of a joint has lost power'),
    'clash': ('', 'the servo of a joint answers to the id of a second joint'),
    'baud': ('', 'the servos talk at another rate than the port'),
    'unplug': ('', 'the cable of bus, imu or camera is out'),
    'overload': ('', 'the servo of a joint takes its load as over its limit'),
    'heat': ('85', 'the servo of a joint is this hot, degC'),
    'brownout': ('4', 'the supply of the servos drops to this many V'),
    'silence': ('', 'the imu sends nothing'),
    'freeze': ('', 'the picture of the camera stands still'),
}
SHARES = ('drop', 'corrupt', 'duplicate')
JOINT_OR_ALL = ('drop', 'late', 'corrupt', 'duplicate')
JOINT = ('mute', 'clash', 'overload', 'heat')
DEVICES = {
    'unplug': ('bus', 'imu', 'camera'),
    'silence': ('imu',),
    'freeze': ('camera',),
    'corrupt': ('imu',),
}


@dataclass(frozen=True)
class WireFault:
    """One fault. What a kind has no use for is empty, None or infinite."""

    kind: str
    where: str = ''  # joint or device; empty: all servos
    other: str = ''  # joint, of clash
    value: float | None = None
    start: float = 0.0  # s
    end: float = math.inf  # s; inf: it lasts until cleared

    def __str__(self) -> str:
        """Return the form that :func:`parse_wire_fault` reads."""
        words = [self.kind, self.where, self.other]
        words.append('' if self.value is None else _digits(self.value))
        end = '' if math.isinf(self.end) else f'-{_digits(self.end)}'
        return f'{":".join(word for word in words if word)}@{_digits(self.start)}{end}'

    def active(self, time: float) -> bool:
        """Whether it is there at a time, s."""
        return self.start <= time < self.end


def _digits(number: float) -> str:
    """Digits, without an exponent, that read back as the same number."""
    return np.format_float_positional(number, trim='-')


def parse_wire_fault(text: str, joint_names: Sequence[str]) -> WireFault:
    """Read ``drop:fl_knee:0.2@5-8``, ``late:30@4``, ``clash:fl_hip:fl_knee@3``, ``unplug:bus``.

    Raises:
        ValueError: unknown kind, place, or a number that is none; the message gives the choices.
    """
    body, timed, times = text.partition('@')
    kind, *rest = body.split(':')
    if kind not in WIRE_FAULTS:
        raise ValueError(
            f'fault {text!r}: unknown kind {kind!r}; kinds are {", ".join(WIRE_FAULTS)}'
        )
    places = (*(joint_names if kind in JOINT_OR_ALL + JOINT else ()), *DEVICES.get(kind, ()))
    optional = kind in JOINT_OR_ALL
    where = other = ''
    if places and rest and (rest[0] in places or not (optional and _is_number(rest[0]))):
        where = rest.pop(0)
    if where not in places and (places and not (optional and not where)):
        raise ValueError(f'fault {text!r}: {kind} of {where!r}; choose from {", ".join(places)}')
    if kind == 'clash':
        other = rest.pop(0) if rest else ''
        choices = [name for name in joint_names if name != where]
        if other not in choices:
            raise ValueError(
                f'fault {text!r}: clash of {where} with {other!r}; '
                f'choose another joint: {", ".join(choices)}'
            )
    default = WIRE_FAULTS[kind][0]
    if len(rest) > (1 if default else 0):
        raise ValueError(
            f'fault {text!r}: {kind} takes {"one" if default else "no"} number, found {rest}'
        )
    value = _number(text, rest[0] if rest else default) if default else None
    _check(text, kind, value)
    start, _, end = times.partition('-')
    begin = _number(text, start) if timed else 0.0
    finish = _number(text, end) if end else math.inf
    if not 0 <= begin < finish:
        raise ValueError(
            f'fault {text!r}: it must begin at 0 s or later, and end after that; '
            f'found {begin:g} to {finish:g}'
        )
    return WireFault(kind, where, other, value, begin, finish)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, word: str) -> float:
    if not _is_number(word) or not math.isfinite(float(word)):
        raise ValueError(f'fault {text!r}: {word!r} is no number, as in drop:0.2@5-8')
    return float(word)


def _check(text: str, kind: str, value: float | None) -> None:
    if value is None:
        return
    if kind in SHARES and not 0 <= value <= 1:
        raise ValueError(f'fault {text!r}: a share is 0 to 1, found {value:g}')
    if value < 0 and kind != 'heat':
        raise ValueError(f'fault {text!r}: {kind} is {value:g}, must be 0 or more')
