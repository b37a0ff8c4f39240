"""Everything that can go wrong with a request, drawn once; each knows its HTTP status.

PremortemError
├── UnknownDomain           404
├── UnknownDecision         404
├── NotAuthenticated        401
├── NotAllowed              403
├── OverrideRefused         409
├── RequestInFlight         409  Retry-After
├── RequestTooLarge         413
├── BadProposal             422  (names the fields)
├── KeyReused               422  an Idempotency-Key with another body
├── RateLimited             429  Retry-After
├── CallerGone              499  nobody reads it
├── Overloaded              503  Retry-After
├── HistoryUnavailable      503  Retry-After; recorded cases cannot be kept now
├── IdentityUnavailable     503  Retry-After; no key of the identity provider's to check a token with
├── SigningUnavailable      503  the decision is kept; its permit cannot be signed
└── LedgerUnavailable       503  an unrecorded approval is no approval
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """Where in the request (a JSON pointer), and what is wrong there."""

    pointer: str
    detail: str


class PremortemError(Exception):
    """The root. `status` is the HTTP status, `title` the problem's kind in a few words."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, errors: Sequence[FieldError] = (), retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.retry_after = detail, tuple(errors), retry_after


class UnknownDomain(PremortemError):
    status, title = 404, "Unknown domain"


class UnknownDecision(PremortemError):
    status, title = 404, "Unknown decision"


class NotAuthenticated(PremortemError):
    status, title = 401, "Not authenticated"


class NotAllowed(PremortemError):
    status, title = 403, "Not allowed"


class OverrideRefused(PremortemError):
    status, title = 409, "Override refused"


class RequestInFlight(PremortemError):
    status, title = 409, "Being carried out"


class RequestTooLarge(PremortemError):
    status, title = 413, "Request too large"


class BadProposal(PremortemError):
    status, title = 422, "Bad proposal"


class KeyReused(PremortemError):
    status, title = 422, "Idempotency key used before"


class RateLimited(PremortemError):
    status, title = 429, "Too many simulated tokens"


class CallerGone(PremortemError):
    status, title = 499, "Caller gone"


class Overloaded(PremortemError):
    status, title = 503, "Overloaded"


class HistoryUnavailable(PremortemError):
    status, title = 503, "History unavailable"


class IdentityUnavailable(PremortemError):
    status, title = 503, "Identity provider unavailable"


class SigningUnavailable(PremortemError):
    status, title = 503, "Signing unavailable"


class LedgerUnavailable(PremortemError):
    status, title = 503, "Ledger unavailable"
