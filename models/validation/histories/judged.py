"""How good the risks of real cases were, once it is known what followed; every figure resamples whole groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.extraction.extract import Case
from models.validation.backtest import ece, precision
from models.validation.figure import Figure, figure, mean

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
Told = dict[str, Any]

BURDENS = (0.1, 0.2, 0.3)
"""Shares of all cases that are reviewed, the riskiest first."""
LEAST = 30
"""Cases, below which a subgroup is shown but not judged."""


@dataclass(frozen=True)
class Judged:
    """Scored cases in rows. `parts` says by whose anchors: ranks are compared only within one, pooled risks are shifted."""

    cases: Sequence[Case]
    parts: Rows
    risks: Mapping[str, Floats]

    @property
    def adverse(self) -> Bools:
        return np.array([case.adverse for case in self.cases])

    @property
    def groups(self) -> list[str]:
        return [case.group for case in self.cases]


def told(judged: Judged) -> Told:
    return {name: _system(judged, name) for name in judged.risks}


def _system(judged: Judged, name: str) -> Told:
    risk, adverse, groups, parts = judged.risks[name], judged.adverse, judged.groups, judged.parts
    difference = above(judged, name)
    return {
        "auroc": figure(lambda i: auroc(adverse[i], risk[i], parts[i]), groups).told(),
        "above_baseline": difference.told(),
        "verdict": verdict(difference) if name != "baseline" else "",
        "average_precision": figure(lambda i: precision(adverse[i], risk[i]), groups).told(),
        "brier": mean(np.square(risk - adverse), groups).told(),
        "ece": figure(lambda i: ece(risk[i], adverse[i].astype(float)), groups).told(),
        "missed_at_burden": {f"{share:g}": _missed(judged, name, share).told() for share in BURDENS},
        "subgroups": subgroups(judged, name),
    }


def _missed(judged: Judged, name: str, share: float) -> Figure:
    risk, adverse = judged.risks[name], judged.adverse
    return figure(lambda i: missed(adverse[i], risk[i], share), judged.groups)


def above(judged: Judged, name: str) -> Figure:
    """AUROC less that of the baseline, on the very same resampled cases."""
    mine, theirs, adverse, parts = judged.risks[name], judged.risks["baseline"], judged.adverse, judged.parts
    return figure(
        lambda i: auroc(adverse[i], mine[i], parts[i]) - auroc(adverse[i], theirs[i], parts[i]), judged.groups
    )


def verdict(difference: Figure) -> str:
    if difference.low > 0:
        return "above"
    return "below" if difference.high < 0 else "not distinguishable"


def auroc(adverse: Bools, risk: Floats, parts: Rows) -> float:
    """P(the adverse of two cases of one part has the higher risk), ties half; NaN if no part has both kinds."""
    right = pairs = 0.0
    for part in np.unique(parts):
        own = parts == part
        ranks, bad = rankdata(risk[own]), adverse[own]
        count = int(bad.sum())
        right += ranks[bad].sum() - count * (count + 1) / 2
        pairs += count * (len(bad) - count)
    return float(right / pairs) if pairs else float("nan")


def missed(adverse: Bools, risk: Floats, share: float) -> float:
    """Share of the adverse that is approved when the riskiest `share` of all is reviewed."""
    approved = np.argsort(-risk, kind="stable")[round(share * len(risk)) :]
    return float(adverse[approved].sum() / adverse.sum()) if adverse.any() else float("nan")


def subgroups(judged: Judged, name: str) -> Told:
    """Each subgroup's AUROC and bias (mean foretold less followed); the worst is the most biased of `LEAST` or more cases."""
    found: Told = {}
    for attribute in judged.cases[0].subgroups:
        owned = np.array([case.subgroups[attribute] for case in judged.cases])
        found[attribute] = {
            str(each): _subgroup(judged, name, np.flatnonzero(owned == each)) for each in np.unique(owned)
        }
    large = [
        (abs(group["bias"]["value"]), f"{attribute}: {each}")
        for attribute, groups in found.items()
        for each, group in groups.items()
        if group["n"] >= LEAST
    ]
    disparity, worst = max(large, default=(0.0, ""))
    return found | {"worst_group": worst, "disparity": disparity}


def _subgroup(judged: Judged, name: str, rows: Rows) -> Told:
    risk, adverse, parts = judged.risks[name][rows], judged.adverse[rows], judged.parts[rows]
    groups = [judged.cases[row].group for row in rows]
    return {
        "n": len(rows),
        "adverse": int(adverse.sum()),
        "auroc": figure(lambda i: auroc(adverse[i], risk[i], parts[i]), groups).told() if len(rows) >= LEAST else None,
        "bias": mean(risk - adverse, groups).told(),
    }
