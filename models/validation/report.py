"""The report of a checkpoint: one page that a safety officer can read, its pictures, and its machine-readable twin."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from models.validation.pages import charts, plots
from models.validation.pages import risk as of_risk
from models.validation.pages.consistency import consistency
from models.validation.pages.fidelity import fidelity
from models.validation.pages.head import aims, head, source

Told = dict[str, Any]

PICTURES: Mapping[str, Callable[[Told, Path], Path]] = {
    "fidelity": lambda detail, path: plots.fidelity_by_domain(detail["fidelity"], path),
    "fidelity_by_turn": lambda detail, path: plots.fidelity_by_turn(detail["fidelity"], path),
    "consistency": lambda detail, path: charts.consistency(detail["consistency"], path),
    "ranking": lambda detail, path: charts.ranking(detail["risk"], path),
    "reliability": lambda detail, path: charts.reliability(detail["risk"], path),
    "costs": lambda detail, path: charts.costs(detail["risk"], path),
    "estimators": lambda detail, path: charts.estimators(detail["risk"], path),
    "fairness": lambda detail, path: charts.fairness(detail["risk"], path),
}


def write(told: Told, out: Path) -> None:
    """`report.json`, `REPORT.md` and `plots/` in the folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    for name, draw in PICTURES.items():
        draw(told["detail"], out / "plots" / f"{name}.png")
    (out / "REPORT.md").write_text("\n".join(page(told)) + "\n")


def page(told: Told) -> Iterator[str]:
    detail = told["detail"]
    yield from head(told)
    yield from aims(told)
    yield from fidelity(detail["fidelity"])
    yield from consistency(detail["consistency"])
    yield from of_risk.ranking(detail["risk"])
    yield from of_risk.calibration(detail["risk"])
    yield from of_risk.estimator(detail["risk"], told["concentration"])
    yield from of_risk.settling(detail["risk"])
    yield from of_risk.fairness(detail["risk"])
    yield from source(told)
