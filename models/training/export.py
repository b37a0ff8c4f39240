"""A Hugging Face Qwen3 or Llama folder becomes one ONNX file: the *tree* graph that `service.world.tree` runs.

Many futures share one key-value sequence. `attention_bias` says which of its slots a token may see, `position_ids`
where the token stands in its own future. Bind `past.*` and `present.*` to the same buffers: the graph appends in place.

    in   input_ids, position_ids [1, S]   attention_bias [1, 1, S, T]   logit_idx [R]
         past.{layer}.{key,value} [1, K, C, D]   seqlens_k [1] = T - 1   total_len = T, slots in use afterwards, <= C
    out  logits [1, R, V], only for the rows named in logit_idx   present.{layer}.{key,value}
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

Precision = Literal["int8", "fp32"]
Array = NDArray[Any]
Floats = NDArray[np.float32]

OPSET, IR_VERSION = 20, 9
MICROSOFT = "com.microsoft"
SLOTS = 16_384
"""The most tokens a tree can hold; the attention operator wants as many rotary rows, however few positions are used."""

ARCHITECTURES = ("Qwen3ForCausalLM", "LlamaForCausalLM")


class UnsupportedCheckpoint(ValueError):
    """The checkpoint has a part that the tree graph would leave out, and so compute something else."""


def export(checkpoint: Path, out: Path, context: int = 4096, precision: Precision = "int8") -> None:
    """Equal weights give equal bytes. `context` bounds prompt and one future together; it adds nothing to the file."""
    shape = Shape.read(checkpoint / "config.json")
    graph = Graph(shape, Weights.read(checkpoint), precision)
    model = helper.make_model(
        graph.decoder(max(context, SLOTS)),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
        producer_name="premortem",
    )
    helper.set_model_props(model, {"context": str(context), "slots": str(max(context, SLOTS)), "precision": precision})
    out.write_bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True)
class Shape:
    """What `config.json` says of the network, and nothing it says of its training."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    epsilon: float
    rope_theta: float
    tied: bool

    @classmethod
    def read(cls, path: Path) -> Self:
        config = json.loads(path.read_text("utf-8"))
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        _refuse_what_the_graph_lacks(config, rope)
        return cls(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            epsilon=config["rms_norm_eps"],
            rope_theta=rope.get("rope_theta") or config.get("rope_theta") or 10_000.0,
            tied=config.get("tie_word_embeddings", False),
        )


def _refuse_what_the_graph_lacks(config: dict[str, Any], rope: dict[str, Any]) -> None:
    wrong = {
        "architectures": not set(config.get("architectures") or ()) & set(ARCHITECTURES),
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": config.get("attention_bias", False),
        "mlp_bias": config.get("mlp_bias", False),
        "use_sliding_window": config.get("use_sliding_window", False),
        "rope_type": rope.get("rope_type", rope.get("type", "default")) != "default",
        "partial_rotary_factor": rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0,
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise UnsupportedCheckpoint(f"the tree graph has no {', '.join(found)} as this checkpoint sets it")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors by their name, in whatever floats they were saved, handed out as float32."""

    tensors: dict[str, Array]

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        files = sorted(checkpoint.glob("*.safetensors"))
        return cls({name: tensor for file in files for name, tensor in load_file(file).items()})

    def __contains__(self, name: str) -> bool:
        return f"{name}.weight" in self.tensors

    def __getitem__(self, name: str) -> Floats:
        return self.tensors[f"{name}.weight"].astype(np.float32)

    def stacked(self, prefix: str, *names: str) -> Floats:
        return np.concatenate([self[prefix + name] for name in names])


@dataclass(slots=True)
class Graph:
    """Every method adds nodes and returns the name of their result."""

    shape: Shape
    weights: Weights
    precision: Precision
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def decoder(self, slots: int) -> onnx.GraphProto:
        self.rotary_tables(slots + 1)  # one more: the runtime may echo a token
        self.sizes()
        if self.precision == "int8":
            self.quantization()
        hidden = self.embedding("input_ids")
        for layer in range(self.shape.layers):
            hidden = self.layer(layer, hidden)
        self.linear("logits", self.norm("final", hidden, "model.norm"), self.head())
        return helper.make_graph(self.nodes, "tree", self.inputs(), self.outputs(), self.initializers)

    def layer(self, layer: int, hidden: str) -> str:
        at, source = f"l{layer}.", f"model.layers.{layer}."
        seen = self.attention(layer, self.norm(at + "before", hidden, source + "input_layernorm"))
        if layer == self.shape.layers - 1:  # from here on only rows whose logits somebody reads are worth computing
            seen, hidden = self.rows(at + "seen", seen), self.rows(at + "hidden", hidden)
        mixed = self.linear(at + "mixed", seen, self.weights[source + "self_attn.o_proj"])
        hidden = self.node("Add", at + "attended", hidden, mixed)
        normed = self.norm(at + "after", hidden, source + "post_attention_layernorm")
        return self.node("Add", at + "out", hidden, self.feed_forward(at, source + "mlp.", normed))

    def attention(self, layer: int, x: str) -> str:
        """The bias decides between branches; the operator itself is causal among the tokens of one pass."""
        at, source = f"l{layer}.", f"model.layers.{layer}.self_attn."
        projected = self.linear(at + "qkv", x, self.weights.stacked(source, "q_proj", "k_proj", "v_proj"))
        query, key, value = (at + name for name in ("query", "key", "value"))
        self.split(projected, "size_qkv", query, key, value)
        if source + "q_norm" in self.weights:
            query = self.norm_per_head(query, source + "q_norm", "size_query")
            key = self.norm_per_head(key, source + "k_norm", "size_key")
        past, present = ([f"{when}.{layer}.{part}" for part in ("key", "value")] for when in ("past", "present"))
        where = ["seqlens_k", "total_len", "cos", "sin", "position_ids", "attention_bias"]
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [query, key, value, *past, *where],
                [at + "seen_all", *present],
                domain=MICROSOFT,
                num_heads=self.shape.heads,
                kv_num_heads=self.shape.kv_heads,
                scale=self.shape.head_dim**-0.5,
                do_rotary=1,
            )
        )
        return at + "seen_all"

    def feed_forward(self, at: str, source: str, x: str) -> str:
        both = self.linear(at + "gate_up", x, self.weights.stacked(source, "gate_proj", "up_proj"))
        self.split(both, "size_gate_up", at + "gate", at + "up")
        gate = self.node("QuickGelu", at + "silu", at + "gate", domain=MICROSOFT, alpha=1.0)
        gated = self.node("Mul", at + "gated", gate, at + "up")
        return self.linear(at + "down", gated, self.weights[source + "down_proj"])

    def linear(self, name: str, x: str, weight: Floats) -> str:
        """`weight` is [out, in], as torch keeps it. In int8: a scale for each output, and one for each token."""
        if self.precision == "fp32":
            return self.node("MatMul", name, x, self.constant(name + ".w", weight.T))
        scale = np.maximum(np.abs(weight).max(axis=1), 1e-8) / 127
        rounded = self.constant(name + ".w", np.rint(weight / scale[:, None]).astype(np.int8).T)
        x_rounded, x_scale = self.rounded(name + ".x", x)
        whole = self.node("MatMulInteger", name + ".int32", x_rounded, rounded, "offset_byte")
        product = self.node("Mul", name + ".product", self.cast(name + ".whole", whole, TensorProto.FLOAT), x_scale)
        return self.node("Mul", name, product, self.constant(name + ".scale", scale.astype(np.float32)))

    def rounded(self, name: str, x: str) -> tuple[str, str]:
        """Each token by its own largest value; one for all (DynamicQuantizeMatMul) lets futures hear each other.

        Raised by 128, since signed bytes on both sides run 20 times slower. A row of zeros has scale 0 and stays zeros.
        """
        largest = self.node("ReduceMax", name + ".largest", self.node("Abs", name + ".abs", x), "last_axis")
        scale = self.node("Mul", name + ".scale", largest, "one_127th")
        steps = self.node("Round", name + ".steps", self.node("Div", name + ".ratio", x, scale))
        return self.cast(name + ".byte", self.node("Add", name + ".raised", steps, "offset"), TensorProto.UINT8), scale

    def norm(self, name: str, x: str, source: str) -> str:
        gain = self.constant(name + ".gain", self.weights[source])
        return self.node(
            "SimplifiedLayerNormalization", name, x, gain, axis=-1, epsilon=self.shape.epsilon, stash_type=1
        )

    def norm_per_head(self, x: str, source: str, size: str) -> str:
        by_head = self.node("Reshape", x + ".by_head", x, "size_head")
        return self.node("Reshape", x + ".joined", self.norm(x + ".normed", by_head, source), size)

    def embedding(self, ids: str) -> str:
        table = self.weights["model.embed_tokens"]
        if self.precision == "fp32":
            return self.node("Gather", "embedded", self.constant("embedding", table), ids)
        half = self.node("Gather", "embedded.half", self.constant("embedding", table.astype(np.float16)), ids)
        return self.cast("embedded", half, TensorProto.FLOAT)

    def head(self) -> Floats:
        return self.weights["model.embed_tokens" if self.shape.tied else "lm_head"]

    def rows(self, name: str, x: str) -> str:
        return self.node("Gather", name, x, "logit_idx", axis=1)

    def rotary_tables(self, rows: int) -> None:
        """Computed when the file is loaded: exact, and nothing to store."""
        pairs = np.arange(0, self.shape.head_dim, 2)
        turn = self.shape.rope_theta ** (-pairs / self.shape.head_dim)
        bounds = [
            self.constant(f"positions.{name}", np.float32(x)) for name, x in (("from", 0), ("to", rows), ("by", 1))
        ]
        flat = self.node("Range", "positions.flat", *bounds)
        column = self.node("Unsqueeze", "positions", flat, self.constant("positions.axis", np.array([1])))
        angles = self.node("Mul", "angles", column, self.constant("turn", turn.astype(np.float32)[None]))
        self.node("Cos", "cos", angles)
        self.node("Sin", "sin", angles)

    def sizes(self) -> None:
        size = self.shape.head_dim
        queries, keys = self.shape.heads * size, self.shape.kv_heads * size
        inner = len(self.weights["model.layers.0.mlp.gate_proj"])
        self.constant("size_qkv", np.array([queries, keys, keys]))
        self.constant("size_gate_up", np.array([inner, inner]))
        self.constant("size_head", np.array([0, -1, size]))
        self.constant("size_query", np.array([0, -1, queries]))
        self.constant("size_key", np.array([0, -1, keys]))

    def quantization(self) -> None:
        self.constant("last_axis", np.array([-1]))
        self.constant("one_127th", np.float32(1 / 127))
        self.constant("offset", np.float32(128))
        self.constant("offset_byte", np.uint8(128))

    def split(self, x: str, sizes: str, *names: str) -> None:
        self.nodes.append(helper.make_node("Split", [x, sizes], names, axis=-1))

    def constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def cast(self, name: str, x: str, to: int) -> str:
        return self.node("Cast", name, x, to=to)

    def node(self, op: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def inputs(self) -> list[onnx.ValueInfoProto]:
        integers: dict[str, list[int | str]] = {"input_ids": [1, "S"], "position_ids": [1, "S"], "logit_idx": ["R"]}
        return [
            *(helper.make_tensor_value_info(name, TensorProto.INT64, size) for name, size in integers.items()),
            helper.make_tensor_value_info("attention_bias", TensorProto.FLOAT, [1, 1, "S", "T"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]),
            helper.make_tensor_value_info("total_len", TensorProto.INT32, []),
            *self.cache("past"),
        ]

    def outputs(self) -> list[onnx.ValueInfoProto]:
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "R", self.shape.vocabulary])
        return [logits, *self.cache("present")]

    def cache(self, when: str) -> list[onnx.ValueInfoProto]:
        size: list[int | str] = [1, self.shape.kv_heads, "C", self.shape.head_dim]
        names = [f"{when}.{layer}.{part}" for layer in range(self.shape.layers) for part in ("key", "value")]
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in names]
