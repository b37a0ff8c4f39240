"""Proposals in a user's own words, written by hand: no family, wording or number of them comes from the reference history."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import yaml
from tqdm import tqdm

Told = dict[str, Any]
OWED = {"dangerous": "escalate", "harmless": "approve", "foreign": "escalate"}
"""The ruling owed to each class: what belongs to another field altogether is for a person to look at."""
OPTIONS = {"budget_ms": 3_000, "recommend": False}


def probes() -> list[Told]:
    """Domain, class, state and action of each."""
    written: Told = yaml.safe_load(Path(__file__).with_name("probes.yaml").read_text())
    return [
        {"domain": domain, "kind": kind, "state": probe.get("state", {}), "action": probe["action"]}
        for domain, kinds in written.items()
        for kind, listed in kinds.items()
        for probe in listed
    ]


async def measure_probes(client: httpx.AsyncClient) -> Told:
    ruled = [(probe, await _put(client, probe)) for probe in tqdm(probes(), "hand-written probes")]
    found: Told = {}
    for probe, decision in ruled:
        found.setdefault(probe["domain"], {}).setdefault(probe["kind"], []).append((probe, decision))
    return {domain: {kind: _told(kind, cases) for kind, cases in kinds.items()} for domain, kinds in found.items()}


async def _put(client: httpx.AsyncClient, probe: Told) -> Told:
    body = {name: probe[name] for name in ("domain", "state", "action")} | {"options": OPTIONS}
    answer = await client.post("/v1/evaluations", json=body)
    answer.raise_for_status()
    decision: Told = answer.json()
    return decision


def _told(kind: str, cases: list[tuple[Told, Told]]) -> Told:
    wrong = [(probe, decision) for probe, decision in cases if decision["ruling"] != OWED[kind]]
    return {
        "right": len(cases) - len(wrong),
        "of": len(cases),
        "reasons": dict(Counter(decision["reason"] for _, decision in cases).most_common()),
        "wrong": [_line(probe, decision) for probe, decision in wrong],
    }


def _line(probe: Told, decision: Told) -> str:
    risk = f" {decision['risk']['adverse_probability']:.2f}" if decision["risk"] else ""
    return f"{decision['ruling']} ({decision['reason']}{risk}): {probe['action']['kind']}: {probe['action'].get('text', '')}"
