"""`lebot export onnx`: a policy, adapters merged, as one file for other runtimes."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.folders import replace_file
from lebot_rl_ros.policy.onnx_export import INPUT, OPSET, OUTPUT, POLICY, to_onnx
from lebot_rl_ros.robot import share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

ADAPTERS = 'adapters'  # key of the adapters' weights and manifests in the metadata


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser('export', help='write a policy for other runtimes')
    onnx = parser.add_subparsers(dest='what', required=True).add_parser(
        'onnx',
        help='the actor as an ONNX model',
        description='Write the actor, its normaliser inside and adapters merged, as an ONNX '
        'model. The manifests of policy and adapters go along as its metadata.',
    )
    onnx.add_argument(
        '--policy', type=Path, metavar='FOLDER', help='of the policy (default: policies/walk)'
    )
    onnx.add_argument(
        '--adapter',
        default='',
        metavar='TEXT',
        help='adapters to merge: NAME[@VERSION][:WEIGHT] joined by +, or a path (default: none)',
    )
    onnx.add_argument('--out', type=Path, metavar='FILE', help='(default: POLICY[+ADAPTER].onnx)')


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status.

    Raises:
        PolicyError: policy or adapter is damaged, or they do not fit each other.
    """
    folder: Path = args.policy or share_path('policies', 'walk')
    tensors, manifest = load_policy(folder)
    parts = default_store().load(args.adapter)
    for adapter, _ in parts:
        adapter.check(manifest)
    metadata = {
        ADAPTERS: json.dumps([{'weight': w, 'manifest': asdict(a.manifest)} for a, w in parts])
    }
    model = to_onnx(merge(tensors, parts), manifest, metadata)
    names = [folder.resolve().name, *(adapter.manifest.name for adapter, _ in parts)]
    out: Path = args.out or Path('+'.join(names) + '.onnx')
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, model)
    print(f'file      {out}, {len(model):,} bytes, ONNX opset {OPSET}')
    print(f'input     {INPUT} (batch, {manifest.observation_size}) float32, not normalised')
    print(f'output    {OUTPUT} (batch, {len(manifest.joint_names)}) float32, policy units')
    print(f'metadata  {", ".join((POLICY, *metadata))}')
    return 0
