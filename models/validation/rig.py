"""The rooms that serve, in process and without the doors: what is measured here is what answers there."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from service.anchors.bank import PRECEDENT_FLOOR, PRECEDENT_TURNS, AnchorBank
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.anchors.history import draw, index_history
from service.domains import catalog, reference
from service.simulator.anchored import AnchoredSimulator
from service.verdicts.assess import Lens
from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.vocabulary.verdict import RiskPolicy
from service.world.checkpoint import Checkpoint
from service.world.local import LocalWorldModel
from service.world.model import PRECEDENTS, Opening

THREADS = 2
PATIENCE_S = 10.0
"""For the bank, while a future is grounded: a measurement must not depend on how busy the machine is."""
HISTORY = 3_000
"""Reference trajectories a domain in the bank, as the service indexes them by default."""


@dataclass(frozen=True)
class Rig:
    """A world model and the recorded history, as the service wires them."""

    world: LocalWorldModel
    bank: AnchorBank
    checkpoint: Checkpoint

    async def opening(self, domain: Domain, proposal: Proposal) -> Opening:
        matches = await self.recall(domain, proposal)
        return Opening(domain, proposal.state, proposal.action, matches)

    async def recall(self, domain: Domain, proposal: Proposal) -> tuple[Match, ...]:
        key = domain.anchor_key(proposal.state, proposal.action)
        return await self.bank.nearest(domain.name, key, PRECEDENTS, PRECEDENT_FLOOR, PRECEDENT_TURNS, tenant="")

    @property
    def simulator(self) -> AnchoredSimulator:
        return AnchoredSimulator(self.world, self.bank, PATIENCE_S)

    def lens(self, opening: Opening) -> Lens:
        domain = opening.domain
        return Lens.of(domain, opening.action, self.checkpoint.story(domain.name))


async def prepare(work: Path, history: int) -> None:
    """Indexes the bundled history once, with a progress bar; the service's data folder has the same shape."""
    bank = EdgeAnchorBank(work / "anchors", Encoder(work / "cache", THREADS))
    try:
        for name, domain in catalog().items():
            await index_history(bank, domain, reference(name), history)
    finally:
        await bank.aclose()


@asynccontextmanager
async def rig(checkpoint: Path, work: Path) -> AsyncIterator[Rig]:
    """Everything fresh: nothing is remembered from an earlier rig but the history on disk."""
    opened = Checkpoint(checkpoint)
    bank = EdgeAnchorBank(work / "anchors", Encoder(work / "cache", THREADS))
    world = LocalWorldModel(opened, THREADS)
    try:
        yield Rig(world, bank, opened)
    finally:
        await world.aclose()
        await bank.aclose()


def proposals(domain: Domain, part: str) -> Iterator[Proposal]:
    """Drawn proposals that would be simulated: of high impact, and breaking no hard rule."""
    process = reference(domain.name)
    for number in count():
        scenario, _ = draw(process, domain, part, number)
        proposal = Proposal(domain=domain.name, state=scenario.state, action=scenario.action)
        if domain.high_impact(proposal.action) and not domain.hard_rules(proposal):
            yield proposal


def asked(policy: RiskPolicy, futures: int, horizon: int) -> RiskPolicy:
    """The domain's policy with the effort that is measured, as the guardrail reads a caller's options."""
    quorum, most = min(policy.quorum, futures), max(policy.max_rollouts, futures)
    return replace(policy, rollouts=futures, quorum=quorum, max_rollouts=most, horizon=horizon)


def seeds(count: int) -> Sequence[int]:
    return [1_009 * number for number in range(count)]
