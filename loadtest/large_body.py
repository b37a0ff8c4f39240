"""A small checkpoint in a large body: weights of Qwen2.5-7B's sizes that say what the small checkpoint says.

With dummy weights no evaluation can be timed: no outcome stands out and no step ends. Here the small network's layers, heads
and dimensions stand among others that add nothing, so that it computes what it always did; all other weights are noise too
faint to matter. An engine reads and multiplies every one of them all the same: the words are the small model's, the time
is the large one's.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.world.checkpoint import MANIFEST, TOKENIZER, Checkpoint, sha256

Told = dict[str, Any]
Places = Mapping[str, tuple[Any, int]]
"""Where each row of the small network goes, and how many rows the large one has."""
BODIES: Mapping[str, Told] = {
    "qwen2.5-7b": {
        "hidden_size": 3_584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 152_064,
    },
    "tiny": {
        "hidden_size": 512,
        "intermediate_size": 1_536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 8_192,
    },
}
FAINT = 1e-6
"""Of the weights that only take time."""
CONSTANT, LOUD, SILENT = 2.0**-6, 2.0**10, -300.0
"""One dimension of every token says CONSTANT, and by it the rows of the head that are no words are silenced."""


def make_model(source: Path, folder: Path, shape: str) -> None:
    """A checkpoint's layers, heads and dimensions among others that add nothing; the modelling stays Qwen3's. A body's heads are as
    wide or a whole number of times wider, and its groups hold as many queries or more."""
    from safetensors.torch import load_file, save_file

    small, story = load_file(source / "model.safetensors"), Checkpoint(source).manifest
    config: Told = json.loads((source / "config.json").read_text())
    large = config | _sizes(config, BODIES[shape])
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    for file, tensors in tqdm(_shards(small, config, large), shape, large["num_hidden_layers"] + 1):
        save_file(tensors, folder / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(large, indent=2))
    for file in (TOKENIZER, "tokenizer_config.json"):
        shutil.copy(source / file, folder / file)
    files = {file: sha256(folder / file) for file in (TOKENIZER, "config.json")}
    told = {"name": f"{story.name}-as-{shape}", "parent": story.name, "files": files, "arguments": {"body": shape}}
    (folder / MANIFEST).write_text(story.model_copy(update=told).model_dump_json(indent=2))


def _sizes(config: Told, body: Told) -> Told:
    layers, share = body["num_hidden_layers"], config["hidden_size"] / body["hidden_size"]
    return body | {
        "max_window_layers": layers,
        "layer_types": ["full_attention"] * layers,
        "tie_word_embeddings": False,
        "rms_norm_eps": config["rms_norm_eps"] * share,
        "rope_theta": config["rope_parameters"]["rope_theta"],
    }


MATRICES = {
    "self_attn.q_proj": ("asks", "hidden"),
    "self_attn.k_proj": ("keys", "hidden"),
    "self_attn.v_proj": ("keys", "hidden"),
    "self_attn.o_proj": ("hidden", "asks"),
    "mlp.gate_proj": ("inner", "hidden"),
    "mlp.up_proj": ("inner", "hidden"),
    "mlp.down_proj": ("hidden", "inner"),
}
NORMS = {
    "self_attn.q_norm": "angles",
    "self_attn.k_norm": "angles",
    "input_layernorm": "hidden",
    "post_attention_layernorm": "hidden",
}


def _shards(small: Told, config: Told, large: Told) -> Iterator[tuple[str, Told]]:
    """Files and their tensors, one file a layer."""
    import torch

    places = _places(config, large)
    noise = (torch.randn(2**22, generator=torch.Generator().manual_seed(0)) * FAINT).bfloat16()
    yield "model-words.safetensors", _words(small, places, noise)
    for layer in range(large["num_hidden_layers"]):
        tensors = {}
        for name, axes in MATRICES.items():
            of = f"model.layers.{layer}.{name}.weight"
            tensors[of] = _spread(small.get(of), [places[axis] for axis in axes], noise)
        for name, axis in NORMS.items():
            of = f"model.layers.{layer}.{name}.weight"
            tensors[of] = _norm(small.get(of), places[axis], scaled=name != "self_attn.q_norm")
        yield f"model-{layer:03}.safetensors", tensors


def _places(small: Told, large: Told) -> Places:
    from torch import arange, cat

    head, wide, groups = small["head_dim"], large["head_dim"], small["num_key_value_heads"]
    each, many = (sizes["num_attention_heads"] // sizes["num_key_value_heads"] for sizes in (small, large))
    turned = arange(head // 2) * (wide // head)
    angles = cat([turned, turned + wide // 2])
    asks = [angles + wide * (group * many + mine) for group in range(groups) for mine in range(each)]
    keys = [angles + wide * group for group in range(groups)]
    return {
        "words": (arange(small["vocab_size"]), large["vocab_size"]),
        "hidden": (arange(small["hidden_size"]), large["hidden_size"]),
        "inner": (arange(small["intermediate_size"]), large["intermediate_size"]),
        "angles": (angles, wide),
        "asks": (cat(asks), wide * large["num_attention_heads"]),
        "keys": (cat(keys), wide * large["num_key_value_heads"]),
    }


def _words(small: Told, places: Places, noise: Any) -> Told:
    table = small["model.embed_tokens.weight"]
    known, width = table.shape
    said, heard = (_spread(table, [places["words"], places["hidden"]], noise) for _ in range(2))
    last = _norm(small["model.norm.weight"], places["hidden"])
    said[:, width], last[width] = CONSTANT, LOUD
    heard[:known, width], heard[known:, width] = 0.0, SILENT
    return {"model.embed_tokens.weight": said, "lm_head.weight": heard, "model.norm.weight": last}


def _spread(block: Any, axes: Sequence[tuple[Any, int]], noise: Any) -> Any:
    """A matrix among noise; noise alone where the small network has none."""
    (at, rows), (across, columns) = axes
    whole = noise.repeat(rows * columns // len(noise) + 1)[: rows * columns].reshape(rows, columns).clone()
    if block is not None:
        whole[at[:, None], across] = block
    return whole


def _norm(block: Any, axis: tuple[Any, int], scaled: bool = True) -> Any:
    """A norm divides by the root mean square over all dimensions, most of them silent now. For queries that is made up for by
    attention, which divides by the root of the head's width."""
    import torch

    at, size = axis
    if block is None:
        return torch.ones(size, dtype=torch.bfloat16)
    whole = torch.zeros(size, dtype=torch.bfloat16)
    whole[at] = (block.float() * ((len(at) / size) ** 0.5 if scaled else 1.0)).bfloat16()
    return whole
