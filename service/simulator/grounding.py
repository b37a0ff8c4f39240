"""Keeping an imagined state honest by a real one."""

from typing import Any

from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Action
from service.world.model import Grounding


def ground(domain: Domain, state: Any, action: Action, match: Match) -> tuple[Any, Grounding]:
    """The blended state, and what the world model is told of it: what followed there, and the facts that moved."""
    blended = domain.blend(state, match.anchor)
    if blended == state:
        return blended, Grounding(match.anchor.id, match.anchor.next_outcome, ())
    before = set(domain.facts(state, action))
    moved = tuple(fact for fact in domain.facts(blended, action) if fact not in before)
    return blended, Grounding(match.anchor.id, match.anchor.next_outcome, moved)
