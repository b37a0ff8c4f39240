"""Token ids of texts and of turns: what a text spells stays text, and whose turn it is is said only here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer


class PlainText:
    """A tokenizer without its control tokens. `added` are those by name; their ids are `reserved`: no text is ever given one.

    `spelling` is what decides the ids of a text. Raises `ValueError`.
    """

    def __init__(self, tokenizer_json: str) -> None:
        spec = json.loads(tokenizer_json)
        self.added: dict[str, int] = {token["content"]: token["id"] for token in spec["added_tokens"]}
        self.reserved = frozenset(self.added.values())
        bare: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        self._plain = Tokenizer.from_str(json.dumps({**spec, **bare}))
        self.size = self._plain.get_vocab_size(with_added_tokens=False)
        self.spelling = [spec["model"], spec["pre_tokenizer"], *filter(None, [spec.get("normalizer")])]
        taken = any(self._plain.id_to_token(id) not in (token, None) for token, id in self.added.items())
        spelled = {id for ids in self._encoded(*self.added) for id in ids}
        if taken or spelled & self.reserved or len(self.reserved) < len(self.added):
            raise ValueError("every control token must have an id of its own, which no text is given")

    def text(self, *texts: str) -> list[list[int]]:
        """Ids of each text by itself."""
        encoded = self._encoded(*texts)
        if not all(self.reserved.isdisjoint(ids) for ids in encoded):
            raise AssertionError("text encoded to a control token")
        return encoded

    def spell(self, ids: Sequence[int]) -> str:
        return str(self._plain.decode(list(ids)))

    def piece(self, token: int) -> str:
        """What one token spells, its leading space included."""
        return str(self._plain.id_to_token(token)).replace("\u0120", " ")

    def _encoded(self, *texts: str) -> list[list[int]]:
        """One by one: a batch is spread over threads, and on busy cores whoever asks waits for them to wake."""
        return [self._plain.encode(text, add_special_tokens=False).ids for text in texts]


@dataclass(frozen=True, slots=True)
class Frame:
    """How a family of models writes a conversation: control tokens, and the text between them (`gap`, `after`)."""

    name: str
    begin: str
    head: str
    headed: str
    gap: str
    end: str
    after: str

    @property
    def controls(self) -> list[str]:
        return [name for name in (self.begin, self.head, self.headed, self.end) if name]


FRAMES = (
    Frame("ChatML", "", "<|im_start|>", "", "\n", "<|im_end|>", "\n"),
    Frame("Llama 3", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", ""),
)


class Conversation:
    """The turns of the frame that a tokenizer has. `end` is what a model says when its turn is over. Raises `ValueError`."""

    def __init__(self, plain: PlainText) -> None:
        known = [frame for frame in FRAMES if set(frame.controls) <= set(plain.added)]
        if not known:
            sought = " nor ".join(f"{frame.name} ({', '.join(frame.controls)})" for frame in FRAMES)
            raise ValueError(f"the tokenizer has the control tokens of neither {sought}")
        self.frame, self._plain = known[0], plain
        self.controls = {name: plain.added[name] for name in self.frame.controls}
        self.beginning = self._control(self.frame.begin)
        self.end = self.controls[self.frame.end]
        self.ended = [self.end, *plain.text(self.frame.after)[0]]

    def turn(self, role: str, content: str) -> list[int]:
        return [*self.begun(role, content), *self.ended]

    def begun(self, role: str, content: str) -> list[int]:
        """A turn that goes on."""
        who, told = self._plain.text(role, self.frame.gap + content)
        return [*self._control(self.frame.head), *who, *self._control(self.frame.headed), *told]

    def _control(self, name: str) -> list[int]:
        return [self.controls[name]] if name else []
