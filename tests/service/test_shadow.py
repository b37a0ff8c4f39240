"""Shadow mode: judged and recorded as anything else, enforced on nobody, and answered within the bound whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import pytest

from service.admission import Admission
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.api import shadows
from service.api.callers import Role
from service.api.shadows import Shadows
from service.app import known_case
from service.decisions.sqlite import SqliteLedger
from service.decisions.switches import Switches
from service.decisions.vault import Vault
from service.domains import catalog, examples
from service.guardrail import Chance, Guardrail, Rooms
from service.metrics import Metrics
from service.split import Contender, Split
from service.vocabulary.decision import Decision, Mode
from service.world.cases import CasesWorldModel
from service.world.model import PromptTooLong, WorldModelUnavailable
from service.world.scripted import Line, ScriptedWorldModel
from tests.lateness import lateness
from tests.service.house import BAD, CASE, FINE, NOON, STORY, Premises, body, premises, stocked

KIND = str(CASE["action"]["kind"])
PATIENT = {"budget_ms": 20_000}
BOUND_MS = 50.0
Opens = Callable[..., AbstractAsyncContextManager[Premises]]


@pytest.fixture
def opens(tmp_path: Path, bank: EdgeAnchorBank) -> Opens:
    """A service in which helpdesk's proposals of these kinds are shadows."""

    @asynccontextmanager
    async def opened(
        *futures: Any, kinds: str = f"[{KIND}]", latency: float = 0.0, over: EdgeAnchorBank = bank, **settings: Any
    ) -> AsyncIterator[Premises]:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "helpdesk.yaml").write_text(f"version: tried\nshadow: {kinds}\n")
        world = ScriptedWorldModel(*futures, latency=latency)
        async with premises(tmp_path, over, world, policies=tmp_path / "policies", **settings) as house:
            yield house

    return opened


async def counted(house: Premises) -> dict[str, int]:
    lines = (await house.client.get("/metrics")).text.splitlines()
    told = [line.split() for line in lines if line.startswith("premortem_shadow_total{")]
    return {name.split('"')[1]: int(float(value)) for name, value, *_ in told}


async def recorded(house: Premises, decision_id: str) -> Decision:
    """Once it is."""
    async with asyncio.timeout(20):
        while (found := await house.ledger.find(decision_id, "house")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found


# what it is


async def test_a_shadow_is_judged_and_recorded_as_any_other_and_nobody_waits_for_it(opens: Opens) -> None:
    async with opens(BAD, shadow_ms=20_000) as house:
        told = (await house.ask()).json()
        assert (told["mode"], told["ruling"], told["override"]) == ("shadow", "escalate", None)
        assert told["rollouts"]["completed"] == 5 and told["explanation"]["summary"]
        kept = (await house.read(told["decision_id"])).json()
        assert kept == told
        pending = await house.client.get("/v1/decisions", headers=house.shown("supervisor"))
        assert pending.json() == [] and await house.ledger.waiting() == 0
        path = f"/v1/decisions/{told['decision_id']}"
        waited = await house.client.get(f"{path}/wait", params={"timeout_s": 60}, headers=house.shown("agent"))
        assert waited.json() == told
        for changed in ({}, {"ruling": "denied"}, {"action": {"kind": "ask", "text": "Which account is it?"}}):
            answer = await house.overrule(told["decision_id"], **changed)
            assert answer.status_code == 409 and "shadow" in answer.json()["detail"], changed
        moved = {"state": body()["state"] | {"turns_elapsed": 9}}
        still = await house.client.post(f"{path}/state", json=moved, headers=house.shown("agent"))
        assert (still.status_code, still.json()) == (200, told), "nothing was approved that could be void"
        house.key("reporter", Role.outcome)
        seen = await house.client.post(f"{path}/outcome", json={"outcome": "resolved"}, headers=house.shown("reporter"))
        assert seen.status_code == 204
        assert await counted(house) == {"answered": 1, "late": 0, "lost": 0}


async def test_an_approval_in_shadow_mode_brings_no_permit_to_anybody(opens: Opens) -> None:
    async with opens(FINE, shadow_ms=20_000) as house:
        told = (await house.ask()).json()
        assert (told["ruling"], told["mode"], told["permit"]) == ("approve", "shadow", None)
        for key in ("agent", "supervisor"):
            assert (await house.read(told["decision_id"], key)).json()["permit"] is None
    assert (await _enforced(house, FINE))["permit"], "as it would without"


async def _enforced(house: Premises, script: Any) -> dict[str, Any]:
    folder = house.settings.data / "enforced"
    folder.mkdir()
    async with premises(folder, house.bank, ScriptedWorldModel(script)) as other:
        return dict((await other.ask()).json())


async def test_only_the_kinds_that_are_named_are_shadows_and_a_star_names_them_all(
    opens: Opens, tmp_path: Path
) -> None:
    async with opens(BAD, shadow_ms=20_000) as house:
        other = (await house.ask(body(action={"kind": "restart_service"}))).json()
        assert other["mode"] == "normal" and other["override"]
        assert (await house.ask()).json()["mode"] == "shadow"
    every = catalog()["helpdesk"].policy
    assert not every.shadows(KIND) and replace(every, shadow=frozenset("*")).shadows("anything at all")


async def test_hard_rules_and_kill_switches_are_seen_and_not_enforced(opens: Opens) -> None:
    broken = next(case for case in examples("helpdesk") if case["verdict"]["reason"] == "hard_rule")["proposal"]
    async with opens(FINE, kinds="'*'", shadow_ms=20_000) as house:
        told = (await house.ask({name: broken[name] for name in ("domain", "state", "action")})).json()
        assert (told["mode"], told["reason"], told["override"]) == ("shadow", "hard_rule", None)
        house.key("root", Role.admin)
        off = {"off": True, "code": "drill"}
        await house.client.put("/v1/switches/domain/helpdesk", json=off, headers=house.shown("root"))
        told = (await house.ask()).json()
        assert (told["mode"], told["reason"], told["override"]) == ("shadow", "disabled_by_operator", None)


async def test_a_shadow_says_what_was_missing_though_its_mode_does_not(opens: Opens) -> None:
    async with opens([WorldModelUnavailable("refused")], shadow_ms=20_000) as house:
        told = (await house.ask()).json()
        assert told["mode"] == "shadow" and told["basis"] == "history_only" and told["explanation"]["notes"]


# the bound


async def test_whoever_asks_is_answered_within_the_bound_and_finds_the_decision_later(opens: Opens) -> None:
    slow = [Line("progress", {"progress": 1.0})]
    async with opens(slow, latency=0.3, shadow_ms=BOUND_MS) as house:
        assert (await house.ask(body(action={"kind": "ask_later"}, options=PATIENT))).json()["mode"] == "normal"
        with lateness() as late:
            answers, took = [], []
            for _ in range(7):
                asked = monotonic()
                answers.append(await house.ask(body(options=PATIENT)))
                took.append(monotonic() - asked)
        for answer in answers:
            told = answer.json()
            assert answer.status_code == 202 and "go on" in told.pop("detail")
            id = told.pop("decision_id")
            assert told == {"mode": "shadow", "recorded": False}
            assert (await house.read(id)).status_code == 404
        assert median(took) < BOUND_MS / 1000 + max(late)
        assert max(took) < 2 * BOUND_MS / 1000 + max(late), "the bound, not the evaluation"
        for answer in answers:
            decision = await recorded(house, answer.json()["decision_id"])
            assert decision.mode is Mode.shadow and decision.timing_ms["simulate"] > 10 * BOUND_MS
        assert await counted(house) == {"answered": 0, "late": 7, "lost": 0}


async def test_the_id_that_was_handed_out_is_the_decisions_even_where_the_policy_is_another_by_then(
    tmp_path: Path, bank: EdgeAnchorBank
) -> None:
    shipped = catalog()["helpdesk"]
    changed: Any = replace(shipped, policy=replace(shipped.policy, shadow=frozenset({KIND})))
    fields = {"helpdesk": changed}
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    world = ScriptedWorldModel(FINE)
    ids = iter(f"dec_{number}" for number in range(9))
    guardrail = Guardrail(
        fields,
        Rooms(Split(Contender(world, STORY)), CasesWorldModel(bank), bank, ledger),
        Chance(monotonic, lambda: NOON, lambda: next(ids)),
        Admission(monotonic),
        Switches(ledger),
        Metrics(monotonic),
    )
    proposal = known_case("helpdesk", shipped)
    proposal = proposal.model_copy(update={"action": proposal.action.model_copy(update={"kind": KIND})})
    shadow = Shadows(guardrail, BOUND_MS).of(proposal)
    assert shadow
    fields["helpdesk"] = shipped
    assert Shadows(guardrail, BOUND_MS).of(proposal) is None
    decision = await shadow.guardrail.evaluate(proposal)
    assert (decision.decision_id, decision.mode) == (shadow.decision_id, Mode.shadow)
    assert decision.model.policy == changed.policy.name
    assert (await guardrail.evaluate(proposal)).mode is not Mode.shadow
    await ledger.aclose()


# in nobody's way


async def test_what_fails_is_told_and_counted_and_stops_nobody(opens: Opens) -> None:
    async with opens(BAD, shadow_ms=20_000) as house:
        await house.ledger.aclose()
        answer = await house.ask()
        told = answer.json()
        assert (answer.status_code, told["recorded"], told["decision_id"]) == (202, False, None)
        assert "go on" in told["detail"] and "ledger" in told["detail"]
        enforced = await house.ask(body(action={"kind": "restart_service"}))
        assert enforced.status_code == 503, "what is enforced fails closed all the same"
        assert await counted(house) == {"answered": 0, "late": 0, "lost": 1}


async def test_a_bug_in_an_evaluation_stops_nobody_either(opens: Opens) -> None:
    async with opens([RuntimeError("secret words")], shadow_ms=20_000) as house:
        answer = await house.ask()
        assert answer.status_code == 202 and "secret" not in answer.text
        assert (await counted(house))["lost"] == 1


async def test_too_much_at_once_is_lost_and_what_fits_is_not(
    opens: Opens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shadows, "MOST", 3)
    async with opens(FINE, latency=0.5, shadow_ms=1) as house:
        answers = [await house.ask(body(options=PATIENT)) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {202}
        ids = [answer.json()["decision_id"] for answer in answers]
        assert all(ids[:3]) and ids[3:] == [None, None]
        assert "too many" in answers[4].json()["detail"]
        for id in ids[:3]:
            assert (await recorded(house, id)).mode is Mode.shadow
        assert await counted(house) == {"answered": 0, "late": 3, "lost": 2}


async def test_what_is_wrong_with_a_request_is_said_all_the_same(opens: Opens) -> None:
    async with opens([PromptTooLong("900 tokens")], shadow_ms=20_000) as house:
        assert (await house.ask(body(state={"category": 7}))).status_code == 422
        assert (await house.ask(body(domain="plumbing"))).status_code == 404
        assert (await house.ask(key="nobody")).status_code == 401
        assert (await house.ask()).status_code == 413
        assert await counted(house) == {"answered": 0, "late": 0, "lost": 0}


async def test_rates_apply_and_a_spent_one_loses_the_shadow_and_stops_nobody(opens: Opens) -> None:
    async with opens(FINE, shadow_ms=20_000) as house:
        house.key("thrifty", Role.agent, tokens_per_minute=1)
        house.world._latency = 0.3
        first = asyncio.create_task(house.ask(key="thrifty"))
        await asyncio.sleep(0.1)
        second, enforced = (
            await house.ask(key="thrifty"),
            await house.ask(body(action={"kind": "restart_service"}), key="thrifty"),
        )
        assert (second.status_code, enforced.status_code) == (202, 429)
        assert "tokens a minute" in second.json()["detail"]
        assert (await first).status_code == 200


async def test_under_a_key_it_is_one_evaluation_and_the_decision_is_answered_once_it_is_there(opens: Opens) -> None:
    async with opens(FINE, latency=0.3, shadow_ms=BOUND_MS) as house:

        async def sent(told: dict[str, Any]) -> Any:
            headers = house.shown("agent") | {"Idempotency-Key": "one"}
            return await house.client.post("/v1/evaluations", json=told, headers=headers)

        first, meanwhile = await sent(body(options=PATIENT)), await sent(body(options=PATIENT))
        assert (first.status_code, meanwhile.status_code) == (202, 202)
        assert meanwhile.json()["decision_id"] is None and "being carried out" in meanwhile.json()["detail"]
        assert (await sent(body(options=PATIENT | {"seed": 3}))).status_code == 422
        id = first.json()["decision_id"]
        await recorded(house, id)
        async with asyncio.timeout(10):
            while (again := await sent(body(options=PATIENT))).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert again.json()["decision_id"] == id and again.headers["Idempotency-Replayed"] == "true"
        assert await house.recorded() == 1


# what goes on


async def test_a_caller_who_hangs_up_ends_no_shadow(opens: Opens) -> None:
    async with opens(FINE, latency=0.3, shadow_ms=20_000) as house:
        asked = asyncio.create_task(house.ask(body(options=PATIENT)))
        while not house.world.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait({asked})
        assert asked.cancelled()
        assert (await recorded(house, "dec_1")).mode is Mode.shadow and house.world.cancelled == 0
        assert await counted(house) == {"answered": 1, "late": 0, "lost": 0}


@pytest.fixture
def own_bank(tmp_path: Path, encoder: Encoder) -> EdgeAnchorBank:
    return stocked(tmp_path / "anchors", encoder)


async def test_a_service_that_closes_finishes_its_shadows_first(
    opens: Opens, own_bank: EdgeAnchorBank, tmp_path: Path
) -> None:
    async with opens(FINE, latency=0.5, shadow_ms=1, over=own_bank) as house:
        async with house.app.router.lifespan_context(house.app):
            ids = [(await house.ask(body(options=PATIENT))).json()["decision_id"] for _ in range(3)]
            assert await house.recorded() == 0
        reopened = SqliteLedger(tmp_path / "ledger.sqlite", vault=Vault(b"v" * 32))
        kept = [await reopened.find(id, "house") for id in ids]
        await reopened.aclose()
    assert [decision and decision.mode for decision in kept] == [Mode.shadow] * 3
