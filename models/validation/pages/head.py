"""The first lines of the report: what it is of, whether it may serve, what was aimed at; and the last: where it comes from."""

from collections.abc import Iterator
from typing import Any

from models.validation.pages.markdown import figure, table

Told = dict[str, Any]


def head(told: Told) -> Iterator[str]:
    gate = told["gate"]
    yield f"# Is the simulator right? The evidence on `{told['checkpoint']['name']}`"
    yield ""
    verdict = "**may serve**" if gate["may_serve"] else "**is refused**: " + "; ".join(gate["refused_because"])
    yield f"This checkpoint {verdict}. It is refused if recorded cases alone foresee as well as it does in any field, if stopping early flips any"
    yield "verdict, or if an error falls on one group of people beyond the stated bound."
    yield ""
    yield "Everything below is measured on the bundled *made* history (`service/domains/*/reference.py`), on cases that neither training nor the"
    yield "recorded cases nor calibration contain. It says how well the machinery learns a field whose true odds are known, and nothing about any real"
    yield "site, desk or clinic. Intervals are the central 95 % of a bootstrap over whole trajectories or proposals."


def aims(told: Told) -> Iterator[str]:
    yield "\n## What was aimed at\n"
    rows = []
    for aim in told["aims"]:
        sign = "≥" if aim["more_is_better"] else "≤"
        rows.append(
            (aim["name"], f"{sign} {aim['aim']:g}", figure(_at(told, aim["place"])), "yes" if aim["met"] else "**no**")
        )
    yield from table(("figure", "aim", "measured, mean of the domains", "met"), rows)
    yield ""
    names = list(told["domains"])
    rows = [
        (aim["name"], *(figure(_at(told["domains"][name], aim["place"])) for name in names)) for aim in told["aims"]
    ]
    yield from table(("by domain", *names), rows)


def _at(told: Told, place: str) -> Any:
    for key in place.split("."):
        told = told[key]
    return told


def source(told: Told) -> Iterator[str]:
    where = told["machine"]
    yield "\n## Where this comes from\n"
    yield f"- Command: `{told['command']}`; code revision `{told['revision']}`; {told['date']}."
    yield f"- Machine: {where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}."
    yield f"- Checkpoint made {told['checkpoint']['made']}; weights sha256 `{told['checkpoint']['files']['model.safetensors']}`;"
    yield f"  training data sha256 `{told['checkpoint']['data']['sha256']}`."
    yield f"- Recorded cases: {told['history']} trajectories a domain. Test proposals, sha256: " + ", ".join(
        f"{name} `{value[:16]}`" for name, value in told["data"].items()
    )
    yield "- The same figures for machines: `report.json`."
