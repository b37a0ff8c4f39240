"""How alike what was foreseen to be seen and what was seen are in meaning: cosine of all-MiniLM-L6-v2 vectors.

A number by itself says little, so two others stand beside it: of two true observations of the same outcome, which is all that
can be hoped for by one who knows the outcome but not the words, and of two true observations picked blindly.
"""

from collections.abc import Sequence

import numpy as np

from models.validation.steps.foreseen import Foreseen, Told
from models.validation.steps.scores import Floats
from service.anchors.encoder import TextEncoder

SEED = 71


def similarity(encoder: TextEncoder, said: Sequence[str], true: Sequence[str]) -> Floats:
    """Cosine of each pair; each text is encoded once. Nothing said of something, or of nothing, is not alike: 0."""
    texts = sorted({text for text in (*said, *true) if text})
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    return np.array([float(vectors[s] @ vectors[t]) if s and t else 0.0 for s, t in zip(said, true, strict=True)])


def of_observations(encoder: TextEncoder, foreseen: Foreseen) -> Told:
    true = [step.truth.observation for step in foreseen.steps]
    said = [each.observation if each else "" for each in foreseen.said]
    return {"observation_similarity": foreseen.mean(similarity(encoder, said, true))}


def of_truths(encoder: TextEncoder, foreseen: Foreseen) -> Told:
    """Every true observation beside one of another trajectory: with the same outcome, and with any."""
    outcomes = [step.truth.outcome for step in foreseen.steps]
    anyone = [""] * len(outcomes)
    return {
        "observation_similarity_same_outcome": _of_pairs(encoder, foreseen, outcomes),
        "observation_similarity_random": _of_pairs(encoder, foreseen, anyone),
    }


def _of_pairs(encoder: TextEncoder, foreseen: Foreseen, kinds: Sequence[str]) -> Told | None:
    """Steps whose kind no other trajectory has are left out."""
    partner = partners(foreseen.trajectories, kinds)
    rows = [row for row, other in enumerate(partner) if other is not None]
    seen = [step.truth.observation for step in foreseen.steps]
    others = [seen[other] for other in partner if other is not None]
    return foreseen.at(rows).mean(similarity(encoder, [seen[row] for row in rows], others))


def partners(trajectories: Sequence[str], kinds: Sequence[str]) -> list[int | None]:
    """For every row, one of the same kind from another trajectory, picked by chance; None if there is none."""
    rng = np.random.default_rng(SEED)
    names, of_kind = np.array(trajectories), np.array(kinds)
    found: list[int | None] = []
    for name, kind in zip(trajectories, kinds, strict=True):
        others = np.flatnonzero((of_kind == kind) & (names != name))
        found.append(int(rng.choice(others)) if len(others) else None)
    return found
