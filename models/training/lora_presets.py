"""How an instruct model is fine-tuned: one preset, every number that matters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoraPreset:
    """Lengths in tokens; `batch` x `accumulation` examples make a step; `label_weight` is against 1 for a token of changes or prose.

    Epochs, batch, rate, warm-up, precision and length are the source article's. It says nothing of the adapter, so:
    every linear layer is adapted, as the attention alone falls short of full fine-tuning (QLoRA, arXiv 2305.14314, section 4);
    rank 16, because a history holds thousands of cases and not millions, and because vLLM refuses a higher rank unless told
    (`--max-lora-rank`); alpha at twice the rank, the usual scale of 2; dropout 0.05, as QLoRA found for models up to 13 B.
    A rate of 2e-5 is low for LoRA (1e-4 is usual) and the first thing to raise if the outcome's loss still falls at the end.
    """

    name: str
    base: str
    epochs: float = 3.0
    batch: int = 4
    accumulation: int = 8
    rate: float = 2e-5
    warmup: float = 0.1
    bf16: bool = True
    longest: int = 2_048
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: str = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
    label_weight: float = 16.0
    save_every: int = 50
    """Steps between two checkpoints: what a killed run can lose."""
    bundled: int = 3_000
    """Reference trajectories a domain to be reminded of: the anchors."""
    trajectories: int = 4_000
    """Reference trajectories a domain to learn from; none of them is an anchor."""
    seed: int = 17


LORA_PRESETS = {"qwen2.5-7b": LoraPreset("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct")}
