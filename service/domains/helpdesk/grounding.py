"""What of a ticket the world model is told, and where to look for real tickets like it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from service.domains.helpdesk.policy import LIMITS, band
from service.domains.helpdesk.rules import principal_in
from service.domains.helpdesk.state import TicketState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.proposal import Action

CLIP = 300
MOODS = ("calm", "annoyed", "angry")
TOKEN = re.compile(r"[\w*.:/-]{1,24}")
YES_NO = {True: "yes", False: "no"}


def clip(text: str, most: int = CLIP) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[:most].rsplit(" ", 1)[0]


def _measures(state: TicketState) -> Mapping[str, int | None]:
    return {
        "accounts affected": state.environment.accounts_affected,
        "credential age": state.environment.credential_age_days,
        "turns elapsed": state.turns_elapsed or None,
        "failed attempts": state.failed_attempts or None,
    }


def measured(state: TicketState) -> dict[str, int]:
    """The numbers a ticket states, by the name of their limit."""
    return {name: value for name, value in _measures(state).items() if value is not None}


SHORT = {
    "accounts affected": "affected",
    "credential age": "age",
    "turns elapsed": "turns",
    "failed attempts": "failed",
}


def _structured(state: TicketState) -> Iterator[Fact]:
    where, who = state.environment, state.requester
    yield Fact("topic", state.category.value)
    yield Fact("priority", state.priority)
    for name, value in (("stage", where.stage), ("mood", state.user_mood)):
        if value not in ("unknown", "calm"):
            yield Fact(name, value)
    flags = (("verified", who.verified), ("privileged", who.privileged or None), ("freeze", where.change_freeze),
             ("tested", where.tested), ("rollback", where.rollback_plan), ("hold", where.legal_hold))  # fmt: skip
    yield from (Fact(name, YES_NO[flag]) for name, flag in flags if flag is not None)
    yield from (
        Fact(SHORT[name], f"{value} {band(value, LIMITS[name].most)}") for name, value in measured(state).items()
    )


def _argued(action: Action) -> Iterator[Fact]:
    principal = principal_in(action.arguments)
    if principal:
        yield Fact("principal", principal)
    scalars = [(name, value) for name, value in action.arguments.items() if isinstance(value, (str, int, float))]
    for name, value in scalars[:4]:
        word = YES_NO[value] if isinstance(value, bool) else str(value)
        if name.lower() != "principal" and not word.lstrip().startswith(("{", "[")):
            yield Fact("arg", f"{clip(name, 24)}={clip(word, 40)}", free=TOKEN.fullmatch(word) is None)


def _written(state: TicketState) -> Iterator[Fact]:
    system = ", ".join(part for part in (state.environment.system, state.environment.os, state.requester.role) if part)
    said = [message.content for message in state.conversation_history if message.role != "agent"][-2:]
    texts = (("system", system), ("found", "; ".join(state.information_gathered)), ("text", state.description),
             *(("said", content) for content in said))  # fmt: skip
    yield from (Fact(name, clip(text), free=True) for name, text in texts if text.strip())


def facts(state: TicketState, action: Action) -> tuple[Fact, ...]:
    return (*_structured(state), *_argued(action), *_written(state))


def anchor_key(state: TicketState, action: Action) -> AnchorKey:
    text = f"{action.kind}: {clip(action.text, 200)} | {clip(state.description)}"
    return AnchorKey(state.category.value, state.turns_elapsed, text)


def blend(imagined: TicketState, anchor: Anchor) -> TicketState:
    """Borrows tempo alone: the mood moves at most one step towards that of the real ticket."""
    real = anchor.state.get("user_mood", imagined.user_mood)
    mine, theirs = MOODS.index(imagined.user_mood), MOODS.index(real) if real in MOODS else -1
    step: Any = MOODS[mine + (theirs > mine) - (0 <= theirs < mine)]
    return imagined.model_copy(update={"user_mood": step})
