"""TRL's supervised fine-tuning with a weight for every token."""

from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from models.training.lessons import UNHEARD


class Collator(DataCollatorForLanguageModeling):  # type: ignore[misc]
    """TRL's, with the weights padded alongside."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        weights = [torch.tensor(example["weights"]) for example in examples]
        batch: dict[str, torch.Tensor] = super().torch_call(examples)
        return batch | {"weights": pad_sequence(weights, batch_first=True)}


class WeighedTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's, with a loss that heeds the weights and runs the head only where something is said.

    Its `compute_loss_func` sees no weights, runs every step twice and is to be removed; its own loss reads the head's weight
    past PEFT, and breaks on a head whose rows are learnt.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels, weights = (inputs.pop(name)[:, 1:] for name in ("labels", "weights"))
        heard = (labels != UNHEARD).any(0).nonzero().flatten()
        outputs = model(**inputs, use_cache=False, logits_to_keep=heard)
        logits, due = outputs.logits.float().flatten(0, 1), labels[:, heard].flatten()
        each = functional.cross_entropy(logits, due, ignore_index=UNHEARD, reduction="none")
        count = (due != UNHEARD).sum() if num_items_in_batch is None else num_items_in_batch
        loss = (each * weights[:, heard].flatten()).sum() / count
        return (loss, outputs) if return_outputs else loss
