"""Fidelity as JSON: one domain's figures, and the means over domains, each beside what it must beat and what it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.validation.steps import likeness
from models.validation.steps.compared import (
    CASES,
    CEILING,
    CHECKPOINT,
    FREQUENCIES,
    Compared,
    Statistic,
    above,
    fidelity,
    figure_of,
    skill,
)
from models.validation.steps.foreseen import Foreseen, Told, told
from service.anchors.encoder import TextEncoder

WHOLE: Mapping[str, Statistic] = {
    "overall": fidelity(CHECKPOINT),
    "cases": fidelity(CASES),
    "frequencies": fidelity(FREQUENCIES),
    "skill": skill(CHECKPOINT),
    "above_cases": above(CASES),
}
FIRST: Mapping[str, Statistic] = {
    "first_step": fidelity(CHECKPOINT),
    "frequencies_first_step": fidelity(FREQUENCIES),
    "skill_first_step": skill(CHECKPOINT),
    "ceiling_first_step": fidelity(CEILING),
    "ceiling_skill_first_step": skill(CEILING),
}


@dataclass(frozen=True)
class Measured:
    """One domain's steps as foreseen: the headline's, and those of each split."""

    whole: Compared
    splits: Mapping[str, Compared]


def headline(domains: Sequence[Measured]) -> Told:
    """Means over domains; no ceiling where a domain's history does not tell its odds."""
    wholes = [each.whole for each in domains]
    firsts = [whole.first() for whole in wholes]
    found: Told = {name: told(figure_of(statistic, wholes)) for name, statistic in WHOLE.items()}
    for name, statistic in FIRST.items():
        known = not name.startswith("ceiling") or all(CEILING in first.by for first in firsts)
        found[name] = told(figure_of(statistic, firsts)) if known else None
    return found | {
        "splits": _of_splits(fidelity(CHECKPOINT), domains),
        "skill_by_split": _of_splits(skill(CHECKPOINT), domains),
    }


def _of_splits(statistic: Statistic, domains: Sequence[Measured]) -> Told:
    return {name: told(figure_of(statistic, [each.splits[name] for each in domains])) for name in domains[0].splits}


def of_domain(measured: Measured, encoder: TextEncoder) -> Told:
    """The checkpoint's figures, and the same of the baselines where they make sense."""
    by = measured.whole.by
    found = headline([measured])
    each = {name: foreseen.of_odds() for name, foreseen in by.items()}
    for name in (CHECKPOINT, CASES):
        each[name] |= _written(by[name], encoder) | {"when_outcome_right": _written(by[name].right(), encoder)}
    for name in (CASES, FREQUENCIES):
        each[name] |= {"overall": found[name], "splits": _of_splits(fidelity(name), [measured])}
    first = measured.whole.first().by
    if CEILING in first:
        each[CEILING] = first[CEILING].of_odds()
    return each.pop(CHECKPOINT) | found | likeness.of_truths(encoder, by[CHECKPOINT]) | {"baselines": each}


def _written(foreseen: Foreseen, encoder: TextEncoder) -> Told:
    return foreseen.of_changes() | likeness.of_observations(encoder, foreseen)


def worst_of(domains: Mapping[str, Told]) -> Told | None:
    found = [{"domain": name, **each["worst_category"]} for name, each in domains.items() if each["worst_category"]]
    return min(found, key=lambda each: float(each["value"]), default=None)
