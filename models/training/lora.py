"""Fine-tunes an instruct model to be a world model, top to bottom.

    premortem-models train --preset qwen2.5-7b [--base PATH_OR_ID] [--history FILE...] [--merge] --out build/train/qwen2.5-7b/checkpoint

Stages: tokenizer, examples, model, training, checkpoint. The same codec and example builder as `models.training.train`; the
optimisation is TRL's, the adapter PEFT's. Run again with the same inputs, it goes on from its last checkpoint.

`out` is a PEFT adapter: a few dozen megabytes to keep, compare and go on training from. With `--merge`, `out/merged` is a whole
checkpoint for transformers and vLLM, and the one to serve: vLLM's adapters may not bring rows of their own to the
embeddings and the head, and without its markers the model cannot name an outcome.

No Qwen weights were at hand where this was written: every stage is tested on a random model of two layers, and what the preset
gives, costs and needs of memory at 7 B is not measured.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback, set_seed
from transformers.utils import cached_file
from trl import SFTConfig

from models.training.adapter import adapted
from models.training.canary import with_canaries
from models.training.corpus import recollect
from models.training.examples import Worth
from models.training.history import draw_all
from models.training.lessons import Lessons, Teacher
from models.training.lora_presets import LoraPreset
from models.training.markers import extended
from models.training.weighed import Collator, WeighedTrainer
from models.validation.machine import revision
from service.anchors.encoder import TextEncoder
from service.domains import catalog
from service.vocabulary.rollout import Trajectory
from service.world.checkpoint import MANIFEST, TOKENIZER, Manifest, sha256
from service.world.codec import FRAME, Codec, markers

MERGED = "merged"
PAD, STEP = FRAME[0], FRAME[9]


def train(
    preset: LoraPreset,
    encoder: TextEncoder,
    work: Path,
    out: Path,
    made: str,
    history: Iterable[Trajectory] = (),
    merge: bool = False,
    watch: Sequence[TrainerCallback] = (),
) -> None:
    """`made` is the date for the manifest, handed in; without a history the reference one is learnt. `watch` sees every step."""
    set_seed(preset.seed)

    # tokenizer and examples
    out.mkdir(parents=True, exist_ok=True)
    told = Path(cached_file(preset.base, TOKENIZER)).read_text()
    codec = keep_tokenizer(extended(told, markers(catalog().values())), out)
    recorded = list(history)
    lessons = taught(preset, codec, encoder, recorded)

    # the model, its markers and its adapter
    base = AutoModelForCausalLM.from_pretrained(preset.base, dtype=torch.bfloat16 if preset.bf16 else torch.float32)
    parent = origin(preset.base, base.config)
    model = adapted(preset, base, codec)

    # training
    story = json.dumps([lessons.digest(), asdict(preset), parent])
    run = work / hashlib.sha256(story.encode()).hexdigest()[:12]
    trainer = WeighedTrainer(
        model,
        args=settings(preset, run),
        data_collator=Collator(codec.pad),
        train_dataset=Dataset.from_list(lessons.rows(preset.label_weight)),
        eval_dataset={worth.name: Dataset.from_list(lessons.scored(worth)) for worth in (Worth.outcome, Worth.said)},
        processing_class=PreTrainedTokenizerFast.from_pretrained(out),
        callbacks=list(watch),
    )
    trainer.train(resume_from_checkpoint=last_whole(run))
    found = trainer.evaluate()

    # the checkpoint and its story
    trainer.model.save_pretrained(out, save_embedding_layers=False)
    manifest = Manifest(
        name=preset.name,
        codec=codec.fingerprint,
        made=made,
        revision=revision(),
        arguments=asdict(preset),
        data={
            "history": "recorded" if recorded else "reference",
            "examples": len(lessons.learnt),
            "held_out": len(lessons.held),
            "tokens": sum(len(example.ids) for example, _ in lessons.learnt),
            "sha256": lessons.digest(),
        },
        files={},
        parent=parent,
        scores={
            "outcome_log_loss": found["eval_outcome_loss"],
            "said_log_loss": found["eval_said_loss"],
            "training_loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
            "trained_parameters": float(model.get_nb_trainable_parameters()[0]),
        },
    )
    sign(manifest, out, "adapter_config.json", "adapter_model.safetensors")
    if merge:
        keep_tokenizer((out / TOKENIZER).read_text(), out / MERGED)
        whole = trainer.model.merge_and_unload()
        whole.save_pretrained(out / MERGED)
        manifest = manifest.model_copy(update={"domains": with_canaries({}, codec, partial(_after, whole))})
        weights = [path.name for path in (out / MERGED).glob("model*.safetensors*")]
        sign(manifest, out / MERGED, "config.json", *sorted(weights))
    print(f"{out}: held-out outcome log loss {manifest.scores['outcome_log_loss']:.4f}, run kept in {run}")


def keep_tokenizer(tokenizer: str, folder: Path) -> Codec:
    """The base's words and our markers; the chat template stays behind, for this is no longer a model to chat with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(tokenizer)
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": STEP, "model_max_length": 2048}
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    return Codec(tokenizer)


def taught(preset: LoraPreset, codec: Codec, encoder: TextEncoder, recorded: Sequence[Trajectory]) -> Lessons:
    """What was recorded of every domain, or else the reference history, which is reminded of the bundled cases."""
    learnt, held = [], []
    for domain in catalog().values():
        trajectories, memory = [each for each in recorded if each.domain == domain.name], None
        if not recorded:
            trajectories = list(draw_all(domain.name, "train", preset.trajectories))
            memory = recollect(domain, preset.bundled, encoder)
        made = Teacher(codec, domain, encoder, preset.longest, preset.seed).lessons(trajectories, memory)
        learnt += made.learnt
        held += made.held
    if not learnt or not held:
        raise ValueError("the history holds too little of a known domain to learn from")
    return Lessons(learnt, held)


def settings(preset: LoraPreset, run: Path) -> SFTConfig:
    return SFTConfig(
        output_dir=str(run),
        seed=preset.seed,
        num_train_epochs=preset.epochs,
        per_device_train_batch_size=preset.batch,
        per_device_eval_batch_size=preset.batch,
        gradient_accumulation_steps=preset.accumulation,
        learning_rate=preset.rate,
        lr_scheduler_type="cosine",
        warmup_steps=preset.warmup,
        bf16=preset.bf16,
        use_cpu=not torch.accelerator.is_available(),
        max_length=preset.longest,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        average_tokens_across_devices=False,
        prediction_loss_only=True,
        eval_strategy="epoch",
        save_steps=preset.save_every,
        save_total_limit=2,
        logging_steps=0.02,
        report_to="none",
    )


def last_whole(run: Path) -> str | None:
    """The last checkpoint that was written to its end: its state is the last file to be written."""
    whole = sorted(run.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name.split("-")[1]))
    return str(whole[-1].parent) if whole else None


def origin(base: str, config: Any) -> str:
    """The base model's name, and the hash of its files or its revision on the hub."""
    folder = Path(base)
    if not folder.is_dir():
        return f"{base}@{config._commit_hash}"
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return f"{folder.name}@{hashlib.sha256(''.join(map(sha256, files)).encode()).hexdigest()}"


@torch.no_grad()
def _after(model: Any, prompt: Sequence[int]) -> NDArray[Any]:
    logits = model(torch.tensor([list(prompt)], device=model.device)).logits[0, -1]
    return np.asarray(logits.float().cpu().numpy())


def sign(manifest: Manifest, folder: Path, *files: str) -> None:
    signed = manifest.model_copy(update={"files": {name: sha256(folder / name) for name in (*files, TOKENIZER)}})
    (folder / MANIFEST).write_text(signed.model_dump_json(indent=2) + "\n")
