"""What of an instruct model is trained: a LoRA adapter, and the rows of the codec's markers."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from models.training.lora_presets import LoraPreset
from models.training.markers import spoken
from service.world.codec import Codec


def adapted(preset: LoraPreset, base: Any, codec: Codec) -> Any:
    """LoRA on every linear layer, and the markers' own rows learnt whole, in the embeddings and in the head.

    Only these rows: `modules_to_save` would train and keep both whole tables, 1.1 billion weights at 7 B, for some 35 new words.
    """
    if codec.vocabulary_size > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(codec.vocabulary_size, mean_resizing=False)
    begin_rows(base, codec)
    base.config.pad_token_id, base.config.eos_token_id = codec.pad, codec.step
    base.generation_config = GenerationConfig(pad_token_id=codec.pad, eos_token_id=codec.step)
    tables = ("embed_tokens",) if base.config.tie_word_embeddings else ("embed_tokens", "lm_head")
    lora = LoraConfig(
        r=preset.rank,
        lora_alpha=preset.alpha,
        lora_dropout=preset.dropout,
        target_modules=preset.targets.split(),
        trainable_token_indices={table: sorted(codec.marker_ids.values()) for table in tables},
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, lora)


@torch.no_grad()
def begin_rows(base: Any, codec: Codec) -> None:
    """A marker begins as the mean of the words it is made of, where the model already knows its way about."""
    for table in (base.get_input_embeddings().weight, base.get_output_embeddings().weight):
        begun = {id: table[codec.text(spoken(marker))[0]].float().mean(0) for marker, id in codec.marker_ids.items()}
        for id, row in begun.items():
            table[id] = row
