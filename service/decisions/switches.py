"""What an operator has switched off: a domain or an agent, within a tenant. Kept in the ledger, and in its chain."""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import AwareDatetime, Field

from service.decisions.chain import Kind
from service.decisions.ledger import Ledger
from service.vocabulary.frozen import Frozen


class Target(StrEnum):
    domain = "domain"
    agent = "agent"


class SwitchCode(StrEnum):
    """Why, in a word."""

    misbehaves = "misbehaves"
    compromised = "compromised"
    incident = "incident"
    maintenance = "maintenance"
    drill = "drill"
    resolved = "resolved"


class Switch(Frozen):
    """`off`: every proposal of this domain, or agent, escalates, and no permit of it is handed out."""

    target: Target
    name: str = Field(min_length=1, max_length=128)
    off: bool
    code: SwitchCode
    ticket: str = ""
    by: str
    at: AwareDatetime

    @property
    def subject(self) -> str:
        return f"{self.target} {self.name}"


class Switches:
    """As the ledger had them when it was last read. Nothing is known to be on before it was read once."""

    def __init__(self, ledger: Ledger, disabled_domains: frozenset[str] = frozenset()) -> None:
        self._ledger, self._disabled = ledger, disabled_domains
        self._thrown: Mapping[tuple[str, str], Switch] | None = None

    async def known(self) -> None:
        """Raises `LedgerUnavailable` if they have never been read and cannot be read now."""
        if self._thrown is None:
            await self.refresh()

    async def refresh(self) -> None:
        """Raises `LedgerUnavailable`; what was known stays known then."""
        events = await self._ledger.noted(Kind.switch)
        self._thrown = {(event.tenant, event.subject): Switch.model_validate_json(event.body) for event in events}

    async def throw(self, switch: Switch, tenant: str) -> None:
        """In force here once it is durable, elsewhere within a second. Raises `LedgerUnavailable`."""
        await self._ledger.note(Kind.switch, switch.subject, switch.model_dump(mode="json"), switch.at, tenant)
        await self.refresh()

    def of(self, tenant: str) -> tuple[Switch, ...]:
        return tuple(switch for (whose, _), switch in (self._thrown or {}).items() if whose == tenant)

    def count(self, target: Target) -> int:
        """Of all tenants, how many are off."""
        return sum(switch.off and switch.target is target for switch in (self._thrown or {}).values())

    def off(self, tenant: str, domain: str, agent: str | None) -> bool:
        """Whether a proposal of this agent in this domain is switched off."""
        if self._thrown is None or domain in self._disabled:
            return True
        named = (f"{Target.domain} {domain}", f"{Target.agent} {agent}")
        return any((thrown := self._thrown.get((tenant, name))) is not None and thrown.off for name in named)
