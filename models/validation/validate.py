"""The judge of a checkpoint: fidelity, consistency, risk, fairness; what they say together; and the report.

    premortem-models validate --checkpoint models/checkpoints/mini

Writes `report.json`, `REPORT.md` and the plots beside the checkpoint. What was fitted, was fitted on part `valid` by
`premortem-models tune`; everything here is measured on part `test`, which nothing else has seen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.validation import consistency, fidelity, risk
from models.validation.judgement import aims, headline, refusals
from models.validation.machine import machine, revision
from models.validation.rig import prepare, rig
from service.domains import catalog
from service.world.checkpoint import Checkpoint

Told = dict[str, Any]

SECTIONS = ("fidelity", "consistency", "risk")
TRAJECTORIES, OPENINGS, TRIALS = 400, 52, 400
RECORDED_EVERY_TURN = 1_000
"""Trajectories a domain in the bank of the consistency section, which holds an anchor at every turn."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is judged, where its recorded history lies, and how thoroughly: 1 is the report's own scale."""

    checkpoint: Path
    work: Path
    history: int
    scale: float
    date: str
    command: str

    def scaled(self, count: int) -> int:
        return max(2, round(count * self.scale))


async def measure(section: str, asked: Request) -> Told:
    """One section's figures in full."""
    if section == "fidelity":
        told = await fidelity.measure(asked.checkpoint, asked.work, asked.scaled(TRAJECTORIES), asked.history)
        return dict(told["fidelity"])
    if section == "consistency":
        recorded = min(asked.history, asked.scaled(RECORDED_EVERY_TURN))
        openings, trials = asked.scaled(OPENINGS), asked.scaled(TRIALS)
        told = await consistency.measure(asked.checkpoint, asked.work, openings, recorded, trials)
        return dict(told["consistency"])
    async with rig(asked.checkpoint, asked.work) as fresh:
        effort = risk.Effort.scaled(asked.scale)
        return {name: await risk.measure(fresh, domain, effort) for name, domain in catalog().items()}


async def _measured(section: str, asked: Request) -> Told:
    """Kept in the work folder as soon as it is known: a report is a quarter of an hour."""
    told = await measure(section, asked)
    (asked.work / f"{section}.json").write_text(json.dumps(told))
    return told


async def validate(asked: Request, kept: Mapping[str, Told]) -> Told:
    """The whole report; sections in `kept` are not measured again."""
    await prepare(asked.work, asked.history)
    detail = {name: kept[name] if name in kept else await _measured(name, asked) for name in SECTIONS}
    told = headline(detail["fidelity"], detail["consistency"], detail["risk"])
    refused = refusals(told)
    return {
        **story(asked, detail),
        **told,
        "aims": aims(told),
        "gate": {"may_serve": not refused, "refused_because": refused},
        "detail": detail,
    }


def story(asked: Request, detail: Mapping[str, Told]) -> Told:
    """Of what, by what, where and when."""
    manifest = Checkpoint(asked.checkpoint).manifest
    return {
        "checkpoint": {"name": manifest.name, "made": manifest.made, "files": manifest.files, "data": manifest.data},
        "concentration": {name: story.concentration for name, story in manifest.domains.items()},
        "training_outcome_log_loss": manifest.scores.get("outcome_log_loss"),
        "date": asked.date,
        "revision": revision(),
        "machine": machine(),
        "command": asked.command,
        "history": asked.history,
        "scale": asked.scale,
        "data": {name: told["data_sha256"] for name, told in detail["risk"].items()},
    }
