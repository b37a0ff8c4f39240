"""The service over HTTP: what is answered, what is refused and how, and that nothing unrecorded is ever ruled."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI

from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.api.errors import PROBLEM
from service.api.limits import depth
from service.domains import catalog, examples
from service.server import listening
from service.world.model import PromptTooLong
from service.world.scripted import ScriptedWorldModel, Silence
from tests.service.house import BAD, FINE, NOON, Premises, body, premises

House = Callable[..., AbstractAsyncContextManager[Premises]]


@pytest.fixture
def furnished(tmp_path: Path, bank: EdgeAnchorBank) -> House:
    def build(world: ScriptedWorldModel | None = None, **changed: Any) -> AbstractAsyncContextManager[Premises]:
        return premises(tmp_path, world=world or ScriptedWorldModel(FINE), **{"bank": bank, **changed})

    return build


@pytest.fixture
async def house(furnished: House) -> AsyncIterator[Premises]:
    """Every future goes well."""
    async with furnished() as found:
        yield found


@pytest.fixture
async def gloomy(furnished: House) -> AsyncIterator[Premises]:
    """Every future goes badly."""
    async with furnished(ScriptedWorldModel(BAD)) as found:
        yield found


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem of an answer, which must be one by RFC 9457 and must not hold a ruling."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    told: dict[str, Any] = answer.json()
    assert set(told) == {"type", "title", "status", "detail", "errors"} and told["status"] == status
    assert "ruling" not in told and "decision_id" not in answer.text
    return told


def pointers(answer: httpx.Response) -> list[str]:
    return [error["pointer"] for error in problem(answer, 422)["errors"]]


# A proposal in, a decision out.


async def test_a_proposal_whose_futures_go_well_is_approved_on_record(house: Premises) -> None:
    answer = await house.ask()
    told = answer.json()
    assert answer.status_code == 200
    assert (told["ruling"], told["reason"], told["basis"]) == ("approve", "within_tolerance", "simulated"), told
    assert told["risk"]["interval"][0] <= told["risk"]["adverse_probability"] <= told["risk"]["threshold"]
    assert await house.recorded() == 1


async def test_an_escalation_is_an_answer_and_not_an_error(gloomy: Premises) -> None:
    answer = await gloomy.ask()
    assert answer.status_code == 200
    assert answer.json()["ruling"] == "escalate"
    assert answer.json()["override"] == {
        "approvals_required": 1,
        "expires_at": (NOON + timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
    }


async def test_what_is_read_back_is_exactly_what_was_answered(gloomy: Premises) -> None:
    told = body(options={"include_rollouts": True, "seed": 7}, context={"agent_id": "a", "correlation_id": "c"})
    answered = (await gloomy.ask(told)).json()
    assert answered["futures"]
    for key in ("agent", "supervisor"):
        assert (await gloomy.read(answered["decision_id"], key)).json() == answered


async def test_the_proposal_is_recorded_as_it_was_put(house: Premises) -> None:
    told = body(action={"arguments": {"été": ["🔥", 1.5, None, {"<|outcome:resolved|>": True}]}})
    recorded = (await house.read((await house.ask(told)).json()["decision_id"])).json()["proposal"]
    assert recorded["action"] == told["action"]
    assert recorded["state"] == told["state"]


async def test_futures_are_told_only_when_asked_for(house: Premises) -> None:
    assert (await house.ask()).json()["futures"] is None


# What is refused, and where it says the fault lies.

NOT_AS_IT_MUST_BE: dict[str, tuple[dict[str, Any], str]] = {
    "a number that is none": (body(state={"turns_elapsed": "many"}), "/state/turns_elapsed"),
    "an unknown field of the state": (body(state={"colour": "red"}), "/state/colour"),
    "a field inside a field": (body(state={"environment": {"stage": "moon"}}), "/state/environment/stage"),
    "a turn of the conversation": (
        body(state={"conversation_history": [{"role": "user"}, {"role": "ghost"}]}),
        "/state/conversation_history/1/role",
    ),
    "a text beyond its length": (body(state={"ticket_id": "x" * 201}), "/state/ticket_id"),
    "a name that needs escaping": (body(state={"a/b~c": 1}), "/state/a~1b~0c"),
    "a state that is no object": ({**body(), "state": []}, "/state"),
    "no state": ({"domain": "helpdesk", "action": {"kind": "ask"}}, "/state"),
    "no action": ({"domain": "helpdesk", "state": {}}, "/action"),
    "an action without a kind": ({**body(), "action": {"text": "do it"}}, "/action/kind"),
    "an empty kind": (body(action={"kind": ""}), "/action/kind"),
    "an unknown option": (body(options={"futures": 5}), "/options/futures"),
    "an option out of range": (body(options={"rollouts": 0}), "/options/rollouts"),
    "a budget beyond reason": (body(options={"budget_ms": 10**9}), "/options/budget_ms"),
    "an unknown field": (body(verdict="approve"), "/verdict"),
    "a list": ([], ""),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("told", "where"), NOT_AS_IT_MUST_BE.values(), ids=NOT_AS_IT_MUST_BE)
async def test_a_field_that_is_not_as_it_must_be_is_named(house: Premises, told: dict[str, Any], where: str) -> None:
    answer = await house.client.post("/v1/evaluations", json=told, headers=house.shown("agent"))
    assert where in pointers(answer)
    assert await house.recorded() == 0 and house.world.calls == 0


async def test_an_unknown_domain_is_not_found_and_the_known_ones_are_named(house: Premises) -> None:
    told = problem(await house.ask(body(domain="astrology")), 404)
    assert "astrology" in told["detail"] and all(name in told["detail"] for name in catalog())


WHOLE = json.dumps(body()).encode()
NOT_PLAIN_JSON = {
    "nothing": b"",
    "half": WHOLE[:-1],
    "two": WHOLE + WHOLE,
    "NaN": WHOLE.replace(b'"turns_elapsed": 2', b'"turns_elapsed": NaN'),
    "infinity": WHOLE.replace(b'"turns_elapsed": 2', b'"turns_elapsed": -Infinity'),
    "a number beyond any float": WHOLE.replace(b'"turns_elapsed": 2', b'"turns_elapsed": 1e999'),
    "a key twice": WHOLE.replace(b'"domain"', b'"domain": "safety", "domain"', 1),
    "a key twice, deep inside": WHOLE.replace(b'"verified"', b'"verified": false, "verified"'),
    "a lone surrogate": WHOLE.replace(b'"verified"', b'"\\ud800": 1, "verified"'),
    "bytes that are no text": WHOLE.replace(b"password", b"pass\xffword"),
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + WHOLE,
}


@pytest.mark.parametrize("sent", NOT_PLAIN_JSON.values(), ids=NOT_PLAIN_JSON)
async def test_a_body_that_two_readers_could_read_differently_is_refused(house: Premises, sent: bytes) -> None:
    assert sent != WHOLE
    headers = house.shown("agent") | {"Content-Type": "application/json"}
    problem(await house.client.post("/v1/evaluations", content=sent, headers=headers), 422)
    assert await house.recorded() == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_not_sent_as_json_is_refused(house: Premises, kind: str) -> None:
    headers = house.shown("agent") | ({"Content-Type": kind} if kind else {})
    problem(await house.client.post("/v1/evaluations", content=WHOLE, headers=headers), 415)


async def test_json_may_name_its_character_set(house: Premises) -> None:
    headers = house.shown("agent") | {"Content-Type": "application/json; charset=utf-8"}
    assert (await house.client.post("/v1/evaluations", content=WHOLE, headers=headers)).status_code == 200


async def test_a_body_too_large_is_refused(furnished: House) -> None:
    async with furnished(max_body_bytes=2_000) as house:
        assert (await house.ask()).status_code == 200
        assert "2000" in problem(await house.ask(body(action={"text": "x" * 2_000})), 413)["detail"]


async def test_a_body_without_a_length_is_read_no_further_than_the_limit(furnished: House) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000
            yield b" " * 1_000

    async with furnished(max_body_bytes=5_000) as house:
        headers = house.shown("agent") | {"Content-Type": "application/json"}
        problem(await house.client.post("/v1/evaluations", content=endless(), headers=headers), 413)
    assert sent == 6_000


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_nesting_too_deep_is_refused_before_it_is_parsed(house: Premises, opening: str) -> None:
    headers = house.shown("agent") | {"Content-Type": "application/json"}
    answer = await house.client.post("/v1/evaluations", content=opening * 30_000, headers=headers)
    assert "nested" in problem(answer, 413)["detail"]


async def test_brackets_in_a_text_are_no_nesting(house: Premises) -> None:
    assert (await house.ask(body(action={"text": '[{"\\' * 200}))).status_code == 200


def test_a_text_that_never_ends_does_not_hold_up_the_service() -> None:
    began = time.thread_time()
    assert depth(b'[["' + b'\\"[' * 80_000) == 2
    assert time.thread_time() - began < 1.0


async def test_a_proposal_beyond_the_models_attention_is_too_large(furnished: House) -> None:
    async with furnished(ScriptedWorldModel([PromptTooLong("state and action take 900 tokens")])) as house:
        assert "900 tokens" in problem(await house.ask(), 413)["detail"]
        assert await house.recorded() == 0


async def test_an_unknown_path_or_method_is_a_problem_too(house: Premises) -> None:
    problem(await house.client.get("/v2/evaluations"), 404)
    answer = await house.client.get("/v1/evaluations")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


# Who may do what.


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer wrong", "Basic {key}", "{key}", "Bearer {key}x"])
async def test_without_a_valid_key_nothing_is_said_about_anything(house: Premises, shown: str) -> None:
    headers = {"Authorization": shown.format(key=house.keys["agent"])} if shown else {}
    for path, told in (("evaluations", body()), ("evaluations", {"nonsense": 1}), ("decisions/dec_1/override", {})):
        answer = await house.client.post(f"/v1/{path}", json=told, headers=headers)
        assert problem(answer, 401)["errors"] == []
        assert answer.headers["www-authenticate"] == "Bearer"
    problem(await house.client.get("/v1/decisions/dec_1", headers=headers), 401)
    assert await house.recorded() == 0


async def test_an_agents_key_can_never_override(gloomy: Premises) -> None:
    decided = (await gloomy.ask()).json()["decision_id"]
    problem(await gloomy.overrule(decided, key="agent"), 403)
    problem(await gloomy.overrule(decided, key="agent", ruling="nonsense"), 403)
    problem(await gloomy.overrule("dec_unknown", key="agent"), 403)
    assert (await gloomy.read(decided)).json()["overridden"] is None


async def test_with_authentication_off_the_local_operator_does_both(furnished: House) -> None:
    async with furnished(ScriptedWorldModel(BAD), authentication=False) as house:
        assert house.keys == {}
        decided = (await house.ask()).json()["decision_id"]
        assert (await house.overrule(decided)).json()["approvals"][0]["supervisor"] == "local supervisor"


async def test_a_second_start_says_no_keys_and_takes_those_of_the_first(furnished: House) -> None:
    async with furnished() as first:
        keys = first.keys
        assert set(keys) == {"agent", "supervisor"}
    async with furnished() as second:
        assert second.keys == {}
        second.keys = keys
        assert (await second.ask()).status_code == 200


# What a supervisor makes of a decision.


@pytest.mark.parametrize("ruling", ["approved", "denied"])
async def test_a_supervisors_ruling_is_kept_beside_the_decision(gloomy: Premises, ruling: str) -> None:
    decided = (await gloomy.ask()).json()
    answer = await gloomy.overrule(decided["decision_id"], ruling=ruling, reason="  Seen in person.  ")
    overridden = answer.json()
    assert answer.status_code == 200
    assert overridden["overridden"] == {
        "decision_id": decided["decision_id"],
        "ruling": ruling,
        "code": "mitigated",
        "reason": "Seen in person.",
        "supervisor": "first-supervisor",
        "at": NOON.isoformat().replace("+00:00", "Z"),
        "successor": None,
    }
    assert overridden | {"overridden": None, "approvals": [], "permit": None} == decided
    assert (await gloomy.read(decided["decision_id"])).json() == overridden


async def test_a_second_override_is_refused_and_the_first_stays(gloomy: Premises) -> None:
    decided = (await gloomy.ask()).json()["decision_id"]
    first = (await gloomy.overrule(decided)).json()
    problem(await gloomy.overrule(decided, reason="Once more, for good measure."), 409)
    assert (await gloomy.read(decided)).json() == first


async def test_an_approval_is_nothing_to_override(house: Premises) -> None:
    problem(await house.overrule((await house.ask()).json()["decision_id"]), 409)


async def test_an_override_after_its_time_is_refused(gloomy: Premises) -> None:
    early, late = [(await gloomy.ask()).json()["decision_id"] for _ in range(2)]
    gloomy.clock.now = NOON + timedelta(hours=1)
    assert (await gloomy.overrule(early)).status_code == 200
    gloomy.clock.now = NOON + timedelta(hours=1, seconds=1)
    assert "13:00" in problem(await gloomy.overrule(late), 409)["detail"]


async def test_an_unknown_decision_is_not_found(gloomy: Premises) -> None:
    problem(await gloomy.read("dec_unknown"), 404)
    problem(await gloomy.overrule("dec_unknown"), 404)


@pytest.mark.parametrize("reason", ["", "ok", " " * 40, "x" * 2_001])
async def test_an_override_without_a_reason_worth_reading_is_refused(gloomy: Premises, reason: str) -> None:
    decided = (await gloomy.ask()).json()["decision_id"]
    assert pointers(await gloomy.overrule(decided, reason=reason)) == ["/reason"]
    assert pointers(await gloomy.overrule(decided, supervisor="somebody else")) == ["/supervisor"]
    assert (await gloomy.read(decided)).json()["overridden"] is None


# When a part is missing.


async def test_what_cannot_be_recorded_is_not_ruled(furnished: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with furnished(ledger=tmp_path / "file" / "ledger.sqlite") as house:
        for told in (body(), body(action={"kind": "ask"})):
            problem(await house.ask(told), 503)
        problem(await house.read("dec_1"), 503)
        problem(await house.overrule("dec_1"), 503)


async def test_too_many_at_once_are_told_when_to_come_back(furnished: House) -> None:
    async with furnished(ScriptedWorldModel(FINE, latency=0.3), in_flight=1, max_in_flight=1) as house:
        patient = body(options={"budget_ms": 10_000})
        assert (await house.ask(patient)).json()["basis"] == "simulated"
        before = house.world.calls
        first = asyncio.create_task(house.ask(patient))
        await until(lambda: house.world.calls > before)
        history, *_, answer = await asyncio.gather(*(house.ask() for _ in range(4)))
        assert history.json()["basis"] == "history_only"
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert (await first).status_code == 200
        assert (await house.ask(body(action={"kind": "ask"}))).status_code == 200
        assert await house.recorded() == 5


async def test_a_fault_of_ours_is_a_500_that_rules_nothing_and_tells_nothing(furnished: House) -> None:
    async with furnished(ScriptedWorldModel([RuntimeError("secret detail")])) as house:
        answer = await house.ask()
        problem(answer, 500)
        assert "secret" not in answer.text and "approve" not in answer.text
        assert await house.recorded() == 0


async def test_the_process_lives_whatever_its_parts_do(house: Premises) -> None:
    await house.ledger.aclose()
    await house.world.aclose()
    assert (await house.client.get("/livez")).json() == {"status": "alive"}


async def ready(house: Premises) -> tuple[int, dict[str, bool]]:
    answer = await house.client.get("/readyz")
    return answer.status_code, answer.json()["parts"]


async def test_it_is_ready_when_every_part_is(house: Premises) -> None:
    assert await ready(house) == (200, {"world": True, "anchors": True, "ledger": True, "canary": True})
    assert await house.recorded() == 0


@pytest.mark.parametrize(("room", "part"), [("world", "world"), ("bank", "anchors"), ("ledger", "ledger")])
async def test_it_is_not_ready_when_a_part_is_closed_and_names_it(
    furnished: House, encoder: Encoder, tmp_path: Path, room: str, part: str
) -> None:
    async with furnished(bank=EdgeAnchorBank(tmp_path / "anchors", encoder)) as house:
        await getattr(house, room).aclose()
        status, parts = await ready(house)
        await house.bank.aclose()
    assert status == 503
    assert [name for name, well in parts.items() if not well and name != "canary"] == [part]


async def test_it_is_not_ready_when_the_ledger_cannot_write(furnished: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with furnished(ledger=tmp_path / "file" / "ledger.sqlite") as house:
        assert await ready(house) == (503, {"world": True, "anchors": True, "ledger": False, "canary": True})


# What it says about itself.


async def told_of(house: Premises) -> dict[str, Any]:
    document: dict[str, Any] = (await house.client.get("/openapi.json")).json()
    return document


def within(part: Any) -> list[dict[str, Any]]:
    """Every object in a document, at any depth."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [part] * isinstance(part, dict) + [found for each in inner for found in within(each)]


async def test_the_openapi_document_is_one_and_all_its_references_lead_somewhere(house: Premises) -> None:
    document = await told_of(house)
    OpenAPI.model_validate(document)
    for part in within(document):
        if isinstance(reference := part.get("$ref"), str):
            found: Any = document
            for step in reference.removeprefix("#/").split("/"):
                assert step in found, reference
                found = found[step]


async def test_every_error_in_the_openapi_document_is_a_problem(house: Premises) -> None:
    document = await told_of(house)
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {
        "type",
        "title",
        "status",
        "detail",
        "errors",
    }
    seen = 0
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/readyz":
                    seen += 1
                    assert answer["content"] == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert seen > 10
    evaluation = document["paths"]["/v1/evaluations"]["post"]
    assert {"200", "202", "401", "403", "404", "409", "413", "415", "422", "429", "503", "default"} == set(
        evaluation["responses"]
    )
    assert evaluation["security"], "the key can be given on the page"
    override = document["paths"]["/v1/decisions/{decision_id}/override"]["post"]
    assert {"401", "403", "404", "409", "422", "503"} <= set(override["responses"])


async def test_the_openapi_document_shows_every_case_of_every_domain(house: Premises) -> None:
    request = (await told_of(house))["paths"]["/v1/evaluations"]["post"]["requestBody"]
    shown = request["content"]["application/json"]["examples"]
    assert set(shown) == {case["name"] for name in catalog() for case in examples(name)}
    assert len(shown) == sum(len(examples(name)) for name in catalog())
    for example in shown.values():
        assert set(example["value"]) == {"domain", "state", "action"}
        catalog()[example["value"]["domain"]].state_type.model_validate(example["value"]["state"])


async def test_the_domains_tell_their_names_schemas_outcomes_policies_and_examples(house: Premises) -> None:
    index = (await house.client.get("/v1/domains")).json()
    assert set(index) == set(catalog()) and all(index.values())
    for name, domain in catalog().items():
        told = (await house.client.get(f"/v1/domains/{name}")).json()
        assert told["name"] == name and told["briefing"] == index[name]
        assert [outcome["name"] for outcome in told["outcomes"]] == list(domain.outcomes.names)
        assert {outcome["severity"] for outcome in told["outcomes"]} <= {"none", "minor", "serious", "critical"}
        assert told["policy"]["threshold"] == domain.policy.threshold
        assert set(told["state_schema"]["properties"]) == set(domain.state_type.model_fields)
        assert len(told["examples"]) == len(examples(name))
    problem(await house.client.get("/v1/domains/astrology"), 404)


# On a socket.


def free_port() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def until(met: Callable[[], bool], patience_s: float = 20.0) -> None:
    async with asyncio.timeout(patience_s):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_caller_who_hangs_up_stops_every_future_and_leaves_no_record(
    furnished: House, capfd: pytest.CaptureFixture[str]
) -> None:
    async with furnished(ScriptedWorldModel([Silence.hang])) as house:
        house.app.router.lifespan_context = _without_warm_up
        with free_port() as port:
            async with listening(house.app, port) as url:
                told = json.dumps(body(options={"budget_ms": 30_000})).encode()
                head = f"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(told)}\r\n"
                head += f"Content-Type: application/json\r\nAuthorization: Bearer {house.keys['agent']}\r\n\r\n"
                _, wire = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
                wire.write(head.encode() + told)
                await until(lambda: house.world.calls >= 5)
                await asyncio.sleep(0.05)
                assert house.world.cancelled == 0, "the end of the body is not the end of the call"
                wire.close()
                await until(lambda: house.world.cancelled == house.world.calls)
                async with httpx.AsyncClient(base_url=url) as client:
                    assert (await client.get("/livez")).status_code == 200
        assert await house.recorded() == 0
    assert "Traceback" not in capfd.readouterr().err


async def test_one_connection_serves_one_evaluation_after_another(house: Premises) -> None:
    house.app.router.lifespan_context = _without_warm_up
    with free_port() as port:
        async with listening(house.app, port) as url, httpx.AsyncClient(base_url=url) as client:
            for _ in range(3):
                answer = await client.post("/v1/evaluations", json=body(), headers=house.shown("agent"))
                assert answer.json()["ruling"] == "approve"
    assert await house.recorded() == 3


class _without_warm_up:
    """The house closes its own rooms, and a world model that hangs would be waited for."""

    def __init__(self, app: object) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...
