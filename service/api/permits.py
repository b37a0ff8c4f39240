"""GET /.well-known/jwks.json, and the permit on its way out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Response

from service.api.callers import Caller, Role
from service.decisions.permit import Issuer, seconds, sign
from service.decisions.signing import BadSigningKeys, KeyRing, PublicKeys
from service.decisions.switches import Switches
from service.errors import SigningUnavailable
from service.vocabulary.decision import Decision


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
