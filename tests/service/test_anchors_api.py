"""History in, through the door: whose it is, what is refused, and that it is kept before it is answered."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.api import anchors, errors
from service.api.callers import Caller, Doorkeeper, Role
from service.api.limits import BodyLimits
from service.vocabulary.anchor import Match
from service.vocabulary.proposal import Action
from tests.toy_domain import KettleDomain, KettleState

KETTLE = KettleDomain()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTES = ("a full kettle stands on the stove", "the kettle hums", "steam rises", "the lid rattles")
CALLERS = {
    "north": Caller("nora", frozenset({Role.admin}), "north"),
    "south": Caller("sam", frozenset({Role.admin, Role.supervisor}), "south"),
    "agent": Caller("bot", frozenset({Role.agent}), "north"),
    "elsewhere": Caller("eve", frozenset({Role.admin}), "north", frozenset({"garden"})),
}


class Badges:
    async def caller(self, shown: str) -> Caller | None:
        return CALLERS.get(shown)


@dataclass
class Desk:
    """The route, and the bank behind it."""

    client: httpx.AsyncClient
    bank: EdgeAnchorBank

    async def send(self, body: Any, key: str = "north") -> httpx.Response:
        return await self.client.post("/v1/anchors", json=body, headers={"Authorization": f"Bearer {key}"})

    async def recalled(self, tenant: str, turn: int = 0) -> tuple[Match, ...]:
        key = KETTLE.anchor_key(KettleState(note=NOTES[turn], turn=turn), Action(kind="pour"))
        return await self.bank.nearest("kettle", key, 10, tenant=tenant)


@pytest.fixture
async def desk(tmp_path: Path, encoder: Encoder) -> AsyncIterator[Desk]:
    bank = EdgeAnchorBank(tmp_path, encoder)
    app = FastAPI()
    app.add_middleware(BodyLimits, max_bytes=256 * 1024, max_depth=32)
    errors.install(app)
    app.include_router(anchors.router(bank, {"kettle": KETTLE}, Doorkeeper(Badges()), lambda: NOON))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://premortem") as client:
        yield Desk(client, bank)
    await bank.aclose()


def step(turn: int = 0, outcome: str = "waiting", **changed: Any) -> dict[str, Any]:
    told = {"state": {"note": NOTES[turn], "turn": turn}, "action": {"kind": "pour"}, "outcome": outcome}
    return told | changed


def case(*steps: dict[str, Any], **changed: Any) -> dict[str, Any]:
    told = [*steps] or [step(0), step(1), step(2, "scald", observation="a hand was scalded")]
    return {"domain": "kettle", "trajectory": told, "when": (NOON - timedelta(days=9)).isoformat()} | changed


def wrong(answer: httpx.Response, status: int = 422) -> dict[str, str]:
    """What is wrong, by where."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    return {each["pointer"]: each["detail"] for each in answer.json()["errors"]}


async def test_a_case_becomes_anchors_that_only_its_tenant_is_reminded_of(desk: Desk) -> None:
    answer = await desk.send(case(id="7", source="the kitchen's log"))
    assert answer.status_code == 200
    assert answer.json() == {"added": 2, "anchors": ["kettle-7/0", "kettle-7/2"]}
    (first,), (second,) = await desk.recalled("north"), await desk.recalled("north", turn=2)
    assert (first.anchor.id, first.anchor.outcome, first.anchor.next_outcome) == ("kettle-7/0", "scald", "waiting")
    assert (second.anchor.observation, second.anchor.source) == ("a hand was scalded", "the kitchen's log")
    assert (first.anchor.tenant, first.anchor.when) == ("north", NOON - timedelta(days=9))
    assert await desk.recalled("south") == await desk.recalled("") == ()
    assert await desk.bank.count("kettle") == 0


async def test_it_is_on_the_disk_before_it_is_answered(desk: Desk, tmp_path: Path, encoder: Encoder) -> None:
    await desk.send(case(id="7"))
    await desk.bank.aclose()
    again = EdgeAnchorBank(tmp_path, encoder)
    assert [match.anchor.id for match in await Desk(desk.client, again).recalled("north")] == ["kettle-7/0"]
    await again.aclose()


async def test_many_cases_in_one_request_and_whoever_sent_them_is_their_source(desk: Desk) -> None:
    answer = await desk.send([case(step(0, "tea"), id=f"{number}") for number in range(100)])
    assert answer.json()["added"] == 100
    assert {match.anchor.source for match in await desk.recalled("north")} == {"nora"}


async def test_sent_again_it_is_kept_once_with_or_without_an_id_and_its_last_word_stands(desk: Desk) -> None:
    nameless = case()
    first, again = await desk.send(nameless), await desk.send([nameless, nameless])
    assert first.json() == again.json()
    await desk.send([case(id="7"), case(step(0, "tea"), id="7")])
    assert (await desk.send(case(step(0, "tea", observation="served"), id="7"))).json()["added"] == 1
    found = {match.anchor.id: match.anchor for match in await desk.recalled("north")}
    assert len(found) == 2
    assert found["kettle-7/0"].observation == "served"


async def test_two_tenants_may_use_the_same_id(desk: Desk) -> None:
    await desk.send(case(step(0, "tea"), id="7"))
    await desk.send(case(step(0, "scald"), id="7"), "south")
    assert [match.anchor.outcome for match in await desk.recalled("north")] == ["tea"]
    assert [match.anchor.outcome for match in await desk.recalled("south")] == ["scald"]


@pytest.mark.parametrize(
    ("told", "where"),
    [
        (case(step(0, state={"turn": "soon"})), {"/trajectory/0/state/turn"}),
        (case(step(0), step(1, state={"colour": "red"})), {"/trajectory/1/state/colour"}),
        (case(step(0, "explosion")), {"/trajectory/0/outcome"}),
        (case(step(0, "tea"), step(1)), {"/trajectory/0/outcome"}),
        (case(when=(NOON + timedelta(hours=1)).isoformat()), {"/when"}),
        (case(when="2026-02-01T12:00:00"), {"/when"}),
        (case(trajectory=[]), {"/trajectory"}),
        (case(*[step(0)] * 51), {"/trajectory"}),
        (case(tenant="south"), {"/tenant"}),
        (case(step(0, observation=7)), {"/trajectory/0/observation"}),
    ],
)
async def test_what_cannot_have_happened_is_named_by_its_place(
    desk: Desk, told: dict[str, Any], where: set[str]
) -> None:
    assert set(wrong(await desk.send(told))) == where
    assert set(wrong(await desk.send([case(id="good"), told]))) == {f"/1{place}" for place in where}
    assert set(wrong(await desk.send([told]))) == {f"/0{place}" for place in where}
    assert await desk.recalled("north") == ()


async def test_everything_that_is_wrong_is_said_at_once(desk: Desk) -> None:
    found = wrong(await desk.send([case(step(0, "explosion")), case(), case(step(0, "a bang", state={"turn": None}))]))
    assert set(found) == {"/0/trajectory/0/outcome", "/2/trajectory/0/outcome", "/2/trajectory/0/state/turn"}
    assert found["/0/trajectory/0/outcome"] == "not on the scale of kettle: tea, waiting, scald"


@pytest.mark.parametrize("told", [[], [case()] * 101, "a story", 7])
async def test_neither_nothing_nor_too_much_nor_anything_else_is_history(desk: Desk, told: Any) -> None:
    assert wrong(await desk.send(told))


async def test_an_unknown_domain_is_not_found_and_named(desk: Desk) -> None:
    assert set(wrong(await desk.send(case(domain="boiler")), 404)) == {"/domain"}
    assert set(wrong(await desk.send([case(), case(domain="boiler")]), 404)) == {"/1/domain"}
    assert await desk.recalled("north") == ()


@pytest.mark.parametrize(("key", "status"), [("agent", 403), ("elsewhere", 403), ("nobody", 401)])
async def test_only_an_admin_of_the_domain_adds_history(desk: Desk, key: str, status: int) -> None:
    answer = await desk.send(case(), key)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert await desk.recalled("north") == ()


async def test_a_bank_that_cannot_keep_it_says_so_and_when_to_try_again(desk: Desk) -> None:
    await desk.bank.aclose()
    answer = await desk.send(case())
    assert wrong(answer, 503) == {}
    assert answer.headers["retry-after"] == "1"


def test_both_forms_are_in_the_schema() -> None:
    app = FastAPI()
    app.include_router(anchors.router(object(), {}, Doorkeeper(), lambda: NOON))  # type: ignore[arg-type]
    (content,) = app.openapi()["paths"]["/v1/anchors"]["post"]["requestBody"]["content"].values()
    one, many = content["schema"]["anyOf"]
    assert one == many["items"] == {"$ref": "#/components/schemas/RecordedCase"}
    assert many["maxItems"] == 100
