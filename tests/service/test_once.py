"""A request is carried out once, whatever its caller sends again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.decisions.switches import Switches
from service.domains import catalog
from service.metrics import Metrics
from service.policies import Policies
from service.upkeep import EVERY_S, Upkeep
from service.vocabulary.proposal import HOUSE
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, FINE, Premises, body, premises

KEY = {"Idempotency-Key": "order-7"}


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE, latency=0.01)) as made:
        yield made


async def sent(
    house: Premises, told: dict[str, Any], headers: dict[str, str] = KEY, key: str = "agent"
) -> httpx.Response:
    return await house.client.post("/v1/evaluations", json=told, headers=house.shown(key) | headers)


async def test_the_same_request_again_is_answered_byte_for_byte_and_simulated_once(house: Premises) -> None:
    first, again = await sent(house, body()), await sent(house, body())
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert again.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first.headers
    assert await house.recorded() == 1


async def test_the_same_key_with_another_body_is_refused(house: Premises) -> None:
    await sent(house, body())
    other = await sent(house, body(action={"text": "something else"}))
    assert other.status_code == 422 and other.json()["title"] == "Idempotency key used before"


async def test_another_caller_may_use_the_same_key(house: Premises) -> None:
    first, other = await sent(house, body()), await sent(house, body(), key="supervisor")
    assert first.json()["decision_id"] != other.json()["decision_id"]


async def test_what_could_not_be_carried_out_is_not_kept(house: Premises) -> None:
    wrong = await sent(house, body(state={"category": 7}))
    assert wrong.status_code == 422
    assert (await sent(house, body())).status_code == 200


async def test_a_thousand_at_once_are_one_simulation(house: Premises) -> None:
    answers = await asyncio.gather(*[sent(house, body(options={"budget_ms": 30_000})) for _ in range(1_000)])
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200, 409}
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 409)
    assert len({answer.content for answer in done}) == 1
    assert await house.recorded() == 1


async def test_an_override_sent_twice_is_one_override(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        decision = (await house.ask()).json()
        path = f"/v1/decisions/{decision['decision_id']}/override"
        told = {"ruling": "approved", "code": "mitigated", "reason": "Seen in person, all is well."}
        headers = house.shown("supervisor") | KEY
        answers = [await house.client.post(path, json=told, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len({answer.content for answer in answers}) == 1
        assert (await house.client.post(path, json=told, headers=house.shown("supervisor"))).status_code == 409


async def test_who_waits_hears_of_an_override_at_once(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        id = (await house.ask()).json()["decision_id"]
        waiting = asyncio.create_task(house.client.get(f"/v1/decisions/{id}/wait", headers=house.shown("agent")))
        await asyncio.sleep(0.05)
        await house.overrule(id)
        answer = await asyncio.wait_for(waiting, 1.0)
        assert answer.json()["overridden"]["ruling"] == "approved"


async def test_what_nobody_ruled_on_in_time_has_expired_without_anybody_asking(
    tmp_path: Path, bank: EdgeAnchorBank
) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        id = (await house.ask()).json()["decision_id"]
        waiting = asyncio.create_task(house.client.get(f"/v1/decisions/{id}/wait", headers=house.shown("agent")))
        upkeep = Upkeep(
            house.ledger, Switches(house.ledger), lambda: house.clock.now, dict, Metrics(monotonic), Policies(catalog())
        )
        unasked = asyncio.create_task(upkeep.forever())
        await asyncio.sleep(0.05)
        assert (await house.read(id)).json()["overridden"] is None
        house.clock.now += timedelta(hours=2)
        over = (await asyncio.wait_for(waiting, 3 * EVERY_S)).json()["overridden"]
        assert (over["ruling"], over["code"], over["supervisor"]) == ("expired", "expired", "")
        unasked.cancel()
        assert (await house.overrule(id)).status_code == 409


async def test_what_waits_for_a_person_is_listed_for_supervisors_alone(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        ids = [(await house.ask()).json()["decision_id"] for _ in range(3)]
        listed = await house.client.get("/v1/decisions?limit=2", headers=house.shown("supervisor"))
        assert [each["decision_id"] for each in listed.json()] == ids[:2]
        rest = await house.client.get(f"/v1/decisions?after={ids[1]}", headers=house.shown("supervisor"))
        assert [each["decision_id"] for each in rest.json()] == ids[2:]
        assert (await house.client.get("/v1/decisions", headers=house.shown("agent"))).status_code == 403


async def test_what_really_happened_is_kept_if_it_is_on_the_scale(house: Premises) -> None:
    id = (await house.ask()).json()["decision_id"]
    path = f"/v1/decisions/{id}/outcome"
    house.key("desk", Role.outcome)
    for key, status in (("desk", 204), ("supervisor", 204), ("agent", 403)):
        answer = await house.client.post(path, json={"outcome": "resolved"}, headers=house.shown(key))
        assert answer.status_code == status
    wrong = await house.client.post(path, json={"outcome": "fine"}, headers=house.shown("desk"))
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["pointer"] == "/outcome"
    assert [report.reporter for report in await house.ledger.reports(id, HOUSE)] == ["desk", "first-supervisor"]


async def test_an_export_of_the_audit_is_verified_offline_and_shows_where_it_was_touched(
    tmp_path: Path, bank: EdgeAnchorBank
) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        await house.overrule((await house.ask()).json()["decision_id"])
    export = tmp_path / "audit.jsonl"
    assert audit(tmp_path, "export", "--out", str(export)) == (0, "2 events")
    assert audit(tmp_path, "verify", str(export)) == (0, "2 events")
    export.write_bytes(export.read_bytes().replace(b"approved", b"denied", 1))
    assert audit(tmp_path, "verify", str(export)) == (1, "broken at event 2")


def audit(data: Path, *arguments: str) -> tuple[int, str]:
    """Its exit status, and how what it says begins."""
    ran = subprocess.run(
        [sys.executable, "-m", "service", "audit", *arguments],
        env=os.environ | {"PREMORTEM_DATA": str(data)},
        capture_output=True,
        text=True,
    )
    said = ran.stderr.strip().splitlines()[-1]
    return ran.returncode, said.split(",")[0].split(":")[0]
