"""The seam to the record of what was decided."""

from typing import Protocol

from service.vocabulary.decision import Decision, Override


class Ledger(Protocol):
    """Whatever is appended can be read back, for ever. Raises `LedgerUnavailable`, and `OverrideRefused` where said, and nothing else."""

    @property
    def name(self) -> str: ...

    async def append(self, decision: Decision) -> None:
        """Returns once the decision would survive a power cut. The same again changes nothing; another under its id is refused."""

    async def find(self, decision_id: str) -> Decision | None: ...

    async def override(self, override: Override) -> Decision:
        """Keeps a supervisor's ruling, once. Raises `UnknownDecision`; `OverrideRefused` if there is one already."""

    async def healthy(self) -> bool:
        """Whether it could take a decision now."""

    async def aclose(self) -> None: ...
