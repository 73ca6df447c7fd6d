"""Steps and their rewards, joined exactly by stamp into transitions. No clock, no ROS.

A transition goes out when its step, its reward and the step after it are there, in the order of
time. What is missing is known to be lost once the same topic has brought a row that is ``window``
periods newer. A hole is never bridged: the row before it is truncated, the one behind it does not
follow. The order in which rows arrive does not matter within the window, nor whether they are
given one by one or a whole bag at once (both topics, then :meth:`Joiner.take`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.arrivals import NEVER, Arrivals, find, inside_another
from lebot_rl_ros.data.octets import difference, finite, offset, stamps_of, to_octets
from lebot_rl_ros.data.rows import reward_dtype, step_dtype, transition_dtype

Array = npt.NDArray[Any]

TRACK = 2  # of safety.Mode: the driver followed the policy
COUNTS = (
    'joined',  # transitions that went out
    'gaps',  # of those, without the step just before them; the first of a stream is none
    'lost_steps',  # rewards without a step that could be used
    'lost_rewards',  # steps without a reward that could be used
    'duplicates',  # rows that came again, bit for bit
    'conflicting',  # rows that came again with other content: the first one counts
    'late',  # rows older than the window, or than what already went out
    'foreign',  # rows of another base, of other widths, or with stamps that cannot be
    'nonfinite',  # rows left out as a number in them is NaN or infinite
    'restarts',  # the clock jumped back, as by a reset of the simulator
)


class Joiner:
    """Rows of `policy/steps` and `reward/rewards` go in, rows of `transition_dtype` come out."""

    def __init__(
        self,
        observation: int,
        joints: int,
        terms: Sequence[str],
        *,
        period: int,
        base_sha256: str = '',
        window: int = 10,
        restart: int = 50,
        capacity: int = 500,
    ) -> None:
        """Wait for rows of these widths.

        Args:
            observation: numbers in one, O.
            joints: numbers in an action, J.
            terms: of the reward, in the order of its record.
            period: ns of a control step.
            base_sha256: hexadecimal; steps of other bases are left out. '' takes all.
            window: periods that a row may come behind a newer one of its topic.
            restart: periods; a stamp further back than that begins a new stream. Steps that take
                longer cannot be.
            capacity: stamps that wait at most, as when one of the two topics has died.

        Raises:
            ValueError: a number is not positive, or ``restart`` is not above ``window``.
        """
        if min(observation, joints, period, window, capacity) < 1 or restart <= window:
            raise ValueError(
                f'observation {observation}, joints {joints}, period {period}, window {window} '
                f'and capacity {capacity} must be positive, restart {restart} above the window'
            )
        self.dtype = transition_dtype(observation, joints, terms)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.refusal = ''  # why rows were foreign, the last time
        self._base = np.frombuffer(bytes.fromhex(base_sha256), np.uint8)
        self._longest, self._capacity = restart * period, capacity
        self._step, self._reward = step_dtype(observation, joints), reward_dtype(terms)
        self._terms = [(terms[0], '')] if terms else []
        self._steps, self._rewards = (
            Arrivals(dtype.itemsize, window * period, restart * period, self.counts)
            for dtype in (self._step, self._reward)
        )
        self._begin()

    @classmethod
    def fitting(cls, step: np.dtype, reward: np.dtype, **settings: Any) -> 'Joiner':
        """One for the rows of two topics, as their messages describe them.

        Raises:
            ValueError: they are no rows of steps and rewards; the message names a field.
        """
        fixed = reward_dtype(()).names or ()
        terms = [name for name in reward.names or () if name not in fixed]
        try:
            observation, joints = (step[name].shape[0] for name in ('observation', 'action'))
        except (KeyError, IndexError) as error:
            raise ValueError(f'policy/steps: {difference(step, step_dtype(1, 1))}') from error
        if not set(fixed) <= set(reward.names or ()):
            raise ValueError(f'reward/rewards: {difference(reward, reward_dtype(terms))}')
        return cls(observation, joints, terms, **settings)

    def steps(self, rows: Array) -> None:
        """Take rows of `step_dtype`, one or many, in any order."""
        taken = self._taken(rows, self._step, 'policy/steps')
        stamps, ends = stamps_of(taken), stamps_of(taken, 8)
        fits = (ends > stamps) & (ends - stamps <= self._longest)
        if not fits.all():
            self.refusal = f'policy/steps: a step takes {(ends - stamps)[~fits][0] / 1e9} s'
        if len(self._base):
            ours = (taken[:, -32:] == self._base).all(axis=1)  # base_sha256 is the last field
            if not ours.all():
                other, base = (b.tobytes().hex()[:12] for b in (taken[~ours][0, -32:], self._base))
                self.refusal = f'policy/steps: made by base {other}, expected {base}'
                fits &= ours
        good = finite(taken, self._step, ('observation', 'mode'), ('blend', 'base_sha256'))
        self.counts['foreign'] += int((~fits).sum())
        self.counts['nonfinite'] += int((fits & ~good).sum())
        self._steps.put(taken, stamps, fits & good)

    def rewards(self, rows: Array) -> None:
        """Take rows of `reward_dtype`, one or many, in any order."""
        taken = self._taken(rows, self._reward, 'reward/rewards')
        good = finite(taken, self._reward, ('reward', 'terminated'), *self._terms)
        self.counts['nonfinite'] += int((~good).sum())
        self._rewards.put(taken, stamps_of(taken), good)

    def take(self) -> Array:
        """Transitions (N,) that are complete since the last call, in the order of their stamps."""
        out: list[Array] = []
        while True:
            jumps = [topic.admit(self._done) for topic in (self._steps, self._rewards)]
            out.append(self._join(final=any(jumps)))
            if not any(jumps):
                return out[0] if len(out) == 1 else np.concatenate(out)
            self.counts['restarts'] += 1
            former = [topic.newest for topic in (self._steps, self._rewards)]
            self._begin(*(NEVER if jump else at for jump, at in zip(jumps, former, strict=True)))

    def flush(self) -> Array:
        """The stream is over: all that can still go out (N,). What comes next is another one."""
        out = np.concatenate((self.take(), self._join(final=True)))
        self._begin()
        return out

    def _begin(self, former_step: int = NEVER, former_reward: int = NEVER) -> None:
        self._done = self._expected = self._last = NEVER
        self._learnable = False  # the last row that went out
        self._steps.begin(former_step)
        self._rewards.begin(former_reward)

    def _taken(self, rows: Array, dtype: np.dtype, topic: str) -> Array:
        """Rows as octets, copied: senders use their memory again. None of them if foreign."""
        rows = np.atleast_1d(rows)
        reason = difference(rows.dtype, dtype) if rows.dtype != dtype else ''
        if reason:
            self.counts['foreign'] += len(rows)
            self.refusal = f'{topic}: {reason}'
            return np.zeros((0, dtype.itemsize), np.uint8)
        return to_octets(rows, dtype)

    def _join(self, *, final: bool) -> Array:
        """Deal with the stamps, from the oldest on, of which all is known that ever will be."""
        steps, rewards = self._steps, self._rewards
        first, first_reward = (
            int(topic.stamps.searchsorted(self._done, side='right')) for topic in (steps, rewards)
        )
        ours, theirs = steps.stamps[first:], rewards.stamps[first_reward:]
        if not len(ours) and not len(theirs):
            return np.zeros(0, self.dtype)
        edge, edge_reward = (-NEVER, -NEVER) if final else (steps.edge, rewards.edge)
        keys = np.unique(np.concatenate((ours, theirs)))
        step, has_step = find(ours, keys)
        following = np.full(len(keys), NEVER)
        following[has_step] = stamps_of(steps.rows[first:], 8)
        within = inside_another(keys, following, self._expected)
        if within is not None:
            every, stay = keys, ~within
            keys, following, step, has_step = (p[stay] for p in (keys, following, step, has_step))
        reward, has_reward = find(theirs, keys)
        _, known = find(ours, following)
        whole = has_step & has_reward
        before = np.concatenate(([self._expected], following[:-1]))
        ready = (keys == before) | (keys <= min(edge, edge_reward))
        ready &= np.where(
            whole,
            known | (following <= edge),
            keys <= np.where(has_step, edge_reward, edge),
        )
        count = len(ready) if ready.all() else int(ready.argmin())
        count = max(count, len(ready) - self._capacity)
        if not count:
            return np.zeros(0, self.dtype)
        self._done, self._expected = int(keys[count - 1]), int(following[count - 1])
        if within is not None:
            passed = every[within & (every < self._done)]
            self.counts['late'] += sum(int(np.isin(t, passed).sum()) for t in (ours, theirs))
        whole = whole[:count]
        self.counts['lost_steps'] += int((~has_step[:count]).sum())
        self.counts['lost_rewards'] += int((has_step[:count] & ~whole).sum())
        out = self._transitions(
            steps.rows[first + step[:count][whole]],
            rewards.rows[first_reward + reward[:count][whole]],
            following[:count][whole],
            known[:count][whole],
        )
        steps.forget(self._done)
        rewards.forget(self._done)
        return out

    def _transitions(self, steps: Array, rewards: Array, ends: Array, known: Array) -> Array:
        """Rows of the dtype from rows of both topics, as octets; ``ends``: (N,) next stamps."""
        out = np.zeros(len(steps), self.dtype)
        if not len(out):
            return out
        octets = out.view(np.uint8).reshape(len(out), -1)
        seen, at, here = 16, offset(self._step, 'command'), offset(self.dtype, 'command')
        earned = offset(self.dtype, 'reward')
        # The fields lie in the same order on both sides: whole stretches are copied.
        octets[:, seen:at], octets[:, here:earned] = steps[:, seen:at], steps[:, at:]
        octets[:, earned : earned + 6], octets[:, earned + 8 :] = rewards[:, 8:14], rewards[:, 14:]
        out['stamp'], out['next_stamp'], out['known'] = stamps_of(steps), ends, known
        which = self._steps.stamps.searchsorted(ends[known])
        octets[known, at:here] = self._steps.rows[which, seen:at]
        fell = out['terminated'] != 0
        out['truncated'] = ((out['truncated'] != 0) | ~known) & ~fell
        in_time = out['stamp'] == np.concatenate(([self._last], ends[:-1]))
        self.counts['gaps'] += int((~in_time).sum()) - (self._last == NEVER)
        self.counts['joined'] += len(out)
        mask = learnable(out)
        out['follows'] = in_time & np.concatenate(([self._learnable], mask[:-1]))
        self._last, self._learnable = int(ends[-1]), bool(mask[-1])
        return out


def learnable(rows: Array) -> npt.NDArray[np.bool_]:
    """Mask (N,): the driver followed the policy, and where that led to is known, or a fall."""
    followed: npt.NDArray[np.bool_] = rows['mode'] == TRACK
    return followed & ((rows['known'] != 0) | (rows['terminated'] != 0))


def trajectories(rows: Array) -> list[slice]:
    """Runs of steps that follow each other without a cut; rows may have been masked before."""
    if not len(rows):
        return []
    ended = (rows['terminated'][:-1] != 0) | (rows['truncated'][:-1] != 0)
    cut = ended | (rows['next_stamp'][:-1] != rows['stamp'][1:]) | (rows['follows'][1:] == 0)
    edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(rows)]
    return [slice(a, b) for a, b in pairwise(edges)]
