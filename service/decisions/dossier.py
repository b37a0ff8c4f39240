"""One decision as a ledger keeps it: what was signed of it, and what seals its free text."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import BaseModel
from pydantic_core import from_json

from service.decisions import ruling
from service.decisions.chain import Draft, Event, Kind, sorted_json
from service.decisions.outcome import OutcomeReport
from service.decisions.vault import Vault
from service.errors import LedgerUnavailable
from service.vocabulary.decision import Decision, Override


def told(value: BaseModel) -> str:
    return sorted_json(from_json(value.model_dump_json())).decode()


@dataclass(frozen=True, slots=True)
class Seal:
    """A decision's own. Without a salt its text is plain, as where there was no vault, or it is `erased`."""

    vault: Vault | None = field(default=None, repr=False)
    salt: bytes | None = field(default=None, repr=False)
    erased: bool = False

    @classmethod
    def fresh(cls, vault: Vault | None) -> Self:
        return cls(vault, vault.fresh() if vault else None)

    def close(self, draft: Draft) -> Draft:
        """What is told of an erased decision is sealed under a salt that nobody keeps."""
        if not (self.salt or self.erased):
            return draft
        vault = self._vault()
        return replace(draft, body=vault.seal(self.salt or vault.fresh(), draft.kind, draft.body))

    def open(self, kind: Kind, body: str) -> str:
        return self._vault().open(self.salt, kind, body) if self.salt or self.erased else body

    def faded(self, kind: Kind, body: str) -> str:
        """A plain text, as it would be read if it were kept here."""
        if not self.erased:
            return body
        return self.open(kind, self._vault().seal(self._vault().fresh(), kind, body))

    def _vault(self) -> Vault:
        if self.vault is None:
            raise LedgerUnavailable("the decision is sealed, and the ledger was opened without its vault")
        return self.vault


@dataclass(frozen=True, slots=True)
class Dossier:
    """`signed` and `rulings` are the texts that the chain vouches for, oldest first."""

    tenant: str
    signed: str
    rulings: Sequence[str]
    seal: Seal

    def made(self) -> Decision:
        return Decision.model_validate_json(self.seal.open(Kind.decision, self.signed))

    def said(self) -> tuple[Override, ...]:
        return tuple(Override.model_validate_json(self.seal.open(Kind.override, each)) for each in self.rulings)

    def standing(self) -> Decision:
        return ruling.ruled(self.made(), self.said())

    def admit(self, override: Override) -> Decision:
        """The decision as it stands then. Raises `OverrideRefused`."""
        return ruling.admit(self.made(), self.said(), override)

    def is_of(self, decision: Decision) -> bool:
        """As far as anybody can still tell."""
        again = Decision.model_validate_json(self.seal.faded(Kind.decision, told(decision)))
        return told(self.made()) == told(again)

    def reports(self, bodies: Sequence[str]) -> tuple[OutcomeReport, ...]:
        return tuple(OutcomeReport.model_validate_json(self.seal.open(Kind.outcome, body)) for body in bodies)

    def is_news(self, report: OutcomeReport, bodies: Sequence[str]) -> bool:
        again = OutcomeReport.model_validate_json(self.seal.faded(Kind.outcome, told(report)))
        return again not in self.reports(bodies)

    def opened(self, event: Event) -> Event:
        return event.model_copy(update={"body": self.seal.open(event.kind, event.body)})
