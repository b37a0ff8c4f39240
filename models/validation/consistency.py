"""Whether a long imagined future hangs together: turns that contradict, forget or ignore what came before, with anchors and without.

Every opening is simulated by the simulator that serves, with prose, `HORIZON` turns ahead, at every anchor interval with the
same seeds. Two futures an opening: one ends when it ends; the other is drawn on the condition that it lasts (`lasting.py`), or
hardly any would reach the last band. Consistency is the share of turns without a violation; openings are resampled.

The bank is the recorded history that serves, but with an anchor at every turn: the served one keeps every `anchor_interval`-th
turn, at which no other interval would find anything.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.validation.coherence.detectors import HORIZON, looked_for, tried
from models.validation.coherence.lasting import LastingWorldModel
from models.validation.coherence.lived import INTERVALS, Lived, told
from models.validation.rig import HISTORY, PATIENCE_S, Rig, proposals, rig, seeds
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.anchors.history import index_history
from service.deadline import Deadline
from service.domains import catalog, reference
from service.simulator.anchored import AnchoredSimulator, Simulation
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.vocabulary.violation import violations

FUTURES = 2
TRIALS = 400
PATIENCE_MS = 600_000.0


def at_interval(domain: Any, interval: int) -> Domain:
    """The field as it is, but grounded every `interval` turns."""
    changed: Domain = replace(domain, policy=replace(domain.policy, anchor_interval=interval))
    return changed


async def prepare(work: Path, history: int) -> None:
    """Indexes the bundled history once, with an anchor at every turn."""
    bank = EdgeAnchorBank(work / "anchors", Encoder(work / "cache"))
    try:
        for name, domain in catalog().items():
            await index_history(bank, at_interval(domain, 1), reference(name), history)
    finally:
        await bank.aclose()


async def measure(
    checkpoint: Path, work: Path, openings: int = 52, history: int = HISTORY, trials: int = TRIALS
) -> dict[str, Any]:
    """Consistency by domain and overall, and how far its detectors can be trusted; two futures an opening and interval."""
    every_turn = work / "every-turn"
    await prepare(every_turn, history)
    lived: dict[str, list[Lived]] = {}
    async with rig(checkpoint, every_turn) as fresh:
        for name, domain in catalog().items():
            lived[name] = [each async for each in _lives(fresh, domain, openings)]
    usual = {name: domain.policy.anchor_interval for name, domain in catalog().items()}
    found = {name: told(each, {usual[name]}) for name, each in lived.items()}
    pooled = [each for some in lived.values() for each in some]
    return {
        "consistency": {
            **found,
            "overall": told(pooled, set(usual.values())),
            "detectors": {name: tried(domain, trials) for name, domain in catalog().items()},
        },
        "consistency_openings": openings,
    }


async def _lives(fresh: Rig, domain: Domain, openings: int) -> AsyncIterator[Lived]:
    asked, looked = islice(proposals(domain, "test"), openings), looked_for(domain)
    for number, proposal in enumerate(tqdm(asked, f"{domain.name}: consistency", openings)):
        for interval in INTERVALS:
            simulation = await _simulated(fresh, at_interval(domain, interval), proposal, number)
            for rollout in simulation.rollouts:
                wrong = violations(looked, [step.transition for step in rollout.steps])
                yield Lived((domain.name, number), interval, rollout, wrong, simulation.anchors_failed)


async def _simulated(fresh: Rig, domain: Domain, proposal: Proposal, number: int) -> Simulation:
    """The chances of an opening are its own, and the same at every interval."""
    opening = await fresh.opening(domain, proposal)
    chances = seeds(FUTURES * (number + 1))[-FUTURES:]
    world = LastingWorldModel(fresh.world, frozenset(chances[1::2]), HORIZON)
    deadline = Deadline.after(PATIENCE_MS, time.monotonic)
    simulator = AnchoredSimulator(world, fresh.bank, PATIENCE_S)
    return await simulator.simulate(opening, chances, deadline, HORIZON, prose=True)
