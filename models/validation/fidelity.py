"""How faithfully a world model foresees recorded histories it never saw, step by step, given the true past.

The headline `fidelity` is 1 minus the mean ranked probability score over the outcome scale. In plain words: at every step
the model gives odds for every rung of the ladder from "nothing happened" to "the worst"; fidelity says how close those odds
came to the rung that history then stood on. 1 is foresight. To expect a first-aid case where there was a near miss costs a
little, to expect nothing where someone died costs a lot.

On this scale it is easy to look good: most steps are mild, and who merely counts what usually follows in a category scores
high. `skill` is what is left after that, 1 - RPS / RPS of the frequencies; `ceiling_first_step` is what the exact odds of the
made history score, which no forecast can beat. The article that gives 0.847 does not define its fidelity: the two cannot be compared.

What is scored beyond the odds (changes, observation) follows a sampled outcome, as in serving, so it is right at most about
as often as that is; `when_outcome_right` tells of the steps in which it was. In the `time` split nothing recorded in the last
six months is recalled or counted; the weights, however, were learnt from histories of all dates, and the made history does not
drift, so it tests recall alone.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.validation.rig import HISTORY, THREADS, Rig, rig
from models.validation.steps.baselines import Frequencies
from models.validation.steps.compared import CASES, CHECKPOINT, FREQUENCIES, Compared
from models.validation.steps.earlier import EarlierBank
from models.validation.steps.foreseen import Foreseen
from models.validation.steps.foresight import Said, Step, foresee, steps
from models.validation.steps.headline import Measured, headline, of_domain, worst_of
from service.anchors.encoder import Encoder
from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.vocabulary.reference import Split
from service.vocabulary.rollout import Trajectory
from service.world.cases import CasesWorldModel
from service.world.model import Detail

LATE = datetime(2026, 5, 1, tzinfo=UTC)
"""The reference history ends six months later."""

SPLIT_SHARE = 0.3
"""Trajectories in each extra split, for one in the headline: 120 for 400."""


@dataclass(frozen=True)
class Scene:
    """One domain: who foresees, and what they may remember."""

    rig: Rig
    domain: Domain
    frequencies: Frequencies

    async def compare(self, trajectories: Iterable[Trajectory], detail: Detail) -> Compared:
        cases = CasesWorldModel(self.rig.bank)
        asked: list[Step] = []
        said: dict[str, list[Said]] = {CHECKPOINT: [], CASES: [], FREQUENCIES: []}
        for trajectory in trajectories:
            first = trajectory.transitions[0]
            proposal = Proposal(domain=self.domain.name, state=first.state, action=first.action)
            opening = await self.rig.opening(self.domain, proposal)
            by_model = await asyncio.gather(
                *(foresee(world, opening, trajectory, detail) for world in (self.rig.world, cases))
            )
            own = steps(self.domain, trajectory)
            asked += own
            for name, each in zip((CHECKPOINT, CASES), by_model, strict=True):
                said[name] += each
            said[FREQUENCIES] += [self.frequencies.forecast(step) for step in own]
        return Compared({name: Foreseen(self.domain, asked, each) for name, each in said.items()})


async def measure(checkpoint: Path, work: Path, count: int, history: int = HISTORY) -> dict[str, Any]:
    """Over the first `count` held-out trajectories of every domain, and fewer in each split; `history` are counted."""
    async with rig(checkpoint, work) as fresh:
        measured = {domain.name: await _domain(fresh, domain, count, history) for domain in catalog().values()}
        loss = fresh.checkpoint.manifest.scores.get("outcome_log_loss")
    encoder = Encoder(work / "cache", THREADS)
    domains = {name: of_domain(each, encoder) | {"training_outcome_log_loss": loss} for name, each in measured.items()}
    overall = headline(list(measured.values())) | {"worst_category": worst_of(domains)}
    return {"fidelity": {"overall": overall, **domains}, "fidelity_trajectories": count}


async def _domain(fresh: Rig, domain: Domain, count: int, history: int) -> Measured:
    recorded = list(islice(_drawn(domain, "bundled"), history))
    known = Scene(fresh, domain, Frequencies(domain, recorded))
    tested = tqdm(islice(_drawn(domain, "test"), count), f"{domain.name}: fidelity", count)
    whole = await known.compare(tested, Detail.prose)
    return Measured(whole, await _splits(known, recorded, max(1, round(count * SPLIT_SHARE))))


async def _splits(known: Scene, recorded: Sequence[Trajectory], count: int) -> dict[str, Compared]:
    """Odds alone: nothing else of them is reported."""
    earlier = Scene(
        replace(known.rig, bank=EarlierBank(known.rig.bank, LATE)),
        known.domain,
        Frequencies(known.domain, (trajectory for trajectory in recorded if trajectory.when < LATE)),
    )
    late = (trajectory for trajectory in _drawn(known.domain, "test") if trajectory.when >= LATE)
    found = {"time": await earlier.compare(islice(late, count), Detail.odds)}
    for split in (Split.unseen_wording, Split.unseen_family):
        other = islice(_drawn(known.domain, "test", split), count)
        found[split.value] = await known.compare(other, Detail.odds)
    return found


def _drawn(domain: Domain, part: str, split: Split = Split.seen) -> Iterator[Trajectory]:
    return (draw(reference(domain.name), domain, part, number, split)[1] for number in numbers())
