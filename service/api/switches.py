"""The kill switch: an operator stops a domain, or an agent, within a tenant."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter

from service.api.callers import Caller, Doorkeeper, Role
from service.api.errors import problems
from service.api.schemas import SwitchRequest
from service.decisions.switches import Switch, Switches, Target
from service.errors import UnknownDomain
from service.vocabulary.domain import Domain


def router(
    switches: Switches, domains: Mapping[str, Domain], door: Doorkeeper, now: Callable[[], datetime]
) -> APIRouter:
    routes = APIRouter(prefix="/v1/switches", tags=["switches"])

    @routes.get("", responses=problems(401, 403, 503))
    async def every(
        caller: Annotated[Caller, door.opens_to(Role.admin, Role.supervisor, Role.auditor)],
    ) -> tuple[Switch, ...]:
        """Every switch that was ever thrown, as it stands."""
        await switches.known()
        return switches.of(caller.tenant)

    @routes.put("/{target}/{name}", responses=problems(401, 403, 404, 413, 415, 422, 503))
    async def throw(
        target: Target, name: str, body: SwitchRequest, caller: Annotated[Caller, door.opens_to(Role.admin)]
    ) -> Switch:
        """While it is off, every proposal escalates (`disabled_by_operator`) and no permit is handed out, not even for an override."""
        if target is Target.domain and name not in domains:
            raise UnknownDomain(f"there is no domain {name!r}; there are {', '.join(domains)}")
        switch = Switch(target=target, name=name, **body.model_dump(), by=caller.name, at=now())
        await switches.throw(switch, caller.tenant)
        return switch

    return routes
