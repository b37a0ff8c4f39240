"""One question put to one history: who is recorded, who is scored, what each system foretold, how good it was."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.extraction.extract import Case, extract
from models.extraction.mapping import HistoryMapping, Question
from models.extraction.quality import leak, quality
from models.extraction.sources import Rejection, records
from models.extraction.split import Split, by_group, by_time, rotated
from models.validation.histories.judged import Judged, Told, auroc, told
from models.validation.histories.systems import NAMES, Foretold, History, foretell
from service.anchors.encoder import Encoder
from service.domains import catalog
from service.vocabulary.domain import Domain
from service.world.model import WorldModel

PARTS, LARGE, SCORED = 5, 3_000, 0.4
"""Rotations; from how many cases one split is enough; the share that one split scores."""
SEED = 1


@dataclass(frozen=True)
class Inquiry:
    """`anchors`, where given, is recorded wholly and `history` scored wholly; else a history is its own, split `by` group or time."""

    history: Path
    anchors: Path | None
    mapping: HistoryMapping
    question: Question
    by: str
    work: Path

    @property
    def domain(self) -> Domain:
        return catalog()[self.mapping.domain]

    async def answer(self, world: WorldModel) -> Told:
        own, recorded = self._read(self.history), self._read(self.anchors) if self.anchors else []
        cases, straddling = _together(_cases(own), _cases(recorded))
        if len({case.adverse for case in cases}) < 2:
            raise ValueError(f"{self.question.name}: nothing to tell apart in {len(cases)} cases that are all alike")
        splits = self._splits(cases, len(_cases(own)))
        history = History.of(self.domain, cases, self._vectors(cases))
        foretold = [await foretell(history, split, world, SEED) for split in splits]
        judged = _judged(cases, foretold)
        return {
            "quality": [asdict(quality(part)) for part in (own, recorded) if part],
            "leak": {"groups_left_out": straddling, "scored_alike": _alike(cases, splits)},
            "splits": len(splits),
            "scored": len(judged.cases),
            "adverse": int(judged.adverse.sum()),
            "unread": sum(each.unread for each in foretold),
            "weights": [each.weights for each in foretold],
            "systems": told(judged),
            "twins": _twins(judged, self.domain),
        }

    def _read(self, path: Path) -> list[Case | Rejection]:
        return list(extract(records(path), self.mapping, self.question, self.domain))

    def _splits(self, cases: Sequence[Case], own: int) -> list[Split]:
        groups = [case.group for case in cases]
        if self.anchors:
            return [Split(np.arange(own, len(cases)), np.arange(own))]
        if self.by == "time":
            return [by_time(groups, [case.when for case in cases], SCORED)]
        return list(rotated(groups, PARTS, SEED)) if len(cases) < LARGE else [by_group(groups, SCORED, SEED)]

    def _vectors(self, cases: Sequence[Case]) -> NDArray[np.float32] | None:
        """None where the mapping gives the encoder nothing to read; kept in `work` by a hash of the texts."""
        texts = sorted({case.text for case in cases})
        if not any(texts):
            return None
        kept = self.work / f"vectors-{hashlib.sha256(repr(texts).encode()).hexdigest()[:16]}.npy"
        if not kept.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            np.save(kept, Encoder(self.work / "cache").encode(texts))
        place = {text: row for row, text in enumerate(texts)}
        vectors: NDArray[np.float32] = np.load(kept)[[place[case.text] for case in cases]]
        return vectors


def _cases(found: Sequence[Case | Rejection]) -> list[Case]:
    return [each for each in found if isinstance(each, Case)]


def _together(own: Sequence[Case], recorded: Sequence[Case]) -> tuple[list[Case], int]:
    """The scored ones first; recorded groups that are also scored are left out and counted."""
    straddling = leak(recorded, own).groups
    return [*own, *(case for case in recorded if case.group not in straddling)], len(straddling)


def _alike(cases: Sequence[Case], splits: Sequence[Split]) -> int:
    """Scored cases that read word for word like a recorded one."""
    return sum(
        leak([cases[row] for row in split.recorded], [cases[row] for row in split.scored]).texts for split in splits
    )


def _judged(cases: Sequence[Case], foretold: Sequence[Foretold]) -> Judged:
    rows = np.concatenate([each.rows for each in foretold])
    parts = np.concatenate([np.full(len(each.rows), number) for number, each in enumerate(foretold)])
    risks = {name: np.concatenate([each.risks[name] for each in foretold]) for name in NAMES}
    return Judged([cases[row] for row in rows], parts, risks)


def _twins(judged: Judged, domain: Domain) -> Told:
    """The pair test: the other proposal of each state is never adverse; one that is not gated is approved unseen, at risk 0."""
    twins = [case.twin for case in judged.cases if case.twin]
    if not twins or any(domain.high_impact(twin) for twin in twins):
        return {}
    adverse, parts = np.append(judged.adverse, np.zeros(len(twins), bool)), np.append(judged.parts, judged.parts)
    none = np.zeros(len(twins))
    return {
        "n": len(twins),
        "auroc": {name: round(auroc(adverse, np.append(r, none), parts), 4) for name, r in judged.risks.items()},
    }
