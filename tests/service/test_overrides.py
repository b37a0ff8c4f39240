"""What people make of a decision: two where it is critical, never whoever asked, tightened, edited, or void."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.world.scripted import Line, ScriptedWorldModel
from tests.service.house import BAD, CRITICAL, FINE, NOON, Premises, body, premises

House = Callable[..., AbstractAsyncContextManager[Premises]]
SAFER = {"kind": "verify", "text": "Call the number on file and verify the caller first."}


@pytest.fixture
def furnished(tmp_path: Path, bank: EdgeAnchorBank) -> House:
    return lambda world: premises(tmp_path, bank, world)


@pytest.fixture
async def critical(furnished: House) -> AsyncIterator[Premises]:
    """Every future exposes data, and there are two supervisors."""
    async with furnished(ScriptedWorldModel(CRITICAL)) as house:
        house.key("john", Role.supervisor)
        yield house


@pytest.fixture
async def gloomy(furnished: House) -> AsyncIterator[Premises]:
    """Every future of a reset goes badly, that of a check goes well; there are two supervisors."""
    by_kind = {SAFER["kind"]: [FINE]}
    async with furnished(ScriptedWorldModel(BAD, by_kind=by_kind)) as house:
        house.key("john", Role.supervisor)
        yield house


async def decided(house: Premises, **told: Any) -> str:
    return str((await house.ask(body(**told))).json()["decision_id"])


async def state(house: Premises, id: str, state: dict[str, Any], key: str = "agent") -> httpx.Response:
    return await house.client.post(f"/v1/decisions/{id}/state", json={"state": state}, headers=house.shown(key))


async def test_a_critical_outcome_takes_two_people(critical: Premises) -> None:
    asked = (await critical.ask()).json()
    assert asked["risk"]["critical_probability"] > 0.5 and asked["override"]["approvals_required"] == 2
    id = asked["decision_id"]
    first = (await critical.overrule(id)).json()
    assert first["overridden"] is None and first["permit"] is None
    assert [each["supervisor"] for each in first["approvals"]] == ["first-supervisor"]
    again = await critical.overrule(id)
    assert again.status_code == 409 and "another person" in again.json()["detail"]
    second = (await critical.overrule(id, key="john", reason="Data is test data; seen.", code="evidence_wrong")).json()
    assert (second["overridden"]["ruling"], second["overridden"]["supervisor"]) == ("approved", "john")
    assert second["permit"] and (await critical.read(id)).json()["permit"] == second["permit"]


async def test_who_waits_is_not_woken_by_half_an_approval(critical: Premises) -> None:
    id = await decided(critical)
    waiting = asyncio.create_task(critical.client.get(f"/v1/decisions/{id}/wait", headers=critical.shown("agent")))
    await critical.overrule(id)
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await critical.overrule(id, key="john", ruling="denied", code="unsafe")
    over = (await asyncio.wait_for(waiting, 1.0)).json()
    assert (over["overridden"]["ruling"], len(over["approvals"]), over["permit"]) == ("denied", 1, None)


async def test_one_of_two_who_approves_too_late_does_not_count(critical: Premises) -> None:
    id = await decided(critical)
    await critical.overrule(id)
    critical.clock.now = NOON + timedelta(hours=1, seconds=1)
    assert (await critical.overrule(id, key="john")).status_code == 409
    assert (await critical.read(id)).json()["overridden"] is None


async def test_a_supervisor_who_asked_may_not_approve_but_may_deny(gloomy: Premises) -> None:
    id = (await gloomy.ask(key="supervisor")).json()["decision_id"]
    refused = await gloomy.overrule(id)
    assert refused.status_code == 409 and "whoever asked" in refused.json()["detail"]
    assert (await gloomy.overrule(id, key="john")).status_code == 200
    other = (await gloomy.ask(key="supervisor")).json()["decision_id"]
    assert (await gloomy.overrule(other, ruling="denied", code="unsafe")).status_code == 200


async def test_an_approval_may_be_tightened_and_then_carries_no_permit(furnished: House) -> None:
    async with furnished(ScriptedWorldModel(FINE)) as house:
        asked = (await house.ask()).json()
        assert asked["ruling"] == "approve" and asked["permit"]
        told = (await house.overrule(asked["decision_id"], ruling="denied", code="unsafe")).json()
        assert (told["ruling"], told["overridden"]["ruling"], told["permit"]) == ("approve", "denied", None)
        assert (await house.read(asked["decision_id"])).json()["permit"] is None
        assert (await house.overrule(asked["decision_id"])).status_code == 409


async def test_an_approving_override_may_be_taken_back(gloomy: Premises) -> None:
    id = await decided(gloomy)
    assert (await gloomy.overrule(id)).json()["permit"]
    told = (await gloomy.overrule(id, key="john", ruling="denied", code="unsafe")).json()
    assert (told["overridden"]["ruling"], told["overridden"]["supervisor"], told["permit"]) == ("denied", "john", None)


async def test_an_edited_action_is_simulated_and_takes_the_place_of_the_first(gloomy: Premises) -> None:
    id = await decided(gloomy)
    edited = (await gloomy.overrule(id, action=SAFER)).json()
    assert edited["decision_id"] != id and edited["supersedes"] == id
    assert (edited["ruling"], edited["proposal"]["action"]["text"]) == ("approve", SAFER["text"])
    first = (await gloomy.read(id)).json()
    assert (first["overridden"]["ruling"], first["overridden"]["successor"]) == ("superseded", edited["decision_id"])
    assert first["permit"] is None and (await gloomy.overrule(id)).status_code == 409
    got = (await gloomy.read(edited["decision_id"])).json()
    assert got["permit"], "the agent that asked may carry the edited action out"


async def test_an_edited_action_that_goes_badly_too_waits_for_a_person(gloomy: Premises) -> None:
    id = await decided(gloomy)
    action = body()["action"] | {"text": "Reset it, and mail the new password to the caller."}
    edited = (await gloomy.overrule(id, action=action)).json()
    assert (edited["ruling"], edited["supersedes"], edited["permit"]) == ("escalate", id, None)
    waiting = (await gloomy.client.get("/v1/decisions", headers=gloomy.shown("supervisor"))).json()
    assert [each["decision_id"] for each in waiting] == [edited["decision_id"]]
    assert (await gloomy.overrule(edited["decision_id"])).json()["permit"]


async def test_what_was_ruled_on_is_not_edited_and_a_denial_edits_nothing(gloomy: Premises) -> None:
    id = await decided(gloomy)
    assert (await gloomy.overrule(id, ruling="denied", action=SAFER, code="unsafe")).status_code == 422
    await gloomy.overrule(id, ruling="denied", code="unsafe")
    calls = gloomy.world.calls
    assert (await gloomy.overrule(id, action=SAFER)).status_code == 409
    assert gloomy.world.calls == calls and await gloomy.recorded() == 1


async def test_a_state_that_changed_makes_what_was_approved_void_and_says_so(gloomy: Premises) -> None:
    id, before = await decided(gloomy), body()["state"]
    await gloomy.overrule(id)
    same = await state(gloomy, id, before)
    assert same.status_code == 200 and same.json()["permit"], "nothing changed"
    other = (await state(gloomy, id, before | {"turns_elapsed": 9})).json()
    assert (other["overridden"]["ruling"], other["overridden"]["code"]) == ("void", "state_changed")
    assert "first-agent" in other["overridden"]["reason"] and other["permit"] is None
    assert (await gloomy.read(id)).json() == other
    assert (await gloomy.overrule(id)).status_code == 409 and (await state(gloomy, id, before)).json() == other


@pytest.mark.parametrize("script", [FINE, BAD], ids=["an approval", "an escalation that waits"])
async def test_whatever_was_ruled_becomes_void_as_well(furnished: House, script: list[Line]) -> None:
    async with furnished(ScriptedWorldModel(script)) as house:
        told = (await state(house, await decided(house), {"ticket_id": "another"})).json()
        assert (told["overridden"]["ruling"], told["permit"]) == ("void", None)
        assert (await house.overrule(told["decision_id"])).status_code == 409


async def test_only_who_asked_or_a_supervisor_says_what_the_state_is(gloomy: Premises) -> None:
    id = await decided(gloomy)
    gloomy.key("other", Role.agent)
    assert (await state(gloomy, id, {}, key="other")).status_code == 403
    assert (await state(gloomy, id, {}, key="supervisor")).json()["overridden"]["ruling"] == "void"


async def test_the_whole_story_of_a_decision_is_read_by_who_may(critical: Premises) -> None:
    id = await decided(critical)
    await critical.overrule(id)
    await critical.overrule(id, key="john")
    critical.key("eve", Role.auditor)
    path = f"/v1/decisions/{id}/events"
    told = (await critical.client.get(path, headers=critical.shown("eve"))).json()
    assert [event["kind"] for event in told] == ["decision", "override", "override"]
    assert "Seen in person" in told[1]["body"]
    assert (await critical.client.get(path, headers=critical.shown("agent"))).status_code == 403


async def test_what_is_erased_cannot_be_read_and_stays_decided(gloomy: Premises) -> None:
    id = await decided(gloomy, action={"text": "Reset the password of Ms Unmistakable."})
    await gloomy.overrule(id, reason="Ms Unmistakable was seen in person.")
    gloomy.key("root", Role.admin)
    path, told = f"/v1/decisions/{id}/erasure", {"code": "asked_by_the_person", "ticket": "DSR-12"}
    assert (await gloomy.client.post(path, json=told, headers=gloomy.shown("supervisor"))).status_code == 403
    assert (await gloomy.client.post(path, json=told, headers=gloomy.shown("root"))).status_code == 204
    after = await gloomy.read(id, "supervisor")
    assert "Unmistakable" not in after.text
    assert (after.json()["ruling"], after.json()["overridden"]["ruling"]) == ("escalate", "approved")


@pytest.mark.parametrize("left_out", ["code", "reason", "ruling"])
async def test_no_ruling_without_its_reason_and_its_code(gloomy: Premises, left_out: str) -> None:
    id, told = await decided(gloomy), {"ruling": "approved", "code": "mitigated", "reason": "Seen in person."}
    del told[left_out]
    answer = await gloomy.client.post(f"/v1/decisions/{id}/override", json=told, headers=gloomy.shown("supervisor"))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{left_out}")
    for reserved in ("expired", "edited", "state_changed", "because"):
        assert (await gloomy.overrule(id, code=reserved)).status_code == 422
    assert (await gloomy.read(id)).json()["overridden"] is None
