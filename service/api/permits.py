"""GET /.well-known/jwks.json, and the permit on its way out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import JsonValue

from service.api.callers import Caller, Role
from service.api.errors import pointer
from service.decisions.canonical import NotCanonical
from service.decisions.permit import Issuer, bind, seconds, sign
from service.decisions.signing import BadSigningKeys, KeyRing, PublicKeys
from service.decisions.switches import Switches
from service.errors import BadProposal, FieldError, SigningUnavailable
from service.vocabulary.decision import Decision
from service.vocabulary.proposal import Action, Bound


@dataclass(frozen=True, slots=True)
class PermitDesk:
    """Hands a permit to the agent it is for, or to a supervisor, while it lasts. None is ever kept."""

    issuer: Issuer
    keys: KeyRing
    switches: Switches
    now: Callable[[], datetime]

    def with_permit(self, decision: Decision, caller: Caller) -> Decision:
        """Raises `SigningUnavailable`."""
        bound = decision.proposal.bound
        if bound is None or (caller.name != bound.agent and not caller.may(Role.supervisor)):
            return decision
        if self.switches.off(caller.tenant, decision.domain, bound.agent):
            return decision
        claims = self.issuer.claims(decision, bound)
        if claims is None or seconds(self.now()) >= claims.exp:
            return decision
        try:
            return decision.model_copy(update={"permit": sign(claims, self.keys.newest())})
        except BadSigningKeys as error:
            raise SigningUnavailable(str(error)) from error


def bound_to(agent: str, action: Action, state: dict[str, JsonValue]) -> Bound:
    """What a permit for this will be tied to. Raises `BadProposal`, naming what not every reader would read the same."""
    try:
        return bind(agent, action, state)
    except NotCanonical as error:
        found = [FieldError(pointer(error.path), str(error))]
        raise BadProposal("not every reader would read the same", found) from error


def router(desk: PermitDesk) -> APIRouter:
    routes = APIRouter(tags=["permits"])

    @routes.get("/.well-known/jwks.json")
    async def jwks(response: Response) -> PublicKeys:
        """The keys that executors check permits with."""
        response.headers["Cache-Control"] = "public, max-age=60"
        try:
            return desk.keys.published(desk.now())
        except BadSigningKeys as error:
            raise SigningUnavailable(str(error)) from error

    return routes
