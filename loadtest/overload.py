"""What becomes of the service when far more is asked of it than it can do; writes build/overload.json.

    python -m loadtest.overload            # make overload, about three minutes

Arrivals are a Poisson process that waits for no answer, of proposals that nothing but a simulation can decide. Every latency
counts from when a proposal was due. Good is an answer with simulated evidence within the domain's own budget; what was answered
without enough whole futures is not. First the rate is raised until no more is good. What is good at the best rate when it is offered
again is the capacity: the best of many rounds alone would be the luckiest. Then three times as much is offered, and then half of it.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from math import inf
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from loadtest.load import HISTORY
from loadtest.process import Service, started
from loadtest.traffic import moments
from models.validation.machine import machine, revision
from service.api.callers import Role
from service.domains import catalog, reference
from service.vocabulary.proposal import Proposal
from service.vocabulary.reference import Split

OUT = Path("build/overload.json")
FIRST_RATE, STEEPNESS, STEP_S = 6.0, 1.4, 8.0
"""Of the ramp: proposals a second at first, the factor from step to step, and how long a step is."""
BURST, BURST_S, CALM_S = 3.0, 30.0, 10.0
WELL_S, STRIDE_S = 2.0, 0.25
"""How long all must be good to count as recovered, and where that may begin."""
WITHOUT_EVIDENCE = ("too_few_rollouts", "world_model_unavailable")
AT_LEAST = {"goodput_ratio": 0.9}
AT_MOST = {"accepted_p99_over_deadline": 1.0, "refusal_p99_ms": 20.0, "recovery_s": 5.0}


@dataclass(frozen=True, slots=True)
class Asked:
    domain: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`due` in seconds from the beginning; `took` in milliseconds from then on, `lag` until it was sent."""

    due: float
    took: float
    lag: float
    status: int
    share: float
    """Of the domain's budget, how much it took."""
    good: bool


@dataclass(frozen=True, slots=True)
class Round:
    """What was offered and what came of it; rates a second, latencies in milliseconds, None of nothing."""

    offered: float
    accepted: float
    goodput: float
    accepted_p50_ms: float | None
    accepted_p99_ms: float | None
    accepted_p99_over_deadline: float | None
    refused: float
    refusal_p50_ms: float | None
    refusal_p99_ms: float | None
    errors: int
    lag_p99_ms: float | None

    @classmethod
    def of(cls, answers: Sequence[Answer], seconds: float) -> "Round":
        accepted = [each for each in answers if each.status == 200]
        refused = [each.took for each in answers if each.status == 503]
        took = [each.took for each in accepted]
        return cls(
            offered=len(answers) / seconds,
            accepted=len(accepted) / seconds,
            goodput=sum(each.good for each in answers) / seconds,
            accepted_p50_ms=_percentile(took, 50),
            accepted_p99_ms=_percentile(took, 99),
            accepted_p99_over_deadline=_percentile([each.share for each in accepted], 99),
            refused=len(refused) / seconds,
            refusal_p50_ms=_percentile(refused, 50),
            refusal_p99_ms=_percentile(refused, 99),
            errors=len(answers) - len(accepted) - len(refused),
            lag_p99_ms=_percentile([each.lag for each in answers], 99),
        )


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None


def proposals(seed: int) -> Iterator[Asked]:
    """Of all domains in turn, none of which a rule decides or nobody needs to judge."""
    chance = Random(f"overload/{seed}")
    for name, domain in cycle(catalog().items()):
        scenario = reference(name).scenario(chance, Split.seen)
        proposal = Proposal(domain=name, state=scenario.state, action=scenario.action)
        if domain.high_impact(scenario.action) and not domain.hard_rules(proposal):
            told = {"domain": name} | {
                part: getattr(scenario, part).model_dump(mode="json") for part in ("state", "action")
            }
            yield Asked(name, json.dumps(told).encode())


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    return moments(Random(f"arrivals/{seed}"), rate, seconds)


class Crowd:
    """Callers who wait for nobody."""

    def __init__(self, service: Service, session: aiohttp.ClientSession, asked: Iterator[Asked]) -> None:
        self._url, self._session, self._asked = f"{service.url}/v1/evaluations", session, asked
        self.date = ""

    async def round(self, rate: float, seconds: float, seed: int) -> list[Answer]:
        due = [*arrivals(rate, seconds, seed)]
        asked, began, tasks = [next(self._asked) for _ in due], monotonic(), list[asyncio.Task[Answer]]()
        for second, each in zip(due, asked, strict=True):
            await asyncio.sleep(max(0.0, began + second - monotonic()))
            tasks.append(asyncio.create_task(self._ask(each, began, second)))
        return await asyncio.gather(*tasks)

    async def _ask(self, asked: Asked, began: float, due: float) -> Answer:
        lag = monotonic() - began - due
        kind = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=asked.body, headers=kind) as response:
            body, status = await response.read(), response.status
            self.date = response.headers["Date"]
        took = monotonic() - began - due
        share = took * 1000 / catalog()[asked.domain].policy.budget_ms
        return Answer(
            due, took * 1000, lag * 1000, status, share, status == 200 and share <= 1 and simulated(json.loads(body))
        )


def simulated(decision: dict[str, Any]) -> bool:
    return decision["basis"] == "simulated" and decision["reason"] not in WITHOUT_EVIDENCE


async def measure(service: Service, step_s: float, burst_s: float, calm_s: float) -> dict[str, Any]:
    """The ramp, the burst and the calm after it."""
    headers = {"Authorization": f"Bearer {service.keys[Role.agent]}"}
    connector = aiohttp.TCPConnector(limit=0)
    rounds, rate = dict[str, Round](), FIRST_RATE
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        crowd = Crowd(service, session, proposals(1))
        await crowd.round(FIRST_RATE, step_s / 2, 0)  # nobody is timed by cold caches
        while rising([each.goodput for each in rounds.values()]):
            rounds[f"ramp, {rate:.0f}/s"] = Round.of(await crowd.round(rate, step_s, len(rounds)), step_s)
            rate *= STEEPNESS
        best = FIRST_RATE * STEEPNESS ** int(np.argmax([each.goodput for each in rounds.values()]))
        peak = Round.of(await crowd.round(best, burst_s, 99), burst_s)
        capacity = peak.goodput
        burst = Round.of(await crowd.round(BURST * capacity, burst_s, 100), burst_s)
        after = await crowd.round(capacity / 2, calm_s, 101)
    rounds |= {
        f"peak, {best:.0f}/s": peak,
        f"burst, {BURST:g} x capacity": burst,
        "calm, half of it": Round.of(after, calm_s),
    }
    figures: dict[str, Any] = {
        "capacity": capacity,
        "offered": burst.offered,
        "goodput_ratio": burst.goodput / capacity,
        "accepted_p99_over_deadline": burst.accepted_p99_over_deadline,
        "refusal_p99_ms": burst.refusal_p99_ms,
        "recovery_s": recovered(after, calm_s),
    }
    return (
        {"at": crowd.date}
        | figures
        | {"missed": missed(figures), "rounds": {name: asdict(each) for name, each in rounds.items()}}
    )


def recovered(answers: Sequence[Answer], seconds: float) -> float | None:
    """From when on all that was asked within `WELL_S` was good; None if never."""
    for begin in np.arange(0.0, max(seconds - WELL_S, 0.0) + STRIDE_S, STRIDE_S):
        if all(each.good for each in answers if begin <= each.due < begin + WELL_S):
            return float(begin)
    return None


def rising(goodput: Sequence[float]) -> bool:
    """Whether the best of all was among the last two: one step alone may have been an unlucky one."""
    return max(goodput[:-2], default=0.0) < max(goodput[-2:], default=1.0)


def missed(figures: dict[str, Any]) -> list[str]:
    """The aims that were not met. Where nobody was refused none of that is missed; never to recover is."""
    told = figures | {"recovery_s": inf if figures["recovery_s"] is None else figures["recovery_s"]}
    little = [name for name, least in AT_LEAST.items() if told[name] < least]
    return little + [name for name, most in AT_MOST.items() if (told[name] or 0.0) > most]


def table(told: dict[str, Any]) -> Table:
    made = Table(
        "round",
        title=f"{told['machine']['processor']}, {told['machine']['cores']} cores, {told['at']}",
        title_justify="left",
    )
    columns = (
        "offered",
        "accepted",
        "goodput",
        "accepted_p50_ms",
        "accepted_p99_ms",
        "refused",
        "refusal_p50_ms",
        "refusal_p99_ms",
        "errors",
    )
    for column in (*columns, "lag_p99_ms"):
        made.add_column(column.replace("_", " "), justify="right")
    for name, each in told["rounds"].items():
        made.add_row(name, *[_shown(each[column]) for column in (*columns, "lag_p99_ms")])
    return made


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.overload", description="Three times as much as it can do")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--seconds", type=float, nargs=3, default=(STEP_S, BURST_S, CALM_S), metavar=("STEP", "BURST", "CALM")
    )
    ask = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, started(Path(data), world="local", bundled_history=HISTORY) as service:
        made = {"machine": machine(), "revision": revision()}
        told = made | asyncio.run(measure(service, *ask.seconds))
    ask.out.parent.mkdir(parents=True, exist_ok=True)
    ask.out.write_text(json.dumps(told, indent=2) + "\n")
    console = Console(width=160)
    console.print(table(told))
    for word, aims in (("at least", AT_LEAST), ("at most", AT_MOST)):
        for name, aim in aims.items():
            console.print(f"{name}: {_shown(told[name])} (aim {word} {aim:g})")
    raise SystemExit(bool(told["missed"]))


if __name__ == "__main__":
    main()
