"""What one step may change about a ticket."""

from typing import Literal

from pydantic import Field

from service.domains.helpdesk.state import Mood
from service.vocabulary.forecast import Changes

Finding = Literal[
    "", "same_error", "expired_secret", "access_denied", "others_affected", "recent_change", "version_mismatch",
    "old_page", "doubtful_caller", "shared_use",
]  # fmt: skip


class TicketChanges(Changes):
    """The user's mood, whether the attempt failed, what was found out, and how many accounts are now affected."""

    mood: Mood | None = None
    failed: bool = False
    learned: Finding = ""
    affected: int | None = Field(default=None, ge=0, le=10_000_000)
