"""Trains a world model from scratch, top to bottom.

    premortem-models train --preset mini --out models/checkpoints/mini

Stages: tokenizer, corpus, training, export, manifest. Each leaves its result in `build/train/PRESET`; run again, it goes on
where it stopped.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm
from transformers import Qwen3Config, Qwen3ForCausalLM

from models.training.asides import Asides
from models.training.corpus import Corpus, Tokens, make_corpus, make_tokenizer
from models.training.examples import Worth
from models.training.export import export
from models.training.presets import Preset
from models.training.smudge import Ids, Smudge, retold
from models.validation.machine import revision
from service.world.checkpoint import GRAPH, MANIFEST, TOKENIZER, Manifest, sha256
from service.world.codec import Codec

SAVE_EVERY = 400
BUCKET = 64
TOLD_EVERY = 10
SHAPE = 16
"""Lengths are padded to a multiple of this."""
PADDING = 3
VALID_SHARE = 100
"""Every 100th example is held out of training, to watch the loss by."""


def train(preset: Preset, work: Path, out: Path, made: str) -> None:
    """`made` is the date for the manifest, handed in."""
    torch.manual_seed(preset.seed)
    work.mkdir(parents=True, exist_ok=True)

    # tokenizer and corpus
    parent = work.parent / preset.parent / "checkpoint" if preset.parent else None
    if parent is not None:
        shutil.copyfile(parent / TOKENIZER, work / TOKENIZER)
    codec = make_tokenizer(preset, work / TOKENIZER)
    corpus = make_corpus(preset, codec, work.parent.parent / "cache", work)
    held = np.arange(0, len(corpus), VALID_SHARE)
    learnt = np.setdiff1d(np.arange(len(corpus)), held)

    # model, optimiser, and whatever an earlier run left
    model = Qwen3ForCausalLM(config(preset, codec))
    if parent is not None:
        model.load_state_dict(Qwen3ForCausalLM.from_pretrained(parent, dtype=torch.float32).state_dict())
    smudged = retold(corpus, [Asides(codec, preset.asides), Smudge(codec)], preset.seed)
    plan = list(batches(smudged, learnt, preset))
    optimiser = torch.optim.AdamW(groups(model, preset.decay), lr=preset.rate, betas=(0.9, 0.95), fused=True)
    resume = work / "resume.pt"
    done = 0
    if resume.exists():
        saved = torch.load(resume)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        done = saved["done"]

    # training
    model.train()
    bar = tqdm(range(done, len(plan)), "training", len(plan), initial=done, mininterval=5)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = preset.rate * schedule(step / len(plan), preset.warmup)
        loss, label_loss = losses(model, [smudged.example(number) for number in plan[step]], preset)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.3f}", outcome=f"{label_loss:.3f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == len(plan):
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "done": step + 1}, resume)

    # the checkpoint and its story
    score = held_out_loss(model, corpus, held, preset)
    save(model, codec, (work / TOKENIZER).read_text(), out)
    files = {name: sha256(out / name) for name in ("model.safetensors", GRAPH, TOKENIZER, "config.json")}
    told = Manifest(
        name=preset.name,
        codec=codec.fingerprint,
        made=made,
        revision=revision(),
        arguments=asdict(preset),
        data={
            "history": "reference",
            "examples": len(learnt),
            "tokens": int(corpus.ends[-1]),
            "sha256": corpus.digest(),
        },
        files=files,
        parent=sha256(parent / "model.safetensors") if parent is not None else "",
        scores={"outcome_log_loss": score, "parameters": float(model.num_parameters())},
    )
    (out / MANIFEST).write_text(told.model_dump_json(indent=2) + "\n")
    print(f"{out}: {model.num_parameters() / 1e6:.1f} M parameters, held-out outcome log loss {score:.4f}")


def config(preset: Preset, codec: Codec) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=preset.vocabulary,
        hidden_size=preset.hidden,
        intermediate_size=preset.intermediate,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.kv_heads,
        head_dim=preset.head_dim,
        max_position_embeddings=preset.context,
        tie_word_embeddings=True,
        pad_token_id=codec.pad,
        eos_token_id=codec.step,
        bos_token_id=None,
    )


def groups(model: torch.nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if progress < warmup:
        return progress / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def batches(corpus: Corpus, numbers: NDArray[np.int64], preset: Preset) -> Iterator[NDArray[np.int64]]:
    """Batches of about `batch` tokens, of examples of like length, in a seeded order."""
    rng = np.random.default_rng(preset.seed)
    lengths = corpus.lengths()
    rounds = math.ceil(preset.epochs)
    order = np.concatenate([rng.permutation(numbers) for _ in range(rounds)])[: int(len(numbers) * preset.epochs)]
    plan: list[NDArray[np.int64]] = []
    for bucket in np.array_split(order, max(1, len(order) // (BUCKET * 64))):
        run: list[int] = []
        for number in bucket[np.argsort(lengths[bucket], kind="stable")]:
            if run and len(run) + 1 > preset.batch // width(lengths[number]):
                plan.append(np.array(run))
                run = []
            run.append(int(number))
        plan.append(np.array(run))
    yield from (plan[i] for i in rng.permutation(len(plan)))


def losses(model: Qwen3ForCausalLM, examples: Sequence[Tokens], preset: Preset) -> tuple[torch.Tensor, float]:
    """The weighted loss of a batch, and the plain loss of its outcome tokens alone, against what happened.

    An outcome token is learnt against its odds; those of a recorded history are certain of what happened.

    Of what is only told, one token in ten is learnt, at ten times its weight: the head over the whole vocabulary is a
    third of the work.
    """
    ids, worth = padded([(ids, worth) for ids, worth, _ in examples], preset.batch)
    odds = torch.from_numpy(np.concatenate([odds for _, _, odds in examples]))
    place = torch.arange(worth[:, 1:].numel())
    kinds = worth[:, 1:].flatten()
    learnt = (kinds == Worth.said) | (kinds == Worth.outcome) | ((kinds == Worth.told) & (place % TOLD_EVERY == 0))
    chosen = rounded_up(learnt.nonzero().flatten())
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[chosen])
    kinds = kinds[chosen]
    kinds[int(learnt.sum()) :] = PADDING
    due = kinds == Worth.outcome
    said = functional.log_softmax(logits.float(), -1)
    each = functional.nll_loss(said, ids[:, 1:].flatten()[chosen], reduction="none")
    happened = each[due].mean().item()
    each = each.masked_scatter(due, -(odds * said[due, : odds.shape[1]]).sum(-1))
    weights = torch.tensor([preset.told_weight * TOLD_EVERY, 1.0, preset.label_weight, 0.0])[kinds]
    return (each * weights).sum() / weights.sum(), happened


def rounded_up(places: torch.Tensor) -> torch.Tensor:
    """Filled up to a multiple of 128 by repeating the first: few shapes, for each new one costs a compilation of its kernels."""
    return torch.cat([places, places[:1].expand(-len(places) % 128)])


def width(length: int) -> int:
    """How many positions an example of so many tokens takes, its last token being only foreseen."""
    return max(1, math.ceil((length - 1) / SHAPE)) * SHAPE


def padded(examples: Sequence[tuple[Ids, Ids]], batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and worths, to one of few shapes; causal attention never looks at the padding."""
    longest = max(len(ids) for ids, _ in examples)
    shape = max(len(examples), batch // width(longest)), width(longest) + 1
    ids, worth = np.zeros(shape, np.int64), np.full(shape, PADDING, np.int64)
    for row, (tokens, values) in enumerate(examples):
        ids[row, : len(tokens)], worth[row, : len(tokens)] = tokens, values
    return torch.from_numpy(ids), torch.from_numpy(worth)


@torch.no_grad()
def held_out_loss(model: Qwen3ForCausalLM, corpus: Corpus, held: NDArray[np.int64], preset: Preset) -> float:
    model.eval()
    parts = np.array_split(held, max(1, len(held) // 32))
    scores = [losses(model, [corpus.example(number) for number in part], preset)[1] for part in parts]
    return float(np.mean(scores))


def save(model: Qwen3ForCausalLM, codec: Codec, tokenizer: str, out: Path) -> None:
    """The folder that vLLM and transformers open as it is, and beside it the graph of the local engine."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    (out / TOKENIZER).write_text(tokenizer)
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|pad|>",
        "eos_token": "<|step|>",
        "model_max_length": 2048,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    export(out, out / GRAPH)
