"""The rules of the house as data, and the walk through the imports that checks them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = 'lebot_rl_ros'

# Who may import whom among our own rooms. 'types:X' allows X under `if TYPE_CHECKING` only;
# 'X/Y.py' that one file, a contract.
EVERYTHING = frozenset({
    'robot', 'hardware', 'sim', 'mdp', 'safety', 'policy', 'learning', 'envs', 'vision', 'data',
    'ros', 'nodes', 'bringup', 'cli', 'control',
})  # fmt: skip
ROOMS: dict[str, frozenset[str]] = {
    '': frozenset(),
    'robot': frozenset(),
    'policy': frozenset(),
    'hardware': frozenset({'robot'}),
    'mdp': frozenset({'robot'}),
    'safety': frozenset({'robot'}),
    'data': frozenset({'robot'}),
    'bringup': frozenset({'robot'}),
    'vision': frozenset({'policy'}),
    'learning': frozenset({'policy', 'data', 'types:envs'}),
    'sim': frozenset({'robot', 'mdp'}),
    'ros': frozenset({'robot', 'data'}),
    'control': frozenset({'robot', 'mdp', 'policy', 'data', 'safety'}),
    'envs': frozenset({'robot', 'sim', 'mdp', 'safety', 'learning/method.py', 'data/rows.py'}),
    'nodes': EVERYTHING - {'cli'},
    'cli': EVERYTHING - {'nodes'},
}


@dataclass(frozen=True)
class Outside:
    """Where a package that is not ours may be imported: places are rooms or files in a room."""

    top: frozenset[str]  # at the top of a module
    late: frozenset[str] = frozenset()  # inside a function, or under TYPE_CHECKING


def _outside(top: str, late: str = '') -> Outside:
    return Outside(frozenset(top.split()), frozenset(late.split()))


_ROS = _outside('ros nodes')
_PICTURES = _outside('', 'cli learning envs sim nodes')
OUTSIDE: dict[str, Outside] = {
    'rclpy': _ROS,
    '*_msgs': _ROS,
    '*_srvs': _ROS,
    '*_interfaces': _ROS,
    'launch': _outside('', 'bringup'),
    'launch_ros': _outside('', 'bringup'),
    'torch': _outside(
        'learning vision policy/networks.py policy/lora.py policy/lora_layers.py '
        'policy/distribution.py cli'
    ),
    'mujoco': _outside('sim', 'cli envs'),
    'gymnasium': _outside('envs nodes/gym_env.py', 'cli'),
    'stable_baselines3': _outside('cli/benchmark_peer.py cli/adapt_peers.py'),  # others' side
    'serial': _outside('hardware', 'cli'),
    'cv2': _outside('', 'hardware vision envs/rollout_video.py'),
    # Verbs of the command line are modules that its main imports late.
    'rich': _outside('cli learning/progress.py', 'learning'),
    'matplotlib': _PICTURES,
    'tensorboard': _PICTURES,
    'peft': _outside(''),  # the oracle of tests
    'dynamixel_sdk': _outside(''),  # oracles likewise
    'scservo_sdk': _outside(''),
    'onnx': _outside('', 'policy/onnx_export.py'),
    'onnxruntime': _outside(''),  # another oracle
    'pickle': _outside(''),  # weights are safetensors, settings YAML or JSON
}


@dataclass(frozen=True)
class Import:
    """One imported module, as it stands in a file."""

    module: str  # absolute, dotted
    line: int
    late: bool
    types_only: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import of a module's source; ``package`` is the dotted package that it lies in."""

    def visit(node: ast.AST, late: bool, types_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(name.name, child.lineno, late, types_only)
            elif isinstance(child, ast.ImportFrom):
                parents = package.split('.')
                base = parents[: len(parents) - child.level + 1] if child.level else []
                module = '.'.join([*base, *([child.module] if child.module else [])])
                # `from package import room` imports the room, not the package.
                whole = module == PACKAGE
                for name in child.names if whole else [None]:
                    where = f'{module}.{name.name}' if name else module
                    yield Import(where, child.lineno, late, types_only)
            elif isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test):
                for statement in child.body:
                    yield from visit(ast.Module([statement], []), True, True)
                for statement in child.orelse:
                    yield from visit(ast.Module([statement], []), late, types_only)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, late or function, types_only)

    yield from visit(ast.parse(source), False, False)


def violations(root: Path) -> list[str]:
    """What breaks the rules below ``root``, the folder of the package, one line each."""
    found = []
    for path in sorted(root.rglob('*.py')):
        inside = path.relative_to(root)
        room = inside.parts[0] if len(inside.parts) > 1 else ''
        place = f'{PACKAGE}/{inside.as_posix()}'
        if room not in ROOMS:
            found.append(f'{place}: room {room!r} is not in the table of test/architecture.py')
            continue
        package = '.'.join([PACKAGE, *inside.parent.parts])
        for item in imports(path.read_text(), package):
            reason = _forbidden(item, room, inside.as_posix())
            if reason:
                found.append(f'{place}:{item.line}: {reason}')
    return found


def _forbidden(item: Import, room: str, file: str) -> str:
    top, _, rest = item.module.partition('.')
    if top == PACKAGE:
        other = rest.partition('.')[0]
        allowed = ROOMS[room]
        if other in ('', room, '__version__') or other in allowed:
            return ''
        if f'{rest.replace(".", "/")}.py' in allowed:
            return ''
        if f'types:{other}' in allowed:
            return '' if item.types_only else f'{room} may import {other} for types only'
        return f'{room or "the package"} imports {other}; may import {sorted(allowed) or "none"}'
    for pattern in (top, f'*_{top.rpartition("_")[2]}'):
        rule = OUTSIDE.get(pattern)
        if rule is None:
            continue
        places = rule.top | rule.late if item.late else rule.top
        if room in places or file in places:
            return ''
        if room in rule.late:
            return f'{top} may be imported only inside functions here'
        return f'{room or "the package"} imports {top}; only {sorted(rule.top | rule.late)} may'
    return ''
