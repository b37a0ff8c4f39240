"""How long one evaluation takes in process, and what it costs: recall, the futures, the masked first reading, assessment.

What is left out is the door: HTTP, the words of the verdict, the ledger. Every way of asking is measured in a fresh rig,
warmed up on other proposals, so that no prompt, vector or tree is remembered from the way before.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.validation.rig import Rig, asked, proposals, rig, seeds
from service.deadline import Deadline
from service.domains import catalog
from service.verdicts.assess import assess
from service.verdicts.settle import settled
from service.vocabulary.proposal import Proposal
from service.world.model import BadForecast, Detail, Opening, Situation

HORIZON = 5
WARM_UP = 3
"""Proposals a domain, uncounted and of another part of the history."""
PATIENCE_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Way:
    """How an evaluation is asked for."""

    futures: int
    settle: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of each evaluation; tokens written and engine passes, one after another, of the average one."""

    times_ms: Sequence[float]
    tokens: float
    passes: float

    def percentile(self, share: float) -> float:
        return round(float(np.percentile(self.times_ms, share)), 1)


async def evaluate(rig: Rig, proposal: Proposal, way: Way) -> None:
    """One proposal as the guardrail takes it, from recall to assessment."""
    domain = catalog()[proposal.domain]
    opening = await rig.opening(domain, proposal)
    lens, policy = rig.lens(opening), asked(domain.policy, way.futures, HORIZON)
    simulator = rig.simulator
    stop = partial(settled, policy=policy, lens=lens) if way.settle else lambda _: False
    deadline = Deadline.after(PATIENCE_MS, time.monotonic)
    played, _ = await asyncio.gather(
        simulator.simulate(opening, seeds(way.futures), deadline, HORIZON, stop), glance(rig, opening)
    )
    assess(played.rollouts, way.futures, lens)


async def glance(rig: Rig, opening: Opening) -> None:
    """The first step as read without free text, which every evaluation pays for too."""
    try:
        await rig.world.forecast(Situation(replace(opening, masked=True), (), opening.state, 0, Detail.odds))
    except BadForecast:
        return


async def cost(checkpoint: Path, work: Path, way: Way, count: int) -> Cost:
    """Over `count` drawn proposals a domain, all different."""
    async with rig(checkpoint, work) as fresh:
        for domain in catalog().values():
            for proposal in islice(proposals(domain, "warm-up"), WARM_UP):
                await evaluate(fresh, proposal, way)
        before = fresh.world.tokens_written, fresh.world.passes
        drawn = [p for domain in catalog().values() for p in islice(proposals(domain, "test"), count)]
        told = f"{way.futures} x {HORIZON}{', settled' if way.settle else ''}"
        times = [await _timed(fresh, proposal, way) for proposal in tqdm(drawn, told)]
        tokens, passes = fresh.world.tokens_written - before[0], fresh.world.passes - before[1]
    return Cost(times, tokens / len(drawn), passes / len(drawn))


async def _timed(rig: Rig, proposal: Proposal, way: Way) -> float:
    started = time.perf_counter()
    await evaluate(rig, proposal, way)
    return (time.perf_counter() - started) * 1000


async def measure(checkpoint: Path, work: Path, count: int, busy: bool) -> dict[str, dict[str, float]]:
    told = {}
    for futures in (5, 10):
        whole = await cost(checkpoint, work, Way(futures, settle=False), count)
        short = await cost(checkpoint, work, Way(futures, settle=True), count)
        told[f"local_{futures}x{HORIZON}"] = _told(whole, short)
    if busy:
        with both_cores_taken():
            taken = await cost(checkpoint, work, Way(5, settle=False), count)
        told["local_5x5_busy"] = {"p50_ms": taken.percentile(50), "p95_ms": taken.percentile(95)}
    return told


def _told(whole: Cost, short: Cost) -> dict[str, float]:
    return {
        "p50_ms": whole.percentile(50),
        "p95_ms": whole.percentile(95),
        "tokens": round(whole.tokens, 1),
        "sequential_steps": round(whole.passes, 1),
        "settled_p50_ms": short.percentile(50),
        "settled_p95_ms": short.percentile(95),
        "settled_tokens": round(short.tokens, 1),
        "settled_sequential_steps": round(short.passes, 1),
    }


@contextmanager
def both_cores_taken() -> Iterator[None]:
    """Two processes that do nothing, as fast as they can."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
