"""The training loop: one seed gives one policy, and a resumed training is the whole one."""

import argparse
import json

import numpy as np
import pytest
import torch

from lebot_rl_ros.cli import evaluate as evaluate_command
from lebot_rl_ros.cli import train as train_command
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.learning.checkpoint import FILE, load_checkpoint, save_checkpoint
from lebot_rl_ros.learning.ppo import PPOConfig
from lebot_rl_ros.learning.train import TrainConfig, Trainer
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.robot import load_robot

CONFIG = TrainConfig(steps=96, horizon=4, segment=3, hidden=(8, 8), ppo=PPOConfig(minibatch=8))


def make_trainer(config=CONFIG):
    return Trainer([VelocityTask(load_robot(), 2) for _ in range(2)], config)


def finish(trainer, **kwargs):
    for _ in trainer.run(**kwargs):
        pass
    return trainer.network.tensors()


def assert_equal(first, second):
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_one_seed_gives_one_policy():
    first, second = finish(make_trainer()), finish(make_trainer())
    assert_equal(first, second)
    other = finish(make_trainer(TrainConfig(**{**CONFIG.__dict__, 'seed': 1})))
    assert not np.array_equal(first['actor.0.weight'], other['actor.0.weight'])


def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    whole = make_trainer()
    expected = finish(whole)
    assert whole.iteration == 6  # two segments
    half = make_trainer(TrainConfig(**{**CONFIG.__dict__, 'steps': 48}))
    finish(half, at_segment=lambda: save_checkpoint(half, tmp_path))
    resumed = make_trainer()
    load_checkpoint(resumed, tmp_path)
    assert resumed.iteration == 3
    assert_equal(expected, finish(resumed))
    assert resumed.history == whole.history


def test_no_checkpoint_in_the_middle_of_a_segment(tmp_path):
    trainer = make_trainer()
    next(iter(trainer.run()))
    with pytest.raises(ValueError, match='iteration 1 is inside a segment of 3'):
        save_checkpoint(trainer, tmp_path)


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match='not a checkpoint that can be read'):
        load_checkpoint(make_trainer(), tmp_path)
    save_checkpoint(make_trainer(), tmp_path)
    other = make_trainer(TrainConfig(**{**CONFIG.__dict__, 'seed': 7}))
    with pytest.raises(ValueError, match='another training: seed was 0, now 7'):
        load_checkpoint(other, tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match='not a checkpoint that can be read'):
        load_checkpoint(make_trainer(), tmp_path)


def test_log_probs_belong_to_the_sampled_actions():
    trainer = make_trainer()
    trainer._start_segment(0)
    trainer._collect(0)
    rollout = trainer._rollouts[0]
    with torch.no_grad():
        mean, _ = trainer.network(torch.from_numpy(rollout.observations[:-1]))
        distribution = torch.distributions.Normal(mean, trainer.network.log_std.exp())
        expected = distribution.log_prob(torch.from_numpy(rollout.actions)).sum(-1)
    np.testing.assert_allclose(rollout.log_probs, expected.numpy(), atol=1e-4)


def parse(module, *words):
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    return parser.parse_args(words)


def test_commands_train_and_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(
        train_command, 'TrainConfig',
        lambda steps, seed: TrainConfig(steps, horizon=4, segment=2, hidden=(8,), seed=seed),
    )  # fmt: skip
    out, work = tmp_path / 'walk', tmp_path / 'work'
    words = [
        'train',
        'base',
        '--out',
        str(out),
        '--work',
        str(work),
        '--steps',
        '16',
        '--robots',
        '2',
    ]
    assert train_command.run(parse(train_command, *words, '--quiet', '--no-evaluation')) == 0
    _, manifest = load_policy(out)
    assert manifest.training['steps'] == 16
    assert manifest.training['seed'] == 0
    assert manifest.joint_names == load_robot().joint_names
    assert (out / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
    assert list((work / 'tensorboard').iterdir())
    data = tmp_path / 'scores.json'
    words = [
        'evaluate',
        '--policy',
        str(out),
        '--robots',
        '1',
        '--seconds',
        '1.2',
        '--json',
        str(data),
    ]
    status = evaluate_command.run(parse(evaluate_command, *words, '--quiet'))
    scores = json.loads(data.read_text())
    assert status == 1  # who has learned nothing stands still
    assert scores['forward_error_mps'] > 0.06
    assert len(scores['commands']) == 18


def test_train_refuses_an_odd_number_of_robots():
    with pytest.raises(ValueError, match='--robots is 3, must be a multiple of 2'):
        train_command.run(parse(train_command, 'train', 'base', '--robots', '3'))
