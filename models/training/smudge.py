"""Words nobody taught: in a share of the examples, free text is partly replaced by pieces of words that mean nothing.

What the model then cannot read, its recorded cases were still found by: the encoder read the text as it was. So it learns to
lean on numbers and precedents when the wording is strange, as it will be for users whose words are not in the history.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.training.corpus import Corpus, joined
from service.anchors.history import draw
from service.domains import catalog, reference
from service.world.codec import ACTION, FIELD, IS, Codec

SHARE = 0.3
LEAST, MOST = 0.2, 1.0
"""Of the words of a smudged example, the share that is replaced."""
PIECES = (2, 4)
SAMPLE = 200

Ids = NDArray[np.int64]
Change = Callable[[Ids, Ids, np.random.Generator], tuple[Ids, Ids]]
"""Ids and worths in, the same of what is told instead out."""


class Smudge:
    """Knows which fields are free text, and which tokens begin a word or go on with one."""

    def __init__(self, codec: Codec) -> None:
        frame = codec.marker_ids
        self._field, self._is, self._action = frame[FIELD], frame[IS], frame[ACTION]
        self._markers = len(frame)
        self._free = {tuple(codec.text(name)[0]) for name in _free_names()}
        pieces = [codec.piece(token) for token in range(codec.vocabulary_size)]
        short = [token for token in range(self._markers, codec.vocabulary_size) if _is_scrap(pieces[token])]
        self._starts = np.array([piece.startswith(" ") for piece in pieces])
        self._heads = np.array([token for token in short if pieces[token].startswith(" ")])
        self._tails = np.array([token for token in short if not pieces[token].startswith(" ")])

    def __call__(self, ids: Ids, worth: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """Only what is told before the first outcome is smudged; worth grows along with the ids."""
        if rng.random() >= SHARE:
            return ids, worth
        rate = rng.uniform(LEAST, MOST)
        said = int(np.argmax(worth > 0))
        told: list[int] = []
        for free, span in self._spans(ids[:said].tolist()):
            told += self._smudged(span, rate, rng) if free else span
        return np.concatenate([told, ids[said:]]), np.concatenate([np.zeros(len(told), np.int64), worth[said:]])

    def _spans(self, ids: list[int]) -> list[tuple[bool, list[int]]]:
        """Runs of ids between markers, and whether each is free text: the value of a free field, or an action's words."""
        spans: list[tuple[bool, list[int]]] = [(False, [])]
        last = -1
        for id in ids:
            if id < self._markers:
                named = last == self._field and tuple(spans[-1][1]) in self._free
                free = id == self._is and (named or last == self._action)
                spans += [(False, [id]), (free, [])]
                last = id
            else:
                spans[-1][1].append(id)
        return spans

    def _smudged(self, span: list[int], rate: float, rng: np.random.Generator) -> list[int]:
        out: list[int] = []
        replacing = False
        for id in span:
            if self._starts[id] or not out:
                replacing = rng.random() < rate
                if replacing:
                    out.append(int(rng.choice(self._heads)))
                    out += rng.choice(self._tails, rng.integers(PIECES[0] - 1, PIECES[1])).tolist()
                    continue
            if not replacing:
                out.append(id)
        return out


def retold(corpus: Corpus, changes: Sequence[Change], seed: int) -> Corpus:
    """The corpus with each change made to a share of it, the same for the same seed. No change touches what is said."""
    told = []
    for number in range(len(corpus)):
        ids, worth, odds = corpus.example(number)
        rng = np.random.default_rng([seed, number])
        for change in changes:
            ids, worth = change(ids, worth, rng)
        told.append((ids, worth, odds))
    return joined(told)


def _free_names() -> set[str]:
    """The fields that are free text whenever they appear, as seen in a sample of every domain's history."""
    told = [
        fact
        for name, domain in catalog().items()
        for number in range(SAMPLE)
        for first in draw(reference(name), domain, "train", number)[1].transitions[:1]
        for fact in domain.facts(first.state, first.action)
    ]
    return {fact.name for fact in told if fact.free} - {fact.name for fact in told if not fact.free}


def _is_scrap(piece: str) -> bool:
    word = piece.strip()
    return word.isascii() and word.isalpha() and 1 <= len(word) <= 3
