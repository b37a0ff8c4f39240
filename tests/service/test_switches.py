"""The kill switch, by domain and by agent; and how much a credential may simulate."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Caller, Role
from service.api.rates import STEP_TOKENS, Rates
from service.decisions.sqlite import SqliteLedger
from service.decisions.switches import Switches
from service.errors import LedgerUnavailable, RateLimited
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, FINE, Premises, body, premises


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE)) as found:
        found.key("root", Role.admin)
        found.key("second", Role.agent)
        yield found


async def throw(house: Premises, target: str, name: str, off: bool = True, key: str = "root") -> httpx.Response:
    told = {"off": off, "code": "misbehaves", "ticket": "INC-7"}
    return await house.client.put(f"/v1/switches/{target}/{name}", json=told, headers=house.shown(key))


async def ruled(house: Premises, key: str = "agent") -> tuple[str, str, bool]:
    told = (await house.ask(key=key)).json()
    return told["ruling"], told["reason"], bool(told["permit"])


STOPPED, FREE = ("escalate", "disabled_by_operator", False), ("approve", "within_tolerance", True)


async def test_a_domain_that_is_off_simulates_nothing_until_it_is_on_again(house: Premises) -> None:
    assert await ruled(house) == FREE
    calls = house.world.calls
    assert (await throw(house, "domain", "helpdesk")).json()["by"] == "root"
    assert await ruled(house) == STOPPED and house.world.calls == calls
    await throw(house, "domain", "helpdesk", off=False)
    assert await ruled(house) == FREE


async def test_an_agent_that_is_off_is_stopped_alone_and_gets_no_permit_for_what_was_approved(house: Premises) -> None:
    before = (await house.ask()).json()
    assert before["permit"]
    await throw(house, "agent", "first-agent")
    assert (await ruled(house), await ruled(house, "second")) == (STOPPED, FREE)
    for key in ("agent", "supervisor"):
        assert (await house.read(before["decision_id"], key)).json()["permit"] is None


async def test_not_even_an_override_lets_a_stopped_agent_act(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as house:
        house.key("root", Role.admin)
        id = (await house.ask()).json()["decision_id"]
        await throw(house, "agent", "first-agent")
        assert (await house.overrule(id)).json()["permit"] is None
        await throw(house, "agent", "first-agent", off=False)
        assert (await house.read(id)).json()["permit"]


async def test_a_switch_is_its_tenants_own_and_an_admins_alone(house: Premises) -> None:
    house.key("their root", Role.admin, tenant="ward-7")
    await throw(house, "domain", "helpdesk", key="their root")
    assert await ruled(house) == FREE
    for key in ("agent", "supervisor"):
        assert (await throw(house, "domain", "helpdesk", key=key)).status_code == 403
    assert (await throw(house, "domain", "astrology")).status_code == 404
    listed = await house.client.get("/v1/switches", headers=house.shown("their root"))
    assert [each["name"] for each in listed.json()] == ["helpdesk"]
    assert (await house.client.get("/v1/switches", headers=house.shown("root"))).json() == []


async def test_another_process_hears_of_it_and_a_restart_forgets_nothing(house: Premises) -> None:
    await throw(house, "agent", "first-agent")
    elsewhere = Switches(house.ledger)
    assert elsewhere.off("house", "safety", "anyone"), "nothing is known to be on before it was read"
    await elsewhere.known()
    assert elsewhere.off("house", "safety", "first-agent") and not elsewhere.off("house", "safety", "second")
    await throw(house, "agent", "first-agent", off=False)
    await elsewhere.refresh()
    assert not elsewhere.off("house", "safety", "first-agent")


async def test_what_was_known_stays_known_while_the_ledger_is_gone(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    switches = Switches(ledger)
    await switches.known()
    await ledger.aclose()
    with pytest.raises(LedgerUnavailable):
        await switches.refresh()
    assert not switches.off("house", "helpdesk", "anyone")
    with pytest.raises(LedgerUnavailable):
        await Switches(ledger).known()


# How much a credential may simulate.


def caller(rate: int | None) -> Caller:
    return Caller("bot", frozenset({Role.agent}), tokens_per_minute=rate)


def test_a_bucket_is_a_minute_deep_and_fills_evenly() -> None:
    now = [0.0]
    rates, bot = Rates(lambda: now[0]), caller(60 * STEP_TOKENS)
    for _ in range(2):
        with rates.buying(bot, steps=30) as purchase:
            purchase.spent = purchase.reserved
    with pytest.raises(RateLimited) as refused, rates.buying(bot, steps=1):
        raise AssertionError("it was let in")
    assert refused.value.retry_after == 1
    now[0] = 30.0
    with rates.buying(bot, steps=30):
        pass
    now[0] = 3_600.0
    with rates.buying(bot, steps=60) as purchase:
        assert purchase.reserved == 60 * STEP_TOKENS


def test_what_was_not_spent_is_given_back_even_when_the_work_fails() -> None:
    rates, bot = Rates(lambda: 0.0), caller(10 * STEP_TOKENS)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), rates.buying(bot, steps=10):
            raise ZeroDivisionError
    with rates.buying(bot, steps=10) as purchase:
        purchase.spent = 1
    with pytest.raises(RateLimited), rates.buying(bot, steps=10):
        pass


def test_at_once_no_more_is_set_aside_than_there_is() -> None:
    rates, bot = Rates(lambda: 0.0), caller(10 * STEP_TOKENS)
    with rates.buying(bot, steps=6), pytest.raises(RateLimited), rates.buying(bot, steps=6):
        pass


def test_one_who_asks_for_more_than_a_minutes_worth_gets_a_full_bucket_and_no_rate_means_no_limit() -> None:
    rates = Rates(lambda: 0.0)
    with rates.buying(caller(STEP_TOKENS), steps=500) as purchase:
        assert purchase.reserved == STEP_TOKENS
    for _ in range(50):
        with rates.buying(caller(None), steps=500):
            pass


async def test_a_credential_that_has_spent_its_tokens_is_told_when_to_come_back(house: Premises) -> None:
    house.key("thrifty", Role.agent, tokens_per_minute=1)
    told: dict[str, Any] = body(options={"rollouts": 3, "horizon": 2})
    answers = [await house.ask(told, key="thrifty") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429], answers[-1].text
    assert int(answers[1].headers["retry-after"]) >= 1
    assert answers[1].json()["title"] == "Too many simulated tokens"
    assert (await house.ask(told)).status_code == 200
