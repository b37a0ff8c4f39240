"""What the service does without being asked: keys and policies become events, and no part's failure ends another."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.api.keys import Keys
from service.app import VAULT, circumstances, refuse_another_secret
from service.decisions.chain import Kind
from service.decisions.switches import Switches
from service.decisions.vault import BadMaster
from service.domains import catalog
from service.guardrail import Rooms
from service.house import House, signing_keys
from service.metrics import Metrics
from service.policies import Policies
from service.split import Contender, Split
from service.upkeep import Upkeep
from service.world.cases import CasesWorldModel
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, NOON, STORY, Premises, premises

NEXT = STORY.model_copy(update={"checkpoint": "another"})


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as found:
        yield found


def furnished(house: Premises) -> House:
    return housing(house, Split(Contender(house.world, STORY)))


def housing(house: Premises, split: Split) -> House:
    return House(Rooms(split, CasesWorldModel(house.bank), house.bank, house.ledger), "ours")


def keys(house: Premises) -> Keys:
    return Keys(house.settings.data / "keys.json", lambda: house.clock.now)


def upkeep(house: Premises, **changed: Any) -> Upkeep:
    ring = signing_keys(house.settings, NOON)
    of_house, held = changed.get("furnished", furnished(house)), keys(house)

    def told() -> Any:
        return circumstances(of_house, catalog(), ring, held)

    return Upkeep(
        house.ledger, Switches(house.ledger), lambda: house.clock.now, told, Metrics(lambda: 0.0), Policies(catalog())
    )


async def noted(house: Premises, kind: Kind) -> dict[str, list[dict[str, Any]]]:
    """What the chain says of each subject, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in await house.ledger.events(0, 1_000):
        if event.kind is kind:
            found.setdefault(event.subject, []).append(json.loads(event.body))
    return found


async def test_model_policies_and_keys_are_events_once_and_again_when_they_change(house: Premises) -> None:
    for _ in range(3):
        await upkeep(house).note()
    assert {name: len(told) for name, told in (await noted(house, Kind.policy)).items()} == dict.fromkeys(catalog(), 1)
    assert [len(told) for told in (await noted(house, Kind.model)).values()] == [1]
    other = housing(house, Split(Contender(house.world, NEXT)))
    await upkeep(house, furnished=other).note()
    ((first, second),) = (await noted(house, Kind.model)).values()
    assert (first["checkpoint"], second["checkpoint"]) == ("", "another")


async def test_a_candidate_and_its_share_are_events_and_so_is_their_end(house: Premises) -> None:
    serving, candidate = Contender(house.world, STORY), Contender(house.world, NEXT)
    for split in (Split(serving, candidate, 0.1), Split(serving, candidate, 0.2), Split(serving), Split(serving)):
        await upkeep(house, furnished=housing(house, split)).note()
    first, second, gone = (await noted(house, Kind.model))["candidate"]
    assert (first["checkpoint"], first["share"], second["share"]) == ("another", 0.1, 0.2)
    assert gone == {"gone": True}
    assert len((await noted(house, Kind.model))["world"]) == 1


async def test_a_key_that_is_made_rotated_and_revoked_is_an_event_each_time_and_never_itself(house: Premises) -> None:
    running = upkeep(house)
    await running.note()
    secret = house.key("bot", Role.agent, tenant="ward-7")
    await running.note()
    rotated = keys(house).rotate("bot", timedelta(hours=1))
    await running.note()
    keys(house).revoke("bot")
    await running.note()
    of_bot = {subject: told for subject, told in (await noted(house, Kind.key)).items() if "caller bot" in subject}
    old, new = (of_bot[f"caller bot {key[: len('pm_agent_') + 6]}"] for key in (secret, rotated))
    assert [bool(told.get("until")) for told in old[:2]] == [False, True], "it ends when the overlap does"
    assert old[-1] == new[-1] == {"gone": True} and new[0]["role"] == "agent"
    told = json.dumps(of_bot)
    assert secret not in told and rotated not in told
    assert {event.tenant for event in await house.ledger.noted(Kind.key) if "bot" in event.subject} == {"ward-7"}


async def test_a_signing_key_that_is_rotated_is_an_event(house: Premises) -> None:
    running = upkeep(house)
    await running.note()
    signing_keys(house.settings, NOON).rotate(NOON + timedelta(minutes=1))
    await running.note()
    first, second = (await noted(house, Kind.key))["signing"]
    assert first["kid"] != second["kid"]


async def test_keys_that_cannot_be_read_keep_no_escalation_from_running_out(house: Premises) -> None:
    id = (await house.ask()).json()["decision_id"]
    running = upkeep(house)
    (house.settings.data / "keys.json").write_text("not keys")
    house.clock.now += timedelta(hours=2)
    going_on = asyncio.create_task(running.forever())
    decision = await house.ledger.wait(id, "house", 5.0)
    await asyncio.sleep(0.05)
    assert decision.overridden and decision.overridden.ruling == "expired" and not going_on.done()
    going_on.cancel()


async def test_a_ledger_sealed_under_another_secret_is_refused(house: Premises) -> None:
    await refuse_another_secret(house.ledger, "ours")
    await upkeep(house).note()
    assert (await noted(house, Kind.key))[VAULT] == [{"fingerprint": "ours"}]
    await refuse_another_secret(house.ledger, "ours")
    with pytest.raises(BadMaster, match="another secret"):
        await refuse_another_secret(house.ledger, "theirs")
