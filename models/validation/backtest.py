"""Verdicts against what followed: how well risk ranks, what a review burden buys, whether a risk of 0.3 means three in ten.

Two truths are held beside each other. What *followed* is one draw: even the true risk ranks it imperfectly, so the exact risk's own
score is the ceiling. What was *owed* is whether the exact risk lies above the domain's threshold: there a perfect simulator scores 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from models.validation.figure import Figure, figure
from models.validation.trials import Trial
from service.verdicts.calibrate import calibration
from service.vocabulary.verdict import RiskPolicy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Told = dict[str, Any]

BINS = 10
BURDENS = (0.1, 0.2, 0.3, 0.4, 0.5)
HARM_COSTS = (2.0, 5.0, 10.0, 20.0, 50.0)
"""What an adverse outcome that was approved costs, in reviews."""
POINTS = 60
"""Of a drawn curve, at most."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Foretold risks beside both truths, in rows."""

    raw: Floats
    risk: Floats
    exact: Floats
    happened: Bools

    @classmethod
    def of(cls, trials: Sequence[Trial], policy: RiskPolicy, points: Sequence[tuple[float, float]]) -> "Scored":
        raw = np.array([trial.raw(policy.rollouts) for trial in trials])
        calibrated = np.array(list(map(calibration(points), raw)))
        exact = np.array([trial.drawn.exact for trial in trials])
        happened = np.array([trial.drawn.happened for trial in trials])
        return cls(raw, calibrated, exact, happened)

    def __len__(self) -> int:
        return len(self.raw)


def told(scored: Scored, policy: RiskPolicy) -> Told:
    """Every figure of one domain. `auroc` is of the verdict owed, `auroc_followed` of what followed, with its ceiling."""
    owed = scored.exact > policy.threshold
    return {
        "n": len(scored),
        "adverse_followed": int(scored.happened.sum()),
        "owed_escalations": int(owed.sum()),
        "auroc": of(scored, lambda i: auroc(owed[i], scored.risk[i])).told(),
        "auroc_followed": of(scored, lambda i: auroc(scored.happened[i], scored.risk[i])).told(),
        "auroc_followed_ceiling": of(scored, lambda i: auroc(scored.happened[i], scored.exact[i])).told(),
        "average_precision": of(scored, lambda i: precision(owed[i], scored.risk[i])).told(),
        "ece_before": of(scored, lambda i: ece(scored.raw[i], scored.exact[i])).told(),
        "ece_after": of(scored, lambda i: ece(scored.risk[i], scored.exact[i])).told(),
        "ece_after_followed": of(scored, lambda i: ece(scored.risk[i], scored.happened[i].astype(float))).told(),
        "ece_followed_of_exact": of(scored, lambda i: ece(scored.exact[i], scored.happened[i].astype(float))).told(),
        "mean_error": of(scored, lambda i: float(np.abs(scored.risk[i] - scored.exact[i]).mean())).told(),
        "missed_at_burden": missed_at_burden(scored),
        "reliability": {"before": reliability(scored.raw, scored), "after": reliability(scored.risk, scored)},
        "roc": roc(owed, scored.risk),
        "precision_recall": precision_recall(owed, scored.risk),
        "cost": cost_curve(scored, policy.threshold),
    }


def of(scored: Scored, statistic: Any) -> Figure:
    return figure(statistic, range(len(scored)))


def auroc(truth: Bools, risk: Floats) -> float:
    """Area under the ROC curve; NaN if only one of the two happened."""
    return float(roc_auc_score(truth, risk)) if 0 < truth.sum() < len(truth) else float("nan")


def precision(truth: Bools, risk: Floats) -> float:
    return float(average_precision_score(truth, risk)) if truth.any() else float("nan")


def ece(risk: Floats, truth: Floats) -> float:
    """Expected calibration error over tenths of the proposals: mean |foretold - true|, in probability."""
    parts = np.array_split(np.argsort(risk, kind="stable"), min(BINS, len(risk)))
    return float(sum(abs(risk[part].mean() - truth[part].mean()) * len(part) for part in parts) / len(risk))


def reliability(risk: Floats, scored: Scored) -> list[Told]:
    """By tenths of the proposals, least risk first: foretold, exact and followed shares."""
    parts = np.array_split(np.argsort(risk, kind="stable"), min(BINS, len(risk)))
    return [
        {
            "foretold": round(float(risk[part].mean()), 4),
            "exact": round(float(scored.exact[part].mean()), 4),
            "followed": round(float(scored.happened[part].mean()), 4),
            "n": len(part),
        }
        for part in parts
    ]


def missed_at_burden(scored: Scored) -> Told:
    """If the riskiest share is reviewed: the share of all harm that is approved, by the exact odds of each."""
    found = {}
    for burden in BURDENS:

        def missed(i: NDArray[np.int64], burden: float = burden) -> float:
            order = np.argsort(-scored.risk[i], kind="stable")
            approved = order[round(burden * len(i)) :]
            return float(scored.exact[i][approved].sum() / scored.exact[i].sum())

        found[f"{burden:g}"] = of(scored, missed).told()
    return found


def roc(truth: Bools, risk: Floats) -> Told:
    false, true, _ = roc_curve(truth, risk)
    return {"false_alarms": thinned(false), "caught": thinned(true)}


def precision_recall(truth: Bools, risk: Floats) -> Told:
    right, caught, _ = precision_recall_curve(truth, risk)
    return {"precision": thinned(right), "recall": thinned(caught)}


def thinned(curve: Floats) -> list[float]:
    keep = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
    return [round(float(value), 4) for value in curve[keep]]


def cost_curve(scored: Scored, threshold: float) -> list[Told]:
    """Cost a proposal, in reviews: at the default threshold, at the best one, of approving all and of reviewing all."""
    return [
        {
            "harm": harm,
            "default": round(cost(scored, threshold, harm), 4),
            "best": round(min(cost(scored, t, harm) for t in np.linspace(0, 1, 101)), 4),
            "exact": round(min(cost(scored, 1 / harm, harm, exact=True), 1.0), 4),
            "approve_all": round(cost(scored, 1.0, harm), 4),
            "review_all": 1.0,
        }
        for harm in HARM_COSTS
    ]


def cost(scored: Scored, threshold: float, harm: float, exact: bool = False) -> float:
    """One a review, `harm` an adverse outcome that was approved."""
    approved = (scored.exact if exact else scored.risk) <= threshold
    return float((~approved).mean() + harm * (scored.exact * approved).mean())
