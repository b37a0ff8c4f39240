"""A support ticket as it stands before an action."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import State

Short = Annotated[str, Field(max_length=200)]
Mood = Literal["calm", "annoyed", "angry"]
Stage = Literal["unknown", "test", "staging", "production"]
Priority = Literal["low", "medium", "high", "critical"]
ResolutionStatus = Literal["open", "resolved", "escalated", "abandoned"]

PRIORITY_WORDS = {"p1": "critical", "p2": "high", "p3": "medium", "p4": "low", "urgent": "critical", "normal": "medium"}
STAGE_WORDS = {"prod": "production", "live": "production", "dev": "test", "development": "test", "qa": "staging"}


class Category(StrEnum):
    """What a ticket is about."""

    vpn = "VPN/Connectivity"
    password = "Password/Account"
    software = "Software Installation"
    email = "Email/Calendar"
    saas = "SaaS Subscriptions"
    cloud = "Cloud Platform"
    license = "License Management"
    sso = "SSO/Identity Federation"
    hardware = "Hardware"
    legacy = "Legacy Systems"
    other = "Other"


def _spelt(words: Mapping[str, str]) -> BeforeValidator:
    return BeforeValidator(lambda value: words.get(value.lower(), value.lower()) if isinstance(value, str) else value)


def _listed(value: Any) -> Any:
    """Systems that gather answers by name send a mapping; "os: Windows 11" says the same."""
    return [f"{name}: {answer}" for name, answer in value.items()] if isinstance(value, Mapping) else value


class Message(Frozen):
    """One turn of the conversation."""

    role: Literal["user", "agent", "system"] = "user"
    content: str = Field(default="", max_length=8_000)


class Requester(Frozen):
    """Who wants it done. `verified` is None when nobody has checked; `privileged` if the account is administrative."""

    name: Short = ""
    role: Short = ""
    verified: bool | None = None
    privileged: bool = False


class Environment(Frozen):
    """Where the action lands. None means that the ticket does not say."""

    stage: Annotated[Stage, _spelt(STAGE_WORDS)] = "unknown"
    system: Short = ""
    os: Short = ""
    accounts_affected: int | None = Field(default=None, ge=0, le=10_000_000)
    change_freeze: bool | None = None
    tested: bool | None = None
    rollback_plan: bool | None = None
    legal_hold: bool | None = None
    credential_age_days: int | None = Field(default=None, ge=0, le=20_000)


class TicketState(State):
    """An IT support ticket, its conversation so far and the systems concerned."""

    ticket_id: Short = ""
    category: Category = Category.other
    priority: Annotated[Priority, _spelt(PRIORITY_WORDS)] = "medium"
    description: str = Field(default="", max_length=8_000)
    conversation_history: tuple[Message, ...] = Field(default=(), max_length=200)
    resolution_status: ResolutionStatus = "open"
    information_gathered: Annotated[tuple[Short, ...], Field(max_length=100), BeforeValidator(_listed)] = ()
    turns_elapsed: int = Field(default=0, ge=0, le=1_000)
    failed_attempts: int = Field(default=0, ge=0, le=100)
    user_mood: Mood = "calm"
    requester: Requester = Requester()
    environment: Environment = Environment()
