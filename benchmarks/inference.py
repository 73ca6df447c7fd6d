"""One inference of a base with one adapter, beside the best plain matmul chain of its sizes.

All take turns in one run, in a new order each round, one observation and one thread each. The
kernel and numpy copy the observation in and the action out; the others have theirs in place.
Policies have the adapter merged where nothing else is said. Reading the clock is in all times,
some 0.05 us. Limit: 1.5 times the best chain.

    python benchmarks/inference.py [--rounds 60] [--calls 300]
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable

os.environ['OMP_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '1'

import numpy as np
import onnxruntime
import torch

from lebot_rl_ros.policy import kernel
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, LoraConfig, merge
from lebot_rl_ros.policy.files import PolicyManifest, Tensors, load_policy
from lebot_rl_ros.policy.onnx_export import INPUT, OUTPUT, to_onnx
from lebot_rl_ros.policy.runtime import EPSILON, Array, PolicyRuntime, fold
from lebot_rl_ros.robot import share_path

LIMIT = 1.5
Call = Callable[[], object]  # gives the action; a chain gives nothing


def random_adapter(base: PolicyManifest, rng: np.random.Generator) -> Adapter:
    """Rank 2, on every layer."""
    config, shapes = LoraConfig(), base.shapes()
    tensors = {}
    for layer in config.target_modules:
        outputs, inputs = shapes[f'{layer}.weight']
        tensors[f'{layer}.lora_A'] = 0.1 * rng.standard_normal((config.r, inputs))
        tensors[f'{layer}.lora_B'] = 0.1 * rng.standard_normal((outputs, config.r))
    manifest = AdapterManifest('random', 1, base.sha256, base.robot, base.joint_names)
    adapter = Adapter(
        config, {name: value.astype(np.float32) for name, value in tensors.items()}, manifest
    )
    adapter.check(base)
    return adapter


def chains(layers: list[Array], observation: Array) -> dict[str, Call]:
    """The products alone, without bias and activation, every way that numpy and torch know."""
    vectors = [observation, *(np.zeros(layer.shape[1], dtype=np.float32) for layer in layers)]

    def into(multiply: Callable[..., object], order: str) -> Call:
        (a, b, c), (x, y, z, out) = (
            [np.array(layer[:-1].T, order=order) for layer in layers],
            vectors,
        )

        def run() -> None:
            multiply(a, x, out=y)
            multiply(b, y, out=z)
            multiply(c, z, out=out)

        return run

    def operator(order: str) -> Call:
        (a, b, c), x = [np.array(layer[:-1].T, order=order) for layer in layers], observation
        return lambda: c @ (b @ (a @ x))

    a, b, c = (torch.from_numpy(layer[:-1].T.copy()) for layer in layers)
    x, y, z, out = map(torch.from_numpy, vectors)

    def torch_mv() -> None:
        torch.mv(a, x, out=y)
        torch.mv(b, y, out=z)
        torch.mv(c, z, out=out)

    found: dict[str, Call] = {'chain: torch.mv': torch_mv}
    for order, name in (('C', 'rows'), ('F', 'columns')):
        found[f'chain: np.dot, {name}'] = into(np.dot, order)
        found[f'chain: np.matmul, {name}'] = into(np.matmul, order)
        found[f'chain: @, {name}'] = operator(order)
    return found


class Merged(torch.nn.Module):
    """Base and adapter as plain weights, the normaliser folded in."""

    def __init__(self, layers: list[Array]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(len(layer) - 1, layer.shape[1]) for layer in layers
        )
        for module, layer in zip(self.layers, layers, strict=True):
            module.weight.data = torch.from_numpy(layer[:-1].T.copy())
            module.bias.data = torch.from_numpy(layer[-1].copy())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < 2:
                x = torch.nn.functional.elu(x)
        return x


def unmerged(base: Tensors, adapter: Adapter, observation: Array) -> Call:
    """Base and adapter side by side, as LoRA is trained; it gets its input normalised."""
    x0 = (observation - base['normaliser.mean']) / np.sqrt(base['normaliser.var'] + EPSILON)
    start, s, parts = torch.from_numpy(x0), adapter.config.scaling, []
    for i in range(3):
        arrays = (
            base[f'actor.{i}.weight'], base[f'actor.{i}.bias'],
            adapter.tensors[f'actor.{i}.lora_A'], adapter.tensors[f'actor.{i}.lora_B'],
        )  # fmt: skip
        weight, bias, a, b = (torch.from_numpy(array.copy()) for array in arrays)
        parts.append((weight.T, bias, a.T, b.T))

    def run() -> torch.Tensor:
        x = start
        for i, (weight, bias, a, b) in enumerate(parts):
            x = x @ weight + bias + s * (x @ a) @ b
            if i < 2:
                x = torch.nn.functional.elu(x)
        return x

    return run


def onnx_calls(model: bytes, observation: Array, action: Array) -> dict[str, Call]:
    """ONNX Runtime by its usual call, and with input and output bound beforehand."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    feed, result = {INPUT: observation[None]}, action[None].copy()
    binding = session.io_binding()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (feed[INPUT], result)]
    binding.bind_ortvalue_input(INPUT, values[0])
    binding.bind_ortvalue_output(OUTPUT, values[1])

    def bound() -> onnxruntime.OrtValue:
        session.run_with_iobinding(binding)
        return values[1]

    return {'ONNX Runtime': lambda: session.run(None, feed)[0], 'ONNX Runtime, bound': bound}


def contestants(rng: np.random.Generator) -> tuple[dict[str, Call], dict[str, Call]]:
    """Chains, and all that compute the policy: those give the same action."""
    base, manifest = load_policy(share_path('policies', 'walk'))
    adapter = random_adapter(manifest, rng)
    merged = merge(base, [(adapter, 1.0)])
    layers = fold(merged, 'actor')
    observation = rng.standard_normal(manifest.observation_size).astype(np.float32)
    action = np.zeros(len(manifest.joint_names), dtype=np.float32)
    found: dict[str, Call] = {}
    names = {False: 'numpy'} | ({True: 'kernel'} if kernel.library() else {})
    for compiled, name in names.items():
        act = PolicyRuntime(merged, manifest, compiled=compiled).act
        found[name] = lambda act=act: act(observation, action)
    module, x = Merged(layers).eval(), torch.from_numpy(observation)
    script = torch.jit.optimize_for_inference(torch.jit.script(module))
    found |= {
        'torch': lambda: module(x),
        'torch, frozen TorchScript': lambda: script(x),
        'torch, LoRA beside the base': unmerged(base, adapter, observation),
        **onnx_calls(to_onnx(merged, manifest, {}), observation, action),
    }
    expected = np.asarray(found['numpy']()).copy()
    for name, call in found.items():
        result = call()
        result = result.numpy() if hasattr(result, 'numpy') else result
        np.testing.assert_allclose(np.ravel(result), expected, rtol=1e-4, atol=1e-4, err_msg=name)
    return chains(layers, observation), found


def measure(calls: dict[str, Call], rounds: int, count: int) -> dict[str, tuple[float, float]]:
    """Median and p99 in us, by name."""
    times = {name: np.zeros((rounds, count)) for name in calls}
    order, rng = list(calls), np.random.default_rng(0)
    clock = time.perf_counter_ns
    gc.disable()
    for turn in range(rounds):
        rng.shuffle(order)
        for name in order:
            call, row = calls[name], []
            for _ in range(50):  # the others had the caches until now
                call()
            for _ in range(count):
                start = clock()
                call()
                row.append(clock() - start)
            times[name][turn] = row
    gc.enable()
    return {
        name: (float(np.median(all_)) / 1e3, float(np.percentile(all_, 99)) / 1e3)
        for name, all_ in times.items()
    }


def main() -> int:
    """Entry point; 1 if the limit is not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--calls', type=int, default=300, help='of each in a round')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        plain, policies = contestants(np.random.default_rng(0))
        found = measure(plain | policies, arguments.rounds, arguments.calls)
    best = min(plain, key=lambda name: found[name][0])
    print(f'{"":<30}{"median us":>10}{"p99 us":>9}{"x best chain":>14}')
    for name in sorted(found, key=lambda name: (name not in plain, found[name][0])):
        median, p99 = found[name]
        mark = '  <- best chain' if name == best else ''
        print(f'{name:<30}{median:>10.2f}{p99:>9.2f}{median / found[best][0]:>14.2f}{mark}')
    name = 'kernel' if 'kernel' in policies else 'numpy'
    ratio = found[name][0] / found[best][0]
    held = ratio <= LIMIT
    print(f'{name}: {ratio:.2f} times the best chain, {"within" if held else "over"} {LIMIT}')
    return 0 if held else 1


if __name__ == '__main__':
    sys.exit(main())
