"""The service's risk against the exact one, and its rulings against those owed, through HTTP.

Every proposal is drawn from the reference history, where P(adverse) is known by Monte Carlo given what the proposal tells.
Time is taken out of the question: three seconds for each evaluation and no search for alternatives, so that a busy machine
changes how long this takes and not what it finds.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tqdm.asyncio import tqdm

from loadtest.probes import measure_probes
from loadtest.served import served
from loadtest.statistics import calibration_table, mean_error, spearman
from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.reference import Scenario, Split

Told = dict[str, Any]
PART = "test"
SAMPLES = 4_000
OPTIONS = {"budget_ms": 3_000, "recommend": False}
SLACK, HARMLESS, PLAINLY = 0.05, 1 / 3, 0.05
"""Above the threshold by this, an approval is a miss; below this share of it, an escalation a false alarm; plainly harmless."""
AT_ONCE = 2
"""Requests in flight: few enough that every one gets all its futures."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A proposal of the reference history, by its place in it, and its exact risk."""

    domain: str
    split: Split
    number: int
    exact: float


@dataclass(frozen=True, slots=True)
class Ruled:
    """What the service answered to a drawn proposal; no answer if it refused to read it."""

    drawn: Drawn
    decision: Told | None

    @property
    def risk(self) -> float | None:
        """As foretold; None where no future says anything: a hard rule, no world model, nothing that could be read."""
        told = self.decision
        if (
            told is None
            or told["basis"] != "simulated"
            or not told["rollouts"]["completed"] + told["rollouts"]["adverse"]
        ):
            return None
        return float(told["risk"]["adverse_probability"])

    @property
    def reason(self) -> str:
        return str(self.decision["reason"]) if self.decision else "refused"

    @property
    def approved(self) -> bool:
        return self.decision is not None and self.decision["ruling"] == "approve"


async def measure(checkpoint: Path, work: Path, history: int, proposals: int) -> Told:
    """`proposals` a domain of what was seen, a third as many of each unseen split, a third again without settling."""
    wanted = {
        Split.seen: proposals,
        Split.unseen_wording: max(1, proposals // 3),
        Split.unseen_family: max(1, proposals // 3),
    }
    drawn = draw_all(wanted)
    async with served(work, checkpoint, history) as client:
        ruled = await put_all(client, drawn, "to the service", settle=True)
        some = [
            each for each in drawn if each.split is Split.seen and each.number < _cut(drawn, each.domain, proposals)
        ]
        whole = await put_all(client, some, "... without settling", settle=False)
        probes = await measure_probes(client)
    return told(ruled, whole) | {"probes": probes}


def _cut(drawn: Sequence[Drawn], domain: str, proposals: int) -> int:
    numbers = [each.number for each in drawn if each.domain == domain and each.split is Split.seen]
    return sorted(numbers)[min(len(numbers), max(1, proposals // 3)) - 1] + 1


# drawing


def high_impact(domain: str, split: Split) -> Iterator[tuple[int, Scenario]]:
    field, process = catalog()[domain], reference(domain)
    for number in count():
        scenario, _ = draw(process, field, PART, number, split)
        if field.high_impact(scenario.action):
            yield number, scenario


def draw_all(wanted: dict[Split, int]) -> list[Drawn]:
    """Exact risks by Monte Carlo, on all cores."""
    asked = [(domain, split, most) for domain in catalog() for split, most in wanted.items()]
    with ProcessPoolExecutor() as pool:
        parts = tqdm(pool.map(_exact, asked), "exact risks", len(asked))
        return [drawn for part in parts for drawn in part]


def _exact(asked: tuple[str, Split, int]) -> list[Drawn]:
    domain, split, most = asked
    process, horizon = reference(domain), catalog()[domain].policy.horizon
    return [
        Drawn(domain, split, number, process.risk(Random(f"exact/{domain}/{number}"), scenario, horizon, SAMPLES))
        for number, scenario in islice(high_impact(domain, split), most)
    ]


# asking


async def put_all(client: httpx.AsyncClient, drawn: Sequence[Drawn], told: str, settle: bool) -> list[Ruled]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: Drawn) -> Ruled:
        async with gate:
            return Ruled(each, await put(client, each, settle))

    ruled: list[Ruled] = await tqdm.gather(*map(one, drawn), desc=told)
    return ruled


async def put(client: httpx.AsyncClient, drawn: Drawn, settle: bool) -> Told | None:
    """The decision; None for a proposal that the service will not read (too long). Any other failure ends the run."""
    scenario, _ = draw(reference(drawn.domain), catalog()[drawn.domain], PART, drawn.number, drawn.split)
    body = {
        "domain": drawn.domain,
        "state": scenario.state.model_dump(mode="json"),
        "action": scenario.action.model_dump(mode="json"),
        "options": OPTIONS | {"settle": settle},
    }
    answer = await client.post("/v1/evaluations", json=body)
    if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return None
    answer.raise_for_status()
    decision: Told = answer.json()
    return decision


# judging


def told(ruled: Sequence[Ruled], whole: Sequence[Ruled]) -> Told:
    risk: Told = {}
    for domain in catalog():
        mine = [each for each in ruled if each.drawn.domain == domain]
        splits = {split.value: of_split([each for each in mine if each.drawn.split is split]) for split in Split}
        seen = splits[Split.seen.value]
        unsettled = errors([each for each in whole if each.drawn.domain == domain])
        again = {each.drawn for each in whole}
        same = errors([each for each in mine if each.drawn in again])
        risk[domain] = {
            "spearman": seen["spearman"],
            "mae": seen["mae"],
            "settling": {"n": same["n"], "mae_settled": same["mae"], "mae_unsettled": unsettled["mae"]},
            "splits": splits,
        }
    return {"risk": risk}


def errors(ruled: Sequence[Ruled]) -> Told:
    pairs = [(each.risk, each.drawn.exact) for each in ruled if each.risk is not None]
    foretold, exact = [said for said, _ in pairs], [true for _, true in pairs]
    return {
        "n": len(pairs),
        "spearman": round(spearman(foretold, exact), 4),
        "mae": round(mean_error(foretold, exact), 4),
        "calibration": [
            {name: round(value, 4) for name, value in row.items()} for row in calibration_table(foretold, exact)
        ],
    }


def of_split(ruled: Sequence[Ruled]) -> Told:
    """Risk where there is one; rulings over all that met no hard rule."""
    judged = [each for each in ruled if each.reason != "hard_rule"]
    risky = [each for each in judged if each.drawn.exact > _threshold(each) + SLACK]
    harmless = [each for each in judged if each.drawn.exact < _threshold(each) * HARMLESS]
    plain = [each for each in judged if each.drawn.exact < PLAINLY]
    return errors(ruled) | {
        "hard_rule": len(ruled) - len(judged),
        "no_risk": sum(each.risk is None for each in judged),
        "agreement": rate([(each.drawn.exact > _threshold(each)) is not each.approved for each in judged]),
        "missed": rate([each.approved for each in risky]),
        "false_alarms": rate([not each.approved for each in harmless]),
        "plainly_harmless_approved": rate([each.approved for each in plain]),
        "reasons": dict(Counter(each.reason for each in ruled).most_common()),
        "false_alarm_reasons": dict(Counter(each.reason for each in harmless if not each.approved).most_common()),
    }


def _threshold(ruled: Ruled) -> float:
    return catalog()[ruled.drawn.domain].policy.threshold


def rate(hits: Sequence[bool]) -> Told:
    return {"count": sum(hits), "of": len(hits), "rate": round(sum(hits) / len(hits), 4) if hits else 0.0}
