"""Which fields are guarded, and how their states are written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from service.api.errors import problems
from service.api.schemas import DomainStory
from service.errors import UnknownDomain
from service.vocabulary.domain import Domain


def router(domains: Mapping[str, Domain], examples: Mapping[str, Sequence[dict[str, Any]]]) -> APIRouter:
    routes = APIRouter(prefix="/v1/domains", tags=["domains"])

    @routes.get("")
    async def index() -> dict[str, str]:
        """Every domain's name and what it is about."""
        return {name: domain.briefing for name, domain in domains.items()}

    @routes.get("/{name}", responses=problems(404))
    async def one(name: str) -> DomainStory:
        """Schema, outcomes, policy and examples of one domain."""
        if name not in domains:
            raise UnknownDomain(f"there is no domain {name!r}; there are {', '.join(domains)}")
        return story(domains[name], examples[name])

    return routes


def story(domain: Domain, examples: Sequence[dict[str, Any]]) -> DomainStory:
    outcomes = tuple(asdict(outcome) | {"severity": outcome.severity.name} for outcome in domain.outcomes)
    return DomainStory(
        name=domain.name,
        briefing=domain.briefing,
        outcomes=outcomes,
        policy=domain.policy.told() | {"name": domain.policy.name},
        state_schema=domain.state_type.model_json_schema(),
        examples=tuple({"title": case["title"], **case["proposal"]} for case in examples),
    )
