"""Makes the tables of docs/adapters.md and docs/adapters.json from the shipped adapters.

python docs/adapters_table.py

The rows of full fine-tuning need the policies that `lebot train adapter NAME --full` writes; of
several, trained at different rates into runs/full-NAME-*, the best is shown.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.envs.adapter_scores import SEEDS, Comparison, TaskScore, means, score_seeds
from lebot_rl_ros.envs.recipes import Judging, load_recipe, recipe_names
from lebot_rl_ros.policy.adapter_files import MODEL
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import load_robot, share_path

PAGE, DATA = (Path(__file__).with_name(f'adapters.{end}') for end in ('md', 'json'))
RUNS = Path('runs')
STANDARD = Judging(((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.5, 0.0), (0.2, 0.5), (0.2, -0.5)))
CROSS_SEEDS = SEEDS[:3]


def main() -> None:
    """Measure, write the data, put the tables into the page."""
    robot, names = load_robot(), recipe_names()
    base, manifest = load_policy(share_path('policies', 'walk'))
    own = task_config(robot, manifest, 'policies/walk')
    store = AdapterStore(share_path('adapters'))
    policies = {'base': PolicyRuntime(base, manifest)}
    data: dict[str, Any] = {'own': {}, 'cross': {}}
    tasks = {name: (load_recipe(name).task_for(own), load_recipe(name).judging) for name in names}
    tasks['standard'] = (own, STANDARD)

    def judge(who: str, task: str, seeds: Sequence[int]) -> tuple[TaskScore, ...]:
        config, judging = tasks[task]
        return score_seeds(robot, policies[who].act_many, config, judging, seeds)

    for name in names:
        parts = store.load(name)
        adapter = parts[0][0]
        adapter.check(manifest)
        policies[name] = PolicyRuntime(merge(base, parts), manifest)
        file = store.folder(name, adapter.manifest.version) / MODEL
        before = judge('base', name, SEEDS)
        row: dict[str, Any] = {
            'version': adapter.manifest.version,
            'numbers': adapter.count,
            'share_of_actor': adapter.count / _actor_size(base),
            'kilobytes': file.stat().st_size / 1000.0,
            'training_seconds': adapter.manifest.training['seconds'],
            'training_steps': adapter.manifest.training['steps'],
            'adapter': Comparison(SEEDS, before, judge(name, name, SEEDS)).as_data(),
        }
        for folder in sorted(RUNS.glob(f'full-{name}-*/policy')):  # perhaps at several rates
            policies['full'] = PolicyRuntime.load(folder)
            full = Comparison(SEEDS, before, judge('full', name, SEEDS)).as_data()
            full['learning_rate'] = policies['full'].manifest.training['learning_rate']
            row.setdefault('all_full', []).append(full)
        if 'all_full' in row:
            row['full'] = max(row['all_full'], key=lambda full: full['improvement'])
        data['own'][name] = row
        print(name, f'{row["adapter"]["improvement"]:.1%}', flush=True)
    for who in ('base', *names):
        data['cross'][who] = {
            task: means(judge(who, task, CROSS_SEEDS)) for task in (*names, 'standard')
        }
        print(who, {task: round(row['error'], 4) for task, row in data['cross'][who].items()})
    data['standard_commands'] = asdict(STANDARD)
    DATA.write_text(json.dumps(data, indent=2) + '\n')
    write_tables(data)


def write_tables(data: dict[str, Any]) -> None:
    """Put the tables between their markers in the page."""
    text = PAGE.read_text()
    makers: dict[str, Callable[[dict[str, Any]], list[str]]] = {'own': _own, 'cross': _cross}
    for key, maker in makers.items():
        start, end = f'<!-- {key} -->\n', f'<!-- /{key} -->'
        head, _, rest = text.partition(start)
        _, _, tail = rest.partition(end)
        text = head + start + '\n'.join(maker(data)) + '\n' + end + tail
    PAGE.write_text(text)


def _own(data: dict[str, Any]) -> list[str]:
    lines = [
        '| task | policy | error m/s | speed m/s | yaw rate rad/s | falls a minute | '
        'less error (95 %) | numbers |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for name, row in data['own'].items():
        numbers = f'{row["numbers"]:,} ({row["share_of_actor"]:.1%}), {row["kilobytes"]:.1f} kB'
        lines.append(f'| {name} | base | {_cells(row["adapter"]["base"])} | | |')
        whole = '22,024 (100 %), 88 kB'
        for label, key, size in (
            (f'with `{name}`', 'adapter', numbers),
            ('all weights', 'full', whole),
        ):
            if key in row:
                low, high = row[key]['improvement_interval_95']
                gain = f'{row[key]["improvement"]:.0%} ({low:.0%} to {high:.0%})'
                lines.append(f'| | {label} | {_cells(row[key]["other"])} | {gain} | {size} |')
    return lines


def _cross(data: dict[str, Any]) -> list[str]:
    tasks = list(data['cross']['base'])
    lines = ['| | ' + ' | '.join(tasks) + ' |', '|---' * (len(tasks) + 1) + '|']
    for who, row in data['cross'].items():
        cells = []
        for task in tasks:
            falls = row[task]['falls_per_minute']
            cells.append(f'{row[task]["error"]:.3f}' + (f' ({falls:.1f})' if falls else ''))
        lines.append(f'| {who} | ' + ' | '.join(cells) + ' |')
    return lines


def _cells(row: dict[str, float]) -> str:
    return (
        f'{row["error"]:.3f} ± {row["error_std"]:.3f} | {row["speed_error"]:.3f} | '
        f'{row["yaw_rate_error"]:.3f} | {row["falls_per_minute"]:.2f}'
    )


def _actor_size(base: dict[str, Any]) -> int:
    return sum(value.size for name, value in base.items() if name.startswith('actor.'))


if __name__ == '__main__':
    main()
