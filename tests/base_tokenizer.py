"""A tokenizer as an instruct model brings it: words first, its own control tokens behind them, none of our markers."""

import json
from collections.abc import Iterator
from functools import cache

from tokenizers import AddedToken, Tokenizer, normalizers

from models.training.tokenizer import train_tokenizer
from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.reference import Reference
from service.world.codec import fold

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>")
SAMPLE = 20


@cache
def base_tokenizer() -> str:
    """As in Qwen2.5, one of the added tokens is not special, and text is normalised (NFC) first."""
    texts = [text for name, domain in catalog().items() for text in _texts(reference(name), domain)]
    tokenizer = Tokenizer.from_str(train_tokenizer(texts, [], 1_000))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in CONTROL[:3]])
    tokenizer.add_tokens([AddedToken(CONTROL[3], normalized=False, special=False)])
    return str(json.dumps(json.loads(tokenizer.to_str())))


def _texts(process: Reference, domain: Domain) -> Iterator[str]:
    for number in range(SAMPLE):
        for step in draw(process, domain, "bundled", number)[1].transitions:
            told = (text for fact in domain.facts(step.state, step.action) for text in (fact.name, fact.value))
            yield from (f" {fold(text)}" for text in (*told, step.action.text, step.observation))
