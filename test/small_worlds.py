"""Worlds of a few lines in numpy, whose answers are known."""

import numpy as np

from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.rollouts import Rollouts


class SmallWorld:
    """What all have in common: they start over by themselves, at once."""

    name = 'small'

    def __init__(self, count, observation_space, action_space, limit=None):
        self.count, self.limit = count, limit
        self.observation_space, self.action_space = observation_space, action_space
        self.ages, self.returns = np.zeros(count, int), np.zeros(count)
        self.steps, self.finished = 0, []
        self.begin(np.arange(count))
        self.observation = self.observe()

    def step(self, action):
        reward, terminated = self.move(np.asarray(action))
        self.ages += 1
        self.steps += self.count
        self.returns += reward
        cut = self.ages >= (np.inf if self.limit is None else self.limit)
        final = self.observe()
        over = np.flatnonzero(terminated | cut)
        for i in over:
            self.finished.append((float(self.returns[i]), int(self.ages[i])))
        if len(over):
            self.ages[over], self.returns[over] = 0, 0.0
            self.begin(over)
        self.observation = self.observe()
        reward = np.asarray(reward, np.float32)
        return Outcome(self.observation, final, reward, terminated, cut & ~terminated)


class TableWorld(SmallWorld):
    """A finite MDP: ``transitions`` (S, A, S), ``rewards`` (S, A); ``ends`` (S,) are terminal."""

    def __init__(self, transitions, rewards, count, seed=0, ends=None, start=0, limit=None):
        self.cumulated, self.rewards = transitions.cumsum(axis=-1), rewards
        self.ends = np.zeros(len(transitions), bool) if ends is None else ends
        self.rng, self.start = np.random.default_rng(seed), start
        self.states = np.zeros(count, int)
        spaces = Discrete(transitions.shape[0]), Discrete(transitions.shape[1])
        super().__init__(count, *spaces, limit=limit)

    def begin(self, which):
        self.states[which] = self.start

    def observe(self):
        return self.states.copy()

    def move(self, action):
        reward = self.rewards[self.states, action]
        draw = self.rng.random((self.count, 1))
        row = self.cumulated[self.states, action]
        self.states = np.minimum((row <= draw * row[:, -1:]).sum(axis=-1), len(self.rewards) - 1)
        return reward, self.ends[self.states]


class TimeOutChain(TableWorld):
    """Two states in turn, reward 1, cut every third step; worth 1 / (1 - gamma)."""

    def __init__(self, count):
        transitions = np.zeros((2, 2, 2))
        transitions[0, :, 1] = transitions[1, :, 0] = 1.0
        super().__init__(transitions, np.ones((2, 2)), count, limit=3)


class Regulator(SmallWorld):
    """x' = a x + b u + noise, reward -(q x^2 + r u^2), over after ``horizon`` steps."""

    a, b, q, r = 0.9, 0.5, 1.0, 0.3

    def __init__(self, count, horizon, seed=0, start=1.0, noise=0.0):
        self.horizon, self.start, self.noise = horizon, start, noise
        self.rng, self.x = np.random.default_rng(seed), np.zeros(count)
        box = Box((1,), np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))
        super().__init__(count, box, box)

    def begin(self, which):
        self.x[which] = self.start * self.rng.choice([-1.0, 1.0], len(which))

    def observe(self):
        return self.x[:, None].astype(np.float32)

    def move(self, action):
        u = action[:, 0].astype(float)
        reward = -(self.q * self.x**2 + self.r * u**2)
        self.x = self.a * self.x + self.b * u + self.noise * self.rng.standard_normal(self.count)
        return reward, self.ages + 1 >= self.horizon

    def expected_return(self, k, sigma, discount, x0):
        """Return of u = k x + sigma noise, and its derivatives by k and by log sigma.

        The second moment m of x goes on as m' = (a + b k)^2 m + (b sigma)^2 (without noise).
        """
        a, b, q, r = self.a, self.b, self.q, self.r
        m, dm_dk, dm_ds = x0**2, 0.0, 0.0
        value, dk, ds = 0.0, 0.0, 0.0
        for t in range(self.horizon):
            weight = -(discount**t)
            value += weight * (q * m + r * (k**2 * m + sigma**2))
            dk += weight * (q * dm_dk + r * (2 * k * m + k**2 * dm_dk))
            ds += weight * (q * dm_ds + r * (k**2 * dm_ds + 2 * sigma**2))
            closed = a + b * k
            dm_dk = 2 * closed * b * m + closed**2 * dm_dk
            dm_ds = closed**2 * dm_ds + 2 * (b * sigma) ** 2
            m = closed**2 * m + (b * sigma) ** 2
        return value, dk, ds

    def value_function(self, k, sigma, discount):
        """Value of state x with t steps done is -(p[t] x^2 + c[t])."""
        p, c = np.zeros(self.horizon + 1), np.zeros(self.horizon + 1)
        for t in reversed(range(self.horizon)):
            p[t] = self.q + self.r * k**2 + discount * (self.a + self.b * k) ** 2 * p[t + 1]
            c[t] = self.r * sigma**2 + discount * (p[t + 1] * (self.b * sigma) ** 2 + c[t + 1])
        return p, c

    def quadrature(self, k, sigma, x0, nodes, features=None):
        """Episodes at the nodes of a Gauss-Hermite rule over all their noise, and their weights.

        Sums over them are exact expectations of polynomials of a degree below 2 ``nodes``.
        ``features`` makes observations of x (N,) and t.
        """
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        grid = np.meshgrid(*[points] * self.horizon, indexing='ij')
        noise = np.stack([g.ravel() for g in grid])  # (T, N)
        shares = np.meshgrid(*[weights / weights.sum()] * self.horizon, indexing='ij')
        share = np.prod([g.ravel() for g in shares], axis=0)
        features = features or (lambda x, t: x[:, None])
        x, xs, us, rewards = np.full(noise.shape[1], x0), [], [], []
        for t in range(self.horizon):
            u = k * x + sigma * noise[t]
            xs.append(x)
            us.append(u)
            rewards.append(-(self.q * x**2 + self.r * u**2))
            x = self.a * x + self.b * u
        path = np.stack([features(x, t) for t, x in enumerate([*xs, x])])
        terminated = np.zeros(noise.shape, bool)
        terminated[-1] = True
        return share, episodes(path, np.stack(us)[..., None], np.stack(rewards), terminated)


def episodes(path, actions, rewards, terminated, truncated=None):
    """Rollouts of given steps: path (T + 1, N, ...), the others (T, N, ...); nothing was cut."""
    empty = np.empty(0, int)
    floating = np.issubdtype(actions.dtype, np.floating)
    return Rollouts(
        path.astype(np.float32),
        actions.astype(np.float32) if floating else actions,
        np.zeros(rewards.shape, np.float32),
        rewards.astype(np.float32),
        terminated,
        np.zeros_like(terminated) if truncated is None else truncated,
        empty,
        empty,
        path[0, :0].astype(np.float32),
        np.ones(rewards.shape, bool),
    )


def value_iteration(transitions, rewards, discount, ends=None):
    """Q* (S, A) of a finite MDP; ``rewards`` (S, A)."""
    alive = np.ones(len(transitions)) if ends is None else 1.0 - ends
    q = np.zeros(rewards.shape)
    for _ in range(100_000):
        after = rewards + discount * transitions @ (alive * q.max(axis=1))
        if np.abs(after - q).max() < 1e-12:
            return after
        q = after
    raise AssertionError('value iteration did not converge')


def policy_value(transitions, rewards, discount, actions, ends=None):
    """V (S,) of a policy that takes ``actions`` (S,), by the linear equations."""
    alive = np.ones(len(transitions)) if ends is None else 1.0 - ends
    rows = np.arange(len(transitions))
    system = np.eye(len(rows)) - discount * transitions[rows, actions] * alive
    return np.linalg.solve(system, rewards[rows, actions])
