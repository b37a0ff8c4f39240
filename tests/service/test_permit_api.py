"""A permit on its way: from the service that judged to the executor that acts."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.vocabulary.proposal import HOUSE
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, FINE, NOON, Premises, body, premises

COPY = Path(__file__).parents[2] / "deploy" / "executor" / "verify_permit.py"


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE)) as found:
        yield found


@pytest.fixture
async def gloomy(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as found:
        yield found


@pytest.fixture
def executor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_permit", COPY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["STARTED"] = 0.0
    return module


async def act(executor: ModuleType, house: Premises, permit: str, told: dict[str, Any]) -> Any:
    """As an executor would, which was handed the same JSON."""
    return executor.verify(
        *(permit, json.dumps(told["action"]), json.dumps(told["state"])),
        **{"iss": "premortem", "aud": "executor", "domain": told["domain"], "agent": "first-agent"},
        keys=(await house.client.get("/.well-known/jwks.json")).json(),
        redeem=executor.once,
        now=house.clock.now.timestamp,
    )


async def test_an_approval_lets_an_executor_act_once(house: Premises, executor: ModuleType) -> None:
    answer = (await house.ask()).json()
    action, _ = await act(executor, house, answer["permit"], body())
    assert action["kind"] == body()["action"]["kind"]
    with pytest.raises(PermissionError, match="used"):
        await act(executor, house, answer["permit"], body())
    with pytest.raises(PermissionError, match="wrong_act"):
        await act(executor, house, answer["permit"], body(action={"text": "Reset everyone's password."}))


async def test_an_action_without_consequence_carries_a_permit_too(house: Premises, executor: ModuleType) -> None:
    told = body(action={"kind": "ask", "text": "Which device?"})
    answer = (await house.ask(told)).json()
    assert answer["reason"] == "not_high_impact"
    await act(executor, house, answer["permit"], told)


async def test_what_is_hashed_is_what_was_sent_and_not_what_was_read(house: Premises, executor: ModuleType) -> None:
    told = body(state={"turns_elapsed": 2.0})
    del told["state"]["conversation_history"]
    await act(executor, house, (await house.ask(told)).json()["permit"], told)


async def test_an_escalation_carries_none_until_a_supervisor_overrides_it(
    gloomy: Premises, executor: ModuleType
) -> None:
    answer = (await gloomy.ask()).json()
    assert answer["ruling"] == "escalate" and answer["permit"] is None
    gloomy.clock.now += timedelta(minutes=10)
    shown = (await gloomy.overrule(answer["decision_id"])).json()["permit"]
    fetched = (await gloomy.read(answer["decision_id"])).json()["permit"]
    assert shown == fetched
    gloomy.clock.now += timedelta(seconds=299)
    await act(executor, gloomy, fetched, body())
    gloomy.clock.now += timedelta(seconds=1)
    assert (await gloomy.read(answer["decision_id"])).json()["permit"] is None


async def test_a_denied_escalation_carries_none(gloomy: Premises) -> None:
    answer = (await gloomy.ask()).json()
    assert (await gloomy.overrule(answer["decision_id"], ruling="denied")).json()["permit"] is None


async def test_a_permit_is_shown_to_its_agent_while_it_lasts_and_to_no_other(
    house: Premises,
) -> None:
    answer = (await house.ask()).json()
    assert (await house.read(answer["decision_id"])).json() == answer
    house.key("second", Role.agent)
    assert (await house.read(answer["decision_id"], "second")).json()["permit"] is None
    house.clock.now += timedelta(seconds=60)
    assert (await house.read(answer["decision_id"])).json() == answer | {"permit": None}


async def test_no_permit_is_kept(house: Premises) -> None:
    answer = (await house.ask()).json()
    kept = await house.ledger.find(answer["decision_id"], HOUSE)
    assert answer["permit"] and kept is not None and kept.permit is None


async def test_the_agent_is_the_key_and_not_the_name_it_gives_itself(house: Premises, executor: ModuleType) -> None:
    told = body(context={"agent_id": "someone-else"})
    await act(executor, house, (await house.ask(told)).json()["permit"], told)


async def test_a_number_that_not_every_reader_reads_alike_is_refused_by_name(house: Premises) -> None:
    answer = await house.ask(body(action={"arguments": {"ids": [1, 2**53]}}))
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/action/arguments/ids/1"]


async def test_a_key_that_was_opened_to_others_signs_nothing_more(house: Premises, tmp_path: Path) -> None:
    (path,) = (tmp_path / "signing-keys").iterdir()
    path.chmod(0o644)
    answer = await house.ask()
    assert (answer.status_code, answer.json()["title"]) == (503, "Signing unavailable")
    assert (await house.client.get("/.well-known/jwks.json")).status_code == 503


def premortem(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env={"PREMORTEM_DATA": str(data), "PATH": ""},
        capture_output=True,
        text=True,
    )


async def test_the_command_checks_a_permit_and_rotates_the_key(house: Premises, tmp_path: Path) -> None:
    house.clock.now = NOON.now(NOON.tzinfo)
    told = body()
    permit = (await house.ask(told)).json()["permit"]
    for name in ("action", "state"):
        (tmp_path / f"{name}.json").write_text(json.dumps(told[name]))
    check = ("permit", "verify", permit, "--domain", "helpdesk")
    check += ("--action", str(tmp_path / "action.json"), "--state", str(tmp_path / "state.json"))
    said = premortem(tmp_path, *check, "--agent", "first-agent")
    assert said.returncode == 0 and json.loads(said.stdout)["sub"] == "dec_1", said.stderr
    assert premortem(tmp_path, *check, "--agent", "else").stdout == "refused: wrong_agent\n"
    kid = premortem(tmp_path, "permit", "rotate").stdout.strip()
    published = (await house.client.get("/.well-known/jwks.json")).json()["keys"]
    assert len(published) == 2 and published[-1]["kid"] == kid
    assert premortem(tmp_path, *check, "--agent", "first-agent").returncode == 0
