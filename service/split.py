"""Which checkpoint an evaluation is given to: the one that serves, or for a share of them a candidate."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.verdicts.assess import Lens
from service.vocabulary.decision import ModelStory
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Action, Proposal
from service.world.checkpoint import DomainStory
from service.world.model import WorldModel

SEED_BYTES = 6


@dataclass(frozen=True, slots=True)
class Contender:
    """A world model, what decisions say of it, and what was measured of it by domain."""

    world: WorldModel
    model: ModelStory
    stories: Mapping[str, DomainStory] = field(default_factory=dict)

    def story(self, domain: Domain) -> DomainStory:
        return self.stories.get(domain.name, DomainStory())

    def lens(self, domain: Domain, action: Action, horizon: int | None = None) -> Lens:
        """How its futures are read when they follow this action."""
        return Lens.of(domain, action, self.story(domain), horizon)


@dataclass(frozen=True, slots=True)
class Split:
    """`share`, in [0, 1], is the candidate's part of all proposals."""

    serving: Contender
    candidate: Contender | None = None
    share: float = 0.0

    @property
    def by_role(self) -> Mapping[str, Contender]:
        return {"world": self.serving} | ({"candidate": self.candidate} if self.candidate else {})

    def of(self, seed: int) -> Contender:
        """The same proposal always gets the same one. Shares nest: a larger one moves nobody back."""
        return self.candidate if self.candidate and seed < self.share * 256**SEED_BYTES else self.serving

    @property
    def servers(self) -> Mapping[str, str]:
        """Those of both; one that both ask is well if neither leaves it alone."""
        told: dict[str, str] = {}
        for contender in self.by_role.values():
            told |= {server: told.get(server) or trouble for server, trouble in contender.world.servers.items()}
        return told


def seed_of(proposal: Proposal) -> int:
    """The same proposal is played out with the same seeds, whoever asks and whenever."""
    told = f"{proposal.domain}{proposal.state.model_dump_json()}{proposal.action.model_dump_json()}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:SEED_BYTES], "big")
