"""The runner: rows, segments, resume to the same bits, evaluations, early stops, errors."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.callbacks import BestModel, EarlyStop, Evaluation, evaluate
from lebot_rl_ros.learning.curves import _panels, plot_learning_curve
from lebot_rl_ros.learning.method import Discrete, Method, Outcome
from lebot_rl_ros.learning.run_checkpoint import FILE, Checkpoint, stored_segment
from lebot_rl_ros.learning.runner import Callback, Runner
from lebot_rl_ros.learning.state import (
    load_module_state,
    load_optimiser_state,
    load_rng_state,
    module_state,
    optimiser_state,
    rng_state,
)

torch.set_num_threads(1)  # threads inside torch wait for each other when the machine is busy


class Corridor:
    """States 0 to 4; right is worth 1 and left 0. Slips, by the world's own draws, one in ten."""

    observation_space, action_space = Discrete(5), Discrete(2)

    def __init__(self, count=4, seed=0, name='Corridor', lengths=None):
        self.name, self.count, self.steps, self.finished = name, count, 0, []
        self.lengths = np.full(count, 5) if lengths is None else np.array(lengths)
        self.bonus = np.ones(count)
        self.restart(seed)

    def restart(self, seed):
        self.rng = np.random.default_rng(seed)
        self.age, self.returns = np.zeros(self.count, int), np.zeros(self.count)
        self.observation = np.zeros(self.count, np.int64)

    def step(self, action):
        self.steps += self.count
        right = (np.asarray(action) == 1) ^ (self.rng.random(self.count) < 0.1)
        self.age += 1
        reward = (right * self.bonus).astype(np.float32)
        self.returns += reward
        final = np.minimum(self.age, 4)
        done = self.age >= self.lengths
        for i in np.flatnonzero(done):
            self.finished.append((float(self.returns[i]), int(self.age[i])))
        self.age[done], self.returns[done] = 0, 0.0
        self.observation = np.where(done, 0, final)
        return Outcome(self.observation, final, reward, done, np.zeros_like(done))


@dataclass(frozen=True)
class TinyConfig:
    """Of the method below."""

    learning_rate: float = 0.05
    horizon: int = 10


class Tiny(Method[TinyConfig]):
    """Policy gradient with immediate rewards; exploration by numpy, one torch draw as well."""

    name = 'tiny'
    reference = 'none'

    def __init__(self, config=TinyConfig(), seed=0):
        super().__init__(config, Corridor.observation_space, Corridor.action_space, seed)
        torch.manual_seed(seed)
        self.network = torch.nn.Linear(5, 2)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.seen, self.forgotten = [], []

    def logits(self, observation):
        return self.network(torch.eye(5)[torch.from_numpy(observation)])

    def iterate(self, world):
        self.seen.append(self.progress)
        loss = 0.0
        for _ in range(self.config.horizon):
            logits = self.logits(world.observation) + 0.01 * torch.randn(world.count, 2)
            log_probs = torch.log_softmax(logits, -1)
            chosen = self.rng.random(world.count) < log_probs[:, 1].exp().detach().numpy()
            outcome = world.step(chosen.astype(np.int64))
            log_prob = log_probs[torch.arange(world.count), torch.from_numpy(chosen * 1)]
            loss = loss - (log_prob * torch.from_numpy(outcome.reward - 0.5)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {'policy_loss': float(loss.detach()), 'learning_rate': self.config.learning_rate}

    def act(self, observation, *, explore=False):
        return self.logits(observation).argmax(-1).detach().numpy()

    def forget(self, done):
        self.forgotten.append(done.copy())

    def state(self):
        return {
            **module_state(self.network),
            **optimiser_state(self.optimiser),
            'rng': rng_state(self.rng),
        }

    def load_state(self, state):
        load_module_state(self.network, state)
        load_optimiser_state(self.optimiser, state)
        load_rng_state(self.rng, state['rng'])


class Idle(Tiny):
    """Never takes a step."""

    def iterate(self, world):
        return {}


def same(one, other):
    """Rows are equal but for the seconds."""
    strip = [[{k: v for k, v in row.items() if k != 'seconds'} for row in h] for h in (one, other)]
    return strip[0] == strip[1]


def test_rows_hold_steps_episodes_and_means():
    method, world = Tiny(), Corridor()
    runner = Runner(method, world, 400, rows=5)
    rows = list(runner.run())
    assert rows == runner.history
    assert [row['steps'] for row in rows] == [80, 160, 240, 320, 400]  # two iterations of 40 each
    assert [row['episodes'] for row in rows] == [16, 32, 48, 64, 80]
    assert rows[0]['episode_length'] == 5.0
    assert method.seen == [i / 10 for i in range(10)]
    assert world.finished == []
    assert rows[-1]['learning_rate'] == pytest.approx(0.05)
    assert [row['seconds'] for row in rows] == sorted(row['seconds'] for row in rows)


def test_metrics_between_rows_are_averaged_and_returns_are_the_last_hundred():
    method, world = Tiny(), Corridor()
    losses, iterate = [], method.iterate

    def watched(world):
        metrics = iterate(world)
        losses.append(metrics['policy_loss'])
        return metrics

    method.iterate = watched
    finished = []
    step = world.step

    def counted(action):
        before = len(world.finished)
        outcome = step(action)
        finished.extend(world.finished[before:])
        return outcome

    world.step = counted
    runner = Runner(method, world, 1200, rows=10)
    rows = list(runner.run())
    assert rows[0]['policy_loss'] == pytest.approx(np.mean(losses[:3]), rel=1e-12)
    assert rows[1]['policy_loss'] == pytest.approx(np.mean(losses[3:6]), rel=1e-12)
    assert len(finished) == 240
    assert rows[-1]['episode_return'] == pytest.approx(np.mean([r for r, _ in finished[-100:]]))


def test_it_learns():
    for seed in range(3):
        runner = Runner(Tiny(seed=seed), Corridor(seed=seed), 6000)
        rows = list(runner.run())
        # Five steps, of which 0.9 go as wanted: 4.5; a coin gives 2.5.
        assert rows[-1]['episode_return'] > 4.0
        assert evaluate(runner.method, Corridor(8), 200, seed=1).returns.mean() > 4.3


def test_equal_seeds_repeat_and_others_do_not():
    runs = []
    for seed in (0, 0, 1):
        runner = Runner(Tiny(seed=seed), Corridor(), 2000, segment=500)
        list(runner.run())
        runs.append(runner)
    assert same(runs[0].history, runs[1].history)
    assert not same(runs[0].history, runs[2].history)


def _resumable(folder, steps, **more):
    evaluation = Evaluation.in_world(Corridor(3, name='judge'), 300, 6, seed=7)
    checkpoint = Checkpoint(folder, **more)
    runner = Runner(Tiny(seed=3), Corridor(), steps, [evaluation, checkpoint], segment=600)
    return runner, evaluation, checkpoint


def test_a_resumed_training_gives_the_same_bits(tmp_path):
    whole, judged, _ = _resumable(tmp_path / 'whole', 3000)
    list(whole.run())
    first, _, _ = _resumable(tmp_path / 'part', 3000)
    for row in first.run():  # killed somewhere in the third segment
        if row['steps'] >= 1500:
            break
    second, again, checkpoint = _resumable(tmp_path / 'part', 3000)
    checkpoint.resume(second)
    assert (second.steps, second.segments, second.episodes) == (1200, 2, 240)
    torch.manual_seed(99)  # what another process would have drawn before
    list(second.run())
    assert same(whole.history, second.history)
    ours, theirs = whole.method.state(), second.method.state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert (again.best, again.best_steps, again.count) == (
        judged.best, judged.best_steps, judged.count,
    )  # fmt: skip
    for name, array in judged.best_state.items():
        np.testing.assert_array_equal(array, again.best_state[name])


def test_without_the_restored_optimiser_the_bits_would_differ(tmp_path):
    # So the test above sees what is missing in a checkpoint.
    runners = [_resumable(tmp_path, 3000)[0] for _ in range(2)]
    for row in runners[0].run():
        if row['steps'] >= 1200:
            break
    state = runners[0].method.state()
    list(runners[0].run())
    load_module_state(runners[1].method.network, state)
    load_rng_state(runners[1].method.rng, state['rng'])
    runners[1].steps, runners[1].segments = 1200, 2
    list(runners[1].run())
    name = 'network.weight'
    assert not np.array_equal(runners[0].method.state()[name], runners[1].method.state()[name])


def test_steps_may_be_extended(tmp_path):
    first, _, _ = _resumable(tmp_path, 1200)
    list(first.run())
    second, _, checkpoint = _resumable(tmp_path, 1800)
    checkpoint.resume(second)
    rows = list(second.run())
    assert rows[0]['steps'] > 1200
    assert second.history[-1]['steps'] == 1800
    assert stored_segment(tmp_path) == 600


def test_a_segment_starts_all_episodes_over():
    method, world = Tiny(), Corridor()
    restarts = []
    restart = world.restart
    world.restart = lambda seed: (restarts.append((world.steps, seed)), restart(seed))
    list(Runner(method, world, 1000, segment=400).run())
    assert [steps for steps, _ in restarts] == [0, 400, 800]
    assert len({seed for _, seed in restarts}) == 3
    assert [mask.tolist() for mask in method.forgotten] == [[True] * 4] * 3


def test_a_method_is_told_to_start_over_and_an_evaluation_does_not():
    method, world, told = Tiny(), Corridor(), []
    method.start_over = lambda: told.append(world.steps)
    evaluation = Evaluation.in_world(Corridor(3), 100, 5, seed=1)
    list(Runner(method, world, 1000, [evaluation], segment=400).run())
    assert told == [0, 400, 800]


def test_an_iteration_longer_than_a_segment_is_one_segment():
    runner = Runner(Tiny(TinyConfig(horizon=100)), Corridor(), 1600, segment=150)
    list(runner.run())
    assert runner.segments == 1600 // 150
    assert [row['steps'] for row in runner.history] == [400, 800, 1200, 1600]


@pytest.mark.parametrize(
    ('changed', 'complaint'),
    [
        ({'env': 'other'}, r'env was Corridor, now other'),
        ({'seed': 4}, 'seed was 3, now 4'),
        ({'config': TinyConfig(learning_rate=0.1)}, 'config was .*0.05.*, now .*0.1'),
        ({'segment': 500}, 'segment was 600, now 500'),
        ({'count': 2}, 'envs was 4, now 2'),
        ({'note': 'b'}, 'note was a, now b'),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changed, complaint):
    runner = Runner(Tiny(seed=3), Corridor(), 1200, [Checkpoint(tmp_path, note='a')], segment=600)
    list(runner.run())
    checkpoint = Checkpoint(tmp_path, note=changed.get('note', 'a'))
    method = Tiny(changed.get('config', TinyConfig()), seed=changed.get('seed', 3))
    world = Corridor(changed.get('count', 4), name=changed.get('env', 'Corridor'))
    other = Runner(method, world, 1200, [checkpoint], segment=changed.get('segment', 600))
    with pytest.raises(ValueError, match=f'belongs to another training: {complaint}'):
        checkpoint.resume(other)


def test_a_damaged_or_missing_checkpoint_is_named(tmp_path):
    runner, _, checkpoint = _resumable(tmp_path, 1200)
    with pytest.raises(ValueError, match='is not a checkpoint that can be read'):
        checkpoint.resume(runner)
    list(runner.run())
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-100])
    fresh, _, checkpoint = _resumable(tmp_path, 1200)
    with pytest.raises(ValueError, match=f'{FILE} is not a checkpoint that can be read'):
        checkpoint.resume(fresh)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]  # no temporary is left
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_segments_has_no_checkpoints(tmp_path):
    runner = Runner(Tiny(), Corridor(), 100, [Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match='the runner has none'):
        list(runner.run())


def test_an_evaluation_disturbs_nothing():
    runs = []
    for callbacks in ([], [Evaluation.in_world(Corridor(3), 100, 5, seed=1)]):
        runner = Runner(Tiny(), Corridor(), 1000, callbacks)
        list(runner.run())
        runs.append(runner)
    plain = [{k: v for k, v in row.items() if 'eval' not in k} for row in runs[1].history]
    assert any('eval_return' in row for row in runs[1].history)
    assert same(runs[0].history, plain)


def test_every_environment_plays_its_share():
    # Episodes of 2 and of 20 steps: the first six to end would be five short ones and a long one.
    world = Corridor(2, lengths=[2, 20])
    scores = evaluate(Tiny(), world, 6, seed=0)
    assert sorted(scores.lengths) == [2, 2, 2, 20, 20, 20]
    assert world.finished == []
    assert sorted(evaluate(Tiny(), world, 3, seed=0).lengths) == [2, 2, 20]
    assert sorted(evaluate(Tiny(), world, 1, seed=0).lengths) == [2]


def test_evaluations_repeat_and_forget():
    method, world = Tiny(), Corridor(3)
    one, two = (evaluate(method, world, 30, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.returns, two.returns)
    assert not np.array_equal(one.returns, evaluate(method, world, 30, seed=6).returns)
    assert method.forgotten[0].tolist() == [True] * 3
    assert any(mask.any() for mask in method.forgotten[1:])
    metrics = one.metrics()
    assert metrics['eval_return'] == pytest.approx(one.returns.mean())
    assert metrics['eval_return_std'] == pytest.approx(one.returns.std())


def test_an_endless_evaluation_ends(monkeypatch):
    monkeypatch.setattr('lebot_rl_ros.learning.callbacks.LONGEST', 50)
    with pytest.raises(ValueError, match='Corridor: episodes did not end within 50 steps'):
        evaluate(Tiny(), Corridor(2, lengths=[5, 1000]), 2, seed=0)
    with pytest.raises(ValueError, match='0 episodes'):
        evaluate(Tiny(), Corridor(), 0, seed=0)


def _scored(values, every=40):
    """An evaluation that gives these returns, one after another."""
    left = list(values)
    return Evaluation(lambda method: {'eval_return': left.pop(0)}, every)


def test_the_best_is_kept_and_written_when_it_comes():
    evaluation, written = _scored([1.0, 3.0, 2.0, 3.0, 5.0]), []
    method = Tiny()
    states = {}

    class Watch(Callback):
        def at_row(self, run, row):
            states[run.steps] = method.state()['network.weight'].copy()

    best = BestModel(evaluation, lambda run, state: written.append((run.steps, state)))
    runner = Runner(method, Corridor(), 200, [evaluation, best, Watch()])
    rows = list(runner.run())
    assert [row['eval_return'] for row in rows] == [1.0, 3.0, 2.0, 3.0, 5.0]
    assert [steps for steps, _ in written] == [40, 80, 200]  # an equal one is no better
    assert (evaluation.best, evaluation.best_steps, evaluation.since_best) == (5.0, 200, 0)
    for steps, state in written:  # copies, not views of what goes on to change
        np.testing.assert_array_equal(state['network.weight'], states[steps])
    assert not np.array_equal(states[40], states[80])


def test_there_is_an_evaluation_at_the_end():
    runner = Runner(Tiny(), Corridor(), 200, [_scored([1.0, 2.0], every=160)], rows=1)
    assert [row.get('eval_return') for row in runner.run()] == [1.0]
    runner = Runner(Tiny(), Corridor(), 200, [_scored([1.0, 2.0], every=160)])
    evaluated = {row['steps'] for row in runner.run() if 'eval_return' in row}
    assert evaluated == {160.0, 200.0}


def test_an_early_stop_at_a_target():
    evaluation = _scored([1.0, 4.0, 9.0, 9.0])
    runner = Runner(Tiny(), Corridor(), 4000, [evaluation, EarlyStop(evaluation, target=8.0)])
    list(runner.run())
    assert runner.steps == 120
    assert runner.stopped == 'return 9 reached the target 8'


def test_an_early_stop_without_improvement():
    evaluation = _scored([1.0, 4.0, 3.0, 5.0, 5.0, 4.0, 9.0])
    runner = Runner(Tiny(), Corridor(), 4000, [evaluation, EarlyStop(evaluation, patience=2)])
    list(runner.run())
    assert runner.steps == 240
    assert runner.stopped == '2 evaluations were no better than 5'
    with pytest.raises(ValueError, match='needs a target, or patience'):
        EarlyStop(evaluation)
    with pytest.raises(ValueError, match='patience is 0'):
        EarlyStop(evaluation, patience=0)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_a_loss_that_is_not_finite_is_named(value):
    method = Tiny()
    iterate = method.iterate
    method.iterate = lambda world: {
        **iterate(world), **({'value_loss': value} if world.steps == 120 else {})
    }  # fmt: skip
    message = f'tiny on Corridor: value_loss is {value} after 120 steps'
    with pytest.raises(ValueError, match=message):
        list(Runner(method, Corridor(), 400).run())


def test_numbers_that_make_no_sense():
    for numbers in ({'steps': 0}, {'segment': -1}, {'rows': 0}):
        with pytest.raises(ValueError, match='must be at least 1, 0 and 1'):
            Runner(Tiny(), Corridor(), **{'steps': 10, **numbers})
    with pytest.raises(ValueError, match='an evaluation every 0 steps'):
        Evaluation(lambda method: {}, 0)


def test_a_world_that_cannot_start_over_has_no_segments():
    class Onward:
        name, count = 'Onward', 1

    with pytest.raises(ValueError, match=r'Onward has no `restart\(seed\)`'):
        Runner(Tiny(), Onward(), 10, segment=5)


def test_a_method_that_takes_no_steps_is_ended(monkeypatch):
    monkeypatch.setattr('lebot_rl_ros.learning.runner.IDLE', 20)
    with pytest.raises(ValueError, match='tiny took no step in 20 iterations'):
        list(Runner(Idle(), Corridor(), 10).run())


def test_a_learning_curve_shows_what_changes(tmp_path):
    runner = Runner(Tiny(), Corridor(), 400, [_scored(range(10))])
    list(runner.run())
    names = _panels([*runner.history, {'steps': 401.0, 'odd': 1.0}, {'steps': 402.0, 'odd': 2.0}])
    # The length and the rate are constant; known names come before others.
    assert names == ['policy_loss', 'odd']
    plot_learning_curve(runner.history, tmp_path / 'a' / 'curve.png', 'tiny', target=4.0)
    assert (tmp_path / 'a' / 'curve.png').read_bytes().startswith(b'\x89PNG')
    plot_learning_curve([{'steps': 1.0}], tmp_path / 'few.png')  # before any episode has ended
    with pytest.raises(ValueError, match='no rows'):
        plot_learning_curve([], tmp_path / 'none.png')


class Careless(Tiny):
    """Draws from torch when it acts, and hands out what goes on to change."""

    def act(self, observation, *, explore=False):
        torch.rand(3)
        return super().act(observation)

    def state(self):
        return {'network.weight': self.network.weight.detach().numpy()}


def test_an_evaluation_disturbs_no_draws_of_torch_and_keeps_copies():
    evaluation = _scored([1.0, 0.0], every=100)
    judge = Evaluation.in_world(Corridor(3), 100, 5, seed=1)
    runs = []
    for callbacks in ([], [judge], [evaluation]):
        runner = Runner(Careless(), Corridor(), 200, callbacks)
        list(runner.run())
        runs.append(runner)
    weights = [runner.method.state()['network.weight'] for runner in runs]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert evaluation.best_steps == 120
    assert not np.array_equal(evaluation.best_state['network.weight'], weights[2])
