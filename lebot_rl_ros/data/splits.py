"""Which trajectory is for training and which is kept back. Whole trajectories, never steps."""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.joining import trajectories

SHARES = {'train': 0.8, 'validation': 0.1, 'test': 0.1}


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Names of splits and the share of trajectories that each one gets.

    Raises:
        ValueError: a name or a share cannot be, or they do not sum up to 1.
    """
    for name, share in shares.items():
        if not name.isidentifier() or not name.islower():
            raise ValueError(f'split {name!r}: expected small letters, digits and _')
        if not 0.0 <= share <= 1.0:
            raise ValueError(f'split {name} has share {share}, expected one from 0 to 1')
    total = sum(shares.values())
    if abs(total - 1.0) > 1e-6:
        said = ', '.join(f'{name} {share:g}' for name, share in shares.items()) or 'none'
        raise ValueError(f'the shares of the splits are {said}: {total:g} in all, expected 1')
    return {name: float(share) for name, share in shares.items()}


def split_of(seed: int, sha256: str, stamp: int, shares: Mapping[str, float]) -> str:
    """The split of one trajectory: it depends on nothing but itself.

    So it is the same whatever other bags there are, in any order, on any machine.

    Args:
        seed: another one deals the trajectories out in another way.
        sha256: of the bag.
        stamp: ns, of the trajectory's first step.
        shares: of the splits, which sum up to 1.
    """
    digest = hashlib.sha256(f'{seed} {sha256} {stamp}'.encode()).digest()
    place = int.from_bytes(digest[:7], 'little') / (1 << 56)  # [0, 1), exact as a float
    names = sorted(name for name, share in shares.items() if share > 0.0)
    reached = 0.0
    for name in names:
        reached += shares[name]
        if place < reached:
            return name
    return names[-1]  # the shares summed up to a little less than 1


def split_rows(
    rows: npt.NDArray[np.void], sha256: str, seed: int, shares: Mapping[str, float]
) -> dict[str, list[slice]]:
    """Trajectories of one bag's transitions, by split, each list in the order of time."""
    found: dict[str, list[slice]] = {name: [] for name in shares}
    for piece in trajectories(rows):
        stamp = int(rows['stamp'][piece.start])
        found[split_of(seed, sha256, stamp, shares)].append(piece)
    return found


def gather(rows: npt.NDArray[np.void], pieces: list[slice]) -> npt.NDArray[np.void]:
    """A copy of some trajectories, one after another; none follows the one before it."""
    out: npt.NDArray[np.void] = np.concatenate([rows[piece] for piece in pieces] or [rows[:0]])
    starts = np.cumsum([0] + [piece.stop - piece.start for piece in pieces])[:-1]
    # Clocks may begin anew: by stamps alone one trajectory could seem to go on in the next.
    out['follows'][starts] = 0
    return out
