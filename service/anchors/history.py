"""Recorded trajectories, as anchors."""

import asyncio
from collections.abc import Iterable
from random import Random

from tqdm import tqdm

from service.anchors.bank import AnchorBank
from service.vocabulary.anchor import Anchor
from service.vocabulary.domain import Domain
from service.vocabulary.reference import Reference, Scenario, Split
from service.vocabulary.rollout import Trajectory, Transition

CHUNK = 256
RECORDED = 20
"""Steps of a bundled history: as many as a caller may look ahead, so that long futures find real states too."""


def anchors_of(domain: Domain, trajectory: Trajectory, tenant: str = "") -> Iterable[Anchor]:
    """One anchor at the first turn, and one wherever a future may be grounded: every `anchor_interval` turns.

    What followed is what followed within the policy's horizon of that turn. Without a tenant they are shared.
    """
    opening = trajectory.transitions[0]
    for turn in range(0, len(trajectory.transitions), domain.policy.anchor_interval):
        followed = trajectory.transitions[turn : turn + domain.policy.horizon]
        step = followed[0]
        yield Anchor(
            id=f"{trajectory.id}/{turn}",
            domain=domain.name,
            key=domain.anchor_key(step.state, step.action),
            when=trajectory.when,
            source=trajectory.source,
            action_kind=step.action.kind,
            outcome=max((after.outcome for after in followed), key=domain.outcomes.names.index),
            next_outcome=step.outcome,
            state=step.state.model_dump(mode="json", exclude_defaults=True),
            changes=step.changes.model_dump(mode="json", exclude_defaults=True),
            observation=step.observation,
            summary=summary(domain, opening.action.text, followed[-1]),
            tenant=tenant,
        )


def summary(domain: Domain, text: str, last: Transition) -> str:
    """What was done and how it ended, in one line."""
    return f"{_clip(text, 90)} → {domain.outcomes[last.outcome].meaning}: {_clip(last.observation, 90)}".rstrip(": ")


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


async def index_history(bank: AnchorBank, domain: Domain, process: Reference, count: int) -> None:
    """Fills the bank with the domain's reference history, once, with a progress bar; goes on where an earlier start stopped."""
    kept = await bank.count(domain.name)
    anchors = await asyncio.to_thread(_bundled, domain, process, count)
    if kept >= len(anchors):
        return
    for start in tqdm(
        range(0, len(anchors), CHUNK), f"{domain.name}: indexing the reference history", unit_scale=CHUNK
    ):
        await bank.add(anchors[start : start + CHUNK])


def _bundled(domain: Domain, process: Reference, count: int) -> list[Anchor]:
    drawn = (draw(process, domain, "bundled", number, horizon=RECORDED)[1] for number in range(count))
    return [anchor for trajectory in drawn for anchor in anchors_of(domain, trajectory)]


def draw(
    process: Reference, domain: Domain, part: str, number: int, split: Split = Split.seen, horizon: int | None = None
) -> tuple[Scenario, Trajectory]:
    """Trajectory `number` of a part of the reference history (`bundled`, `train`, `test` ...), with the scenario it began from.

    The same part and number are the same trajectory for ever; a longer `horizon` (steps; the policy's if None) takes the same steps
    and goes on, but its date is drawn last and may be another.
    """
    rng = Random(f"{domain.name}/{part}/{split}/{number}")
    scenario = process.scenario(rng, split)
    steps = horizon or domain.policy.horizon
    return scenario, process.trajectory(rng, scenario, steps, f"{domain.name}-{part}-{number:06d}")
