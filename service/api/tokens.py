"""An OIDC token as a credential: who its provider says it is, in our roles."""

from service.api.callers import Caller, Role
from service.api.oidc import BadToken, Identity, IdentityProviderUnavailable, OidcVerifier
from service.errors import IdentityUnavailable, NotAuthenticated


class Tokens:
    """A token has three parts with dots between them; no key of ours has a dot."""

    def __init__(self, verifier: OidcVerifier) -> None:
        self._verifier = verifier

    async def caller(self, shown: str) -> Caller | None:
        """Raises `NotAuthenticated` for a token that lets nobody in, `IdentityUnavailable` where that cannot be known."""
        if shown.count(".") != 2:
            return None
        try:
            identity = await self._verifier.identity(shown)
        except BadToken as error:
            raise NotAuthenticated(f"this token lets nobody in: {error.detail}") from error
        except IdentityProviderUnavailable as error:
            raise IdentityUnavailable("the identity provider cannot be asked for its keys", retry_after=10) from error
        return Caller(identity.name, _roles(identity), identity.tenant)


def _roles(identity: Identity) -> frozenset[Role]:
    """No service credential may ever override: a supervisor is a person who authenticated."""
    roles = frozenset(Role(role) for role in identity.roles)
    return roles if identity.human else roles - {Role.supervisor}
