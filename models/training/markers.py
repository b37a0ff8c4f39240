"""The codec's markers in a tokenizer that never heard of them."""

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer


def extended(tokenizer_json: str, markers: Iterable[str]) -> str:
    """A base model's tokenizer with our markers as special tokens behind all it had; one it has already keeps its id."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False, special=True) for marker in markers])
    return str(tokenizer.to_str())


def spoken(marker: str) -> str:
    """A marker in plain words, by which its untrained row begins: `<|outcome:triage.ED_required|>` is `outcome triage ed required`."""
    return " ".join(re.findall(r"[a-z]+", marker.lower()))
