"""The actor of a policy as ONNX, for runtimes and boards that know nothing of this package."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from lebot_rl_ros import __version__
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.runtime import fold

OPSET = 17  # with IR 8: what runtimes have read since 2022, and all that a perceptron needs
IR_VERSION = 8
INPUT, OUTPUT = 'observation', 'action'
POLICY = 'policy'  # key of the policy's manifest in the metadata
NODES = {'elu': 'Elu', 'relu': 'Relu', 'tanh': 'Tanh'}


def to_onnx(tensors: Tensors, manifest: PolicyManifest, metadata: Mapping[str, str]) -> bytes:
    """Write the actor as an ONNX model: ``observation`` (batch, size) to ``action`` (batch, J).

    Both are float32; the observation is raw, as the normaliser is part of the first layer, and
    the action is the mean, in policy units, not clipped.

    Args:
        tensors: of the policy, adapters merged.
        manifest: of the policy; it goes along as JSON under the key ``policy``.
        metadata: further entries of the model's metadata.

    Raises:
        ImportError: ``onnx`` is not installed.
        ValueError: ``metadata`` has the key ``policy``.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    if POLICY in metadata:
        raise ValueError(f'metadata has the key {POLICY}, which is for the manifest')
    layers = fold(tensors, 'actor')
    last = len(layers) - 1
    nodes, weights, x = [], [], INPUT
    for i, layer in enumerate(layers):
        names = [f'actor.{i}.weight', f'actor.{i}.bias']
        weights += [
            numpy_helper.from_array(values.copy(), name)
            for values, name in zip((layer[:-1], layer[-1]), names, strict=True)
        ]
        y = OUTPUT if i == last else f'actor.{i}'
        nodes.append(helper.make_node('Gemm', [x, *names], [y], name=f'actor.{i}'))
        if i < last:
            x = f'{y}.activation'
            kind = NODES[manifest.network['activation']]
            nodes.append(helper.make_node(kind, [y], [x], name=x))
    first, end = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ['batch', size])
        for name, size in ((INPUT, len(layers[0]) - 1), (OUTPUT, layers[-1].shape[1]))
    )
    model = helper.make_model(
        helper.make_graph(nodes, 'actor', [first], [end], initializer=weights),
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR_VERSION,
        producer_name='lebot_rl_ros',
        producer_version=__version__,
    )
    helper.set_model_props(model, {POLICY: json.dumps(asdict(manifest)), **metadata})
    checker.check_model(model, full_check=True)
    return model.SerializeToString()
