"""Everything that training reads, made once from the reference history and kept in one folder."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.training.examples import Example, ExampleBuilder, Recollection, Worth, keys
from models.training.history import draw_all
from models.training.presets import Preset
from models.training.tokenizer import train_tokenizer
from service.anchors.encoder import Encoder, TextEncoder
from service.anchors.history import RECORDED, anchors_of, draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.rollout import Trajectory
from service.world.codec import Codec, fold, markers, pairs

TOKENIZER_SAMPLE = 4_000
CHUNK = 1_000
ALONE = 0.25
"""How often an example remembers no recorded case at all."""

Ids = NDArray[np.int64]
Odds = NDArray[np.float32]
Tokens = tuple[Ids, Ids, Odds]
"""Ids, worths, and a row of odds over the marker ids for every outcome token, of one example."""


@dataclass(frozen=True)
class Corpus:
    """Flat token ids of all examples, what each token is worth, the odds of outcomes, and where each example ends in all three."""

    ids: NDArray[np.uint16]
    worth: NDArray[np.uint8]
    odds: NDArray[np.float16]
    ends: NDArray[np.int64]
    outcome_ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def digest(self) -> str:
        return hashlib.sha256(self.ids.tobytes() + self.worth.tobytes() + self.odds.tobytes()).hexdigest()

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends, prepend=0)

    def example(self, number: int) -> "Tokens":
        span, rows = (slice(ends[number - 1] if number else 0, ends[number]) for ends in (self.ends, self.outcome_ends))
        return self.ids[span].astype(np.int64), self.worth[span].astype(np.int64), self.odds[rows].astype(np.float32)


FIELDS = tuple(field.name for field in fields(Corpus))


def make_tokenizer(preset: Preset, path: Path) -> Codec:
    """Trains the tokenizer on a sample of the history, or reads it back."""
    if not path.exists():
        texts = [text for domain in catalog().values() for text in _texts(domain)]
        path.write_text(train_tokenizer(texts, markers(catalog().values()), preset.vocabulary))
    return Codec(path.read_text())


def make_corpus(preset: Preset, codec: Codec, cache: Path, work: Path) -> Corpus:
    """Builds the examples of every domain, or reads them back, and shuffles them together."""
    parts = [_read_or_make(preset, codec, cache, domain, work / f"{domain.name}.npz") for domain in catalog().values()]
    examples = [part.example(number) for part in parts for number in range(len(part))]
    Random(preset.seed).shuffle(examples)
    return joined(examples)


def _read_or_make(preset: Preset, codec: Codec, cache: Path, domain: Domain, path: Path) -> Corpus:
    if not path.exists():
        corpus = joined(_examples(preset, codec, cache, domain))
        np.savez(path, **{name: getattr(corpus, name) for name in FIELDS})
    held = np.load(path)
    return Corpus(*(held[name] for name in FIELDS))


def joined(examples: Sequence[Tokens]) -> Corpus:
    """Many examples in one flat corpus, in their order."""
    ids, worth, odds = (np.concatenate(parts) for parts in zip(*examples, strict=True))
    ends, outcome_ends = (np.cumsum([len(example[part]) for example in examples]) for part in (0, 2))
    return Corpus(ids.astype(np.uint16), worth.astype(np.uint8), odds.astype(np.float16), ends, outcome_ends)


def recollect(domain: Domain, count: int, encoder: TextEncoder) -> Recollection:
    """The bundled history of a domain as the service indexes it."""
    return remembered(domain, draw_all(domain.name, "bundled", count, horizon=RECORDED), encoder)


def remembered(domain: Domain, trajectories: Iterable[Trajectory], encoder: TextEncoder) -> Recollection:
    """Trajectories as the cases that training is reminded of."""
    anchors = [anchor for trajectory in trajectories for anchor in anchors_of(domain, trajectory)]
    return Recollection(anchors, encoder.encode([anchor.key.text for anchor in anchors]))


def _examples(preset: Preset, codec: Codec, cache: Path, domain: Domain) -> list[Tokens]:
    memory = recollect(domain, preset.bundled, Encoder(cache, threads=2))
    work = partial(_chunk, preset, ExampleBuilder(codec, domain, memory, preset.odds), cache, domain.name)
    count = preset.trajectories * (preset.focus_times if domain.name in preset.focus.split(",") else 1)
    with ProcessPoolExecutor(2) as pool, tqdm(desc=f"{domain.name}: examples", total=count) as bar:
        made: list[Tokens] = []
        for part in pool.map(work, (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))):
            made += part
            bar.update(len(part))
    return made


def _chunk(preset: Preset, builder: ExampleBuilder, cache: Path, domain: str, numbers: range) -> list[Tokens]:
    """The examples of these numbers; a share of them remembers no recorded case."""
    rng = Random(f"{preset.seed}/{domain}/{numbers.start}")
    field, process = catalog()[domain], reference(domain)
    horizons = [preset.long_horizon if rng.random() < preset.long_share else None for _ in numbers]
    drawn = [
        draw(process, field, preset.part, number, horizon=horizon)[1]
        for number, horizon in zip(numbers, horizons, strict=True)
    ]
    asked = [list(keys(field, trajectory)) if rng.random() >= ALONE else [] for trajectory in drawn]
    vectors = iter(Encoder(cache).encode([text for texts in asked for text in texts]))
    examples = [
        builder.build(rng, trajectory, [next(vectors) for _ in texts])
        for trajectory, texts in zip(drawn, asked, strict=True)
    ]
    return [_clipped(example, preset.longest) for example in examples]


def _clipped(example: Example, longest: int) -> Tokens:
    worth = np.array(example.worth[:longest], np.int64)
    outcomes = int((worth == Worth.outcome).sum())
    return np.array(example.ids[:longest]), worth, np.array(example.odds[:outcomes], np.float32)


def _texts(domain: Domain) -> list[str]:
    """What the tokenizer learns its words from: all that is told and all that is said."""
    texts: list[str] = []
    for trajectory in draw_all(domain.name, "train", TOKENIZER_SAMPLE, workers=2):
        first = trajectory.transitions[0]
        facts = domain.facts(first.state, first.action)
        told = [fact.value for fact in facts] + [first.action.text, first.action.kind]
        changed = [part for step in trajectory.transitions for pair in pairs(step.changes) for part in pair]
        said = [step.observation for step in trajectory.transitions] + changed + [fact.name for fact in facts]
        texts += [f" {fold(text)}" for text in told] + [f" {text}" for text in said]
    return texts
