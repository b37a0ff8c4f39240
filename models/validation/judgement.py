"""What the figures say together: the headline, the aims met and missed, and whether the checkpoint may serve."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.validation.fairness import BOUND
from models.validation.figure import averaged

Told = dict[str, Any]

AIMS: Sequence[tuple[str, str, float, bool]] = (
    ("fidelity", "fidelity.overall", 0.88, True),
    ("fidelity in the worst category", "fidelity.worst_category", 0.80, True),
    ("consistency over 20 turns, anchored", "consistency.anchored", 0.96, True),
    ("consistency over 20 turns, unanchored", "consistency.unanchored", 0.85, True),
    ("consistency in turns 16-20, anchored", "consistency.anchored_turns_16_20", 0.94, True),
    ("AUROC of the verdict owed", "auroc", 0.95, True),
    ("calibration error (ECE) after calibration", "ece_after", 0.03, False),
    ("counting 40 less hazard 5, error", "estimator_error.gap", 0.0, True),
    ("verdicts flipped by settling", "verdict_flips_from_settling", 0.0, False),
)
"""Name, place in the headline, aim, and whether more is better."""


def headline(fidelity: Told, consistency: Told, risk: Mapping[str, Told]) -> Told:
    """The overall figures, and the same of each domain under `domains`."""
    domains = {name: _domain(fidelity[name], consistency[name], told) for name, told in risk.items()}
    every = list(domains.values())
    overall: Told = {
        "fidelity": _fidelity(
            fidelity["overall"], {f"{n}: {c}": v for n in risk for c, v in fidelity[n]["by_category"].items()}
        ),
        "consistency": _consistency(consistency["overall"]),
        **{key: averaged([each[key] for each in every]) for key in ("auroc", "ece_before", "ece_after", "coverage")},
        "estimator_error": {
            key: averaged([each["estimator_error"][key] for each in every]) for key in every[0]["estimator_error"]
        },
        "verdict_flips_from_settling": sum(each["verdict_flips_from_settling"] for each in every),
    }
    worst = max(domains, key=lambda name: float(domains[name]["fairness"]["disparity"]))
    overall["fairness"] = domains[worst]["fairness"] | {"domain": worst}
    return overall | {"domains": domains}


def _domain(fidelity: Told, consistency: Told, risk: Told) -> Told:
    test, fair = risk["backtest"], risk["fairness"]
    return {
        "fidelity": _fidelity(fidelity, fidelity["by_category"]),
        "consistency": _consistency(consistency),
        **{key: test[key] for key in ("auroc", "ece_before", "ece_after", "coverage")},
        "estimator_error": {key: value for key, value in risk["estimator"].items() if key != "own_limit"},
        "verdict_flips_from_settling": risk["settling"]["verdict_flips"],
        "fairness": {key: fair[key] for key in ("worst_group", "disparity", "disparity_bias", "bound")},
    }


def _fidelity(told: Told, by_category: Told) -> Told:
    keys = ("overall", "worst_category", "cases", "frequencies", "skill", "above_cases")
    return {key: told.get(key) for key in keys} | {"by_category": by_category}


def _consistency(told: Told) -> Told:
    return {key: told[key] for key in ("anchored", "unanchored", "anchored_turns_16_20", "unanchored_turns_16_20")}


def at(told: Told, place: str) -> float:
    """The figure at a dotted place, interval or not; NaN, which meets no aim, if too little was measured for one."""
    found: Any = told
    for key in place.split("."):
        found = found[key]
    return float("nan") if found is None else float(found["value"] if isinstance(found, dict) else found)


def aims(told: Told) -> list[Told]:
    rows = []
    for name, place, aim, more in AIMS:
        value = at(told, place)
        met = value >= aim if more else value <= aim
        rows.append({"name": name, "place": place, "aim": aim, "more_is_better": more, "value": value, "met": met})
    return rows


def refusals(told: Told) -> list[str]:
    """Why the checkpoint may not serve: it is beaten by plain memory, a verdict flips, or an error falls on one group."""
    found = []
    for name, domain in told["domains"].items():
        if domain["fidelity"]["overall"]["value"] <= domain["fidelity"]["cases"]["value"]:
            found.append(f"{name}: recorded cases alone foresee as well")
        if domain["verdict_flips_from_settling"]:
            found.append(f"{name}: settling flips {domain['verdict_flips_from_settling']} verdicts")
        if domain["fairness"]["disparity"] > BOUND:
            found.append(
                f"{name}: bias {domain['fairness']['disparity']:.2f} against {domain['fairness']['worst_group']}"
            )
    return found
