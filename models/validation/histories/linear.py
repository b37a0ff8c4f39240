"""Linear readings of a case: the text baseline that every other system must beat, and the probe."""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models.extraction.extract import Case
from service.vocabulary.domain import Domain

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
WORDS = TfidfVectorizer().build_analyzer()


def baseline(cases: Sequence[Case], recorded: Rows, adverse: Floats) -> Floats:
    """TF-IDF of words and word pairs with logistic regression: the risk of every case, fitted on the recorded ones."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    words.fit([cases[row].told for row in recorded])
    return risks(csr_matrix(words.transform([case.told for case in cases])), recorded, adverse)


def risks(features: csr_matrix, recorded: Rows, adverse: Floats) -> Floats:
    if len(set(adverse[recorded])) < 2:
        return np.full(len(adverse), adverse[recorded].mean())
    model = LogisticRegression(max_iter=1_000).fit(features[recorded], adverse[recorded])
    return np.asarray(model.predict_proba(features)[:, 1])


def tokens(case: Case, domain: Domain) -> list[str]:
    """Words, and the bands in which the domain tells its numbers."""
    facts = [fact for fact in domain.facts(case.state, case.action) if not fact.free]
    bands = [f"{fact.name}={word}" for fact in facts for word in fact.value.split() if not word[0].isdigit()]
    return [*WORDS(case.told), *bands]


def pairs(case: Case) -> list[str]:
    """Codes two by two: what they mean together is often what neither means alone."""
    return [*case.codes, *(f"{a}&{b}" for a, b in combinations(case.codes, 2))]


def rarity(told: Sequence[list[str]], recorded: Rows) -> csr_matrix | None:
    """Unit rows of TF-IDF, rarity counted among the recorded cases; None if nothing is told."""
    if not any(told):
        return None
    words = TfidfVectorizer(analyzer=list, sublinear_tf=True).fit([told[row] for row in recorded])
    return csr_matrix(words.transform(told))


def beside(parts: Iterable[csr_matrix | NDArray[np.float32] | None]) -> csr_matrix:
    return csr_matrix(hstack([csr_matrix(part) for part in parts if part is not None]))
