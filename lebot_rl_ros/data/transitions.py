"""Recorded steps of one robot type, as trajectories: what a fine-tuning learns from."""

import io
import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
WIDTHS = {  # dimensions of each array
    'observations': 2, 'actions': 2, 'rewards': 1, 'terminated': 1, 'truncated': 1, 'log_probs': 1,
}  # fmt: skip
FLAGS = ('terminated', 'truncated')


class TransitionsError(ValueError):
    """Data that cannot be used; the message has the file, the array, the value and the rule."""


@dataclass(frozen=True)
class Transitions:
    """N steps in the order of time, one trajectory after another.

    A trajectory ends with a step that is terminated or truncated; the last step of all ends one.
    Arrays are checked and made float32 or bool when it is built.
    """

    observations: Array  # (N, O) raw, as the policy saw them when the step began
    actions: Array  # (N, J) policy units, as sampled
    rewards: Array  # (N,) of the step
    terminated: BoolArray  # (N,) the step ended its trajectory for good, as by a fall
    truncated: BoolArray  # (N,) the recording of the trajectory ended after it; never both
    log_probs: Array | None = None  # (N,) of the sampled actions; without them no importance

    def __post_init__(self) -> None:
        """Check.

        Raises:
            TransitionsError: shapes, lengths, types, flags or values that cannot be.
        """
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None:
                object.__setattr__(self, entry.name, _checked(entry.name, np.asarray(value)))
        size = len(self.observations)
        if not size:
            raise TransitionsError('observations has no steps; expected at least 1')
        for name in WIDTHS:
            value = getattr(self, name)
            if value is not None and len(value) != size:
                raise TransitionsError(
                    f'{name} has {len(value)} steps, observations has {size}; expected as many'
                )
        both = np.flatnonzero(self.terminated & self.truncated)
        if len(both):
            raise TransitionsError(
                f'terminated and truncated are both set at step {both[0]} ({len(both)} in all); '
                f'a trajectory ends one way'
            )
        if not (self.terminated[-1] or self.truncated[-1]):
            raise TransitionsError(
                f'truncated is false at the last step, {size - 1}, and so is terminated; the last '
                f'trajectory must end: truncated, where only the recording ended'
            )

    def __len__(self) -> int:
        """Return the number of steps, N."""
        return len(self.rewards)

    def segments(self) -> list[slice]:
        """Where each trajectory lies."""
        ends = np.flatnonzero(self.terminated | self.truncated) + 1
        return [slice(a, b) for a, b in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    def select(self, segments: list[slice]) -> 'Transitions':
        """Some trajectories, in the order given.

        Raises:
            TransitionsError: none was given.
        """
        index = np.concatenate([np.arange(s.start, s.stop) for s in segments] or [np.arange(0)])
        return Transitions(
            self.observations[index], self.actions[index], self.rewards[index],
            self.terminated[index], self.truncated[index],
            None if self.log_probs is None else self.log_probs[index],
        )  # fmt: skip

    def check(self, observation: int, actions: int, where: str | Path = 'the data') -> None:
        """Refuse data of a robot with other sizes.

        Raises:
            TransitionsError: the message has the array and both widths.
        """
        for name, wanted in (('observations', observation), ('actions', actions)):
            width = getattr(self, name).shape[1]
            if width != wanted:
                raise TransitionsError(
                    f'{where}: {name} has {width} numbers a step, the policy needs {wanted}'
                )


def save_transitions(path: str | Path, data: Transitions) -> Path:
    """Write one compressed ``.npz``, all of it or nothing; folders above it are made.

    Raises:
        TransitionsError: the name does not end in .npz.
    """
    path = Path(path)
    if path.suffix != '.npz':
        raise TransitionsError(f'{path}: expected a name that ends in .npz')
    arrays = {entry.name: getattr(data, entry.name) for entry in fields(data)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with temporary.open('wb') as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                **{name: value for name, value in arrays.items() if value is not None},
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def load_transitions(path: str | Path) -> Transitions:
    """Read what :func:`save_transitions` wrote, or what another program wrote with its names.

    Raises:
        TransitionsError: it cannot be read, has other arrays, objects, or values that cannot be;
            the message names file, array and value.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TransitionsError(f'{path} cannot be read: {error.strerror}') from error
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise TransitionsError(f'{path} is truncated or not an .npz file')
    arrays: dict[str, Any] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        needed = [name for name in WIDTHS if name != 'log_probs']
        missing = [name for name in needed if name not in archive.files]
        unknown = sorted(set(archive.files) - set(WIDTHS))
        if missing or unknown:
            raise TransitionsError(
                f'{path}: missing arrays {missing or "none"}, unknown arrays {unknown or "none"}; '
                f'expected {", ".join(needed)} and, for policy_gradient, log_probs'
            )
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
                raise TransitionsError(f'{path}: {name} cannot be read: {error}') from error
    try:
        return Transitions(**arrays)
    except TransitionsError as error:
        raise TransitionsError(f'{path}: {error}') from error


def _checked(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make an array float32 or bool, once it is what its name says."""
    wanted, kinds = ('bool', 'b') if name in FLAGS else ('float', 'f')
    if value.dtype.kind not in kinds:
        raise TransitionsError(f'{name} is of type {value.dtype}, expected {wanted}')
    if value.ndim != WIDTHS[name] or (value.ndim == 2 and not value.shape[1]):
        expected = '(steps, numbers)' if WIDTHS[name] == 2 else '(steps,)'
        raise TransitionsError(f'{name} has shape {value.shape}, expected {expected}')
    if wanted == 'bool':
        return value
    with np.errstate(over='ignore'):  # what overflows is found as infinity
        value = value.astype(np.float32)
    bad = np.argwhere(~np.isfinite(value))
    if len(bad):
        index = tuple(bad[0].tolist())
        raise TransitionsError(
            f'{name}{list(index)} is {value[index]} ({len(bad)} in all), expected finite numbers'
        )
    return value
