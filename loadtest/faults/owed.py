"""What DESIGN.md section 6 owes a caller when something is missing: each says what is wrong with a reply, or nothing."""

from collections.abc import Callable, Sequence

import httpx

from loadtest.faults.caller import Reply

Owed = Callable[[Reply], str]

UNEVIDENCED = "approved without evidence"
FEWER = "many requests: fewer futures"
"""A quorum of them, which is what admission does under load and no fault; any other note is of one."""


TURNED_AWAY = ("too many evaluations are under way", "too many requests to simulate this one")
"""Admission's own, refusing and answering; whatever else is at fault, it never approves."""


def turned_away(reply: Reply) -> bool:
    """Whether there were too many for the time there was: owed to a crowd, be anything at fault or nothing."""
    if reply.status == 503:
        return reply.told.get("detail") == TURNED_AWAY[0] and reply.media_type == "application/problem+json"
    return reply.status == 200 and not reply.approved and TURNED_AWAY[1] in reply.told["explanation"]["notes"]


def normal(reply: Reply) -> str:
    """Nothing is missing: the world is asked, and a world without harm is approved."""
    return evidence(reply) or ("" if _decided(reply, "simulated") == "normal" and reply.approved else _story(reply))


def simulated(reply: Reply) -> str:
    """Nothing is missing, whatever the world foresees."""
    return evidence(reply) or ("" if _decided(reply, "simulated") == "normal" else _story(reply))


def world_gone(reply: Reply) -> str:
    escalated = _decided(reply, "history_only", "none") == "degraded" and not reply.approved
    named = reply.told.get("basis") != "none" or reply.told.get("reason") == "world_model_unavailable"
    return evidence(reply) or ("" if escalated and named else _story(reply))


def world_there(reply: Reply) -> str:
    """An engine asked by many at once may be slower than the budget, and then that is said."""
    return simulated(reply) and world_gone(reply)


def bank_gone(reply: Reply) -> str:
    """Goes on and says so; what history cannot vouch for is not approved; nothing is cited."""
    return grounding_gone(reply) or (_story(reply) if reply.told["explanation"]["precedents"] else "")


def grounding_gone(reply: Reply) -> str:
    """As `bank_gone`, but what history said before it was gone may be cited."""
    escalated = _decided(reply, "simulated") == "degraded" and not reply.approved
    said = escalated and any("history" in note for note in reply.told["explanation"]["notes"])
    return evidence(reply) or ("" if said else _story(reply))


def bank_there(reply: Reply) -> str:
    """A future waits a tenth of a second to be grounded: a server asked by many at once may be too slow for it, and then that is said."""
    return normal(reply) and grounding_gone(reply)


def ledger_gone(reply: Reply) -> str:
    return "" if reply.status == 503 and reply.media_type == "application/problem+json" else _story(reply)


def ledger_late(reply: Reply) -> str:
    """A ledger that is only slow may still make it: then the answer is a normal one."""
    return normal(reply) and ledger_gone(reply)


def evidence(reply: Reply) -> str:
    """An approval rests on futures that were whole, with every part at work."""
    if not reply.approved or reply.told["reason"] == "not_high_impact":
        return ""
    sound = reply.told["basis"] == "simulated" and _mode(reply) == "normal"
    return "" if sound and reply.told["reason"] == "within_tolerance" else f"{UNEVIDENCED}: {_story(reply)}"


async def recorded(client: httpx.AsyncClient, replies: Sequence[Reply]) -> list[str]:
    """What was answered and is not in the ledger as it was answered."""
    wrong = []
    for told in (reply.told for reply in replies if reply.status == 200):
        found = await client.get(f"/v1/decisions/{told['decision_id']}")
        kept = found.json() if found.status_code == 200 else {}
        if {**kept, "permit": None} != {**told, "permit": None}:
            unrecorded = UNEVIDENCED if told["ruling"] == "approve" else "escalated"
            wrong.append(f"{unrecorded}: {told['decision_id']} is not in the ledger as it was answered")
    return wrong


def _decided(reply: Reply, *bases: str) -> str:
    """The mode of a decision on one of these bases; empty if there is none."""
    return _mode(reply) if reply.status == 200 and reply.told["basis"] in bases else ""


def _mode(reply: Reply) -> str:
    """Degraded by a fault, that is."""
    told = reply.told
    return "normal" if told["explanation"]["notes"] == [FEWER] else str(told["mode"])


def _story(reply: Reply) -> str:
    if reply.status != 200:
        return f"{reply.status} {reply.media_type} {reply.told.get('detail', '')}".strip()
    told = reply.told
    notes = told["explanation"]["notes"]
    return f"200 {told['ruling']} {told['reason']} basis {told['basis']} mode {told['mode']} notes {notes}"
