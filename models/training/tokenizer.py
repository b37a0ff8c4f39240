"""The tokenizer: byte-level BPE trained on the history, digits one by one, the codec's markers first."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

DIGIT = Regex(r" ?\d")
"""A number is read digit by digit, so that 23 and 24 are neighbours."""


def train_tokenizer(texts: Iterable[str], markers: list[str], size: int) -> str:
    """The tokenizer as JSON; `size` counts markers, bytes and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(DIGIT, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=markers,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()
