"""A candidate checkpoint gets its share of all proposals, is named where it answered, and is nobody's stand-in."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadtest.served import free_port
from service.anchors.edge import EdgeAnchorBank
from service.domains import catalog
from service.house import House, furnish
from service.settings import Settings
from service.split import Contender, Split, seed_of
from service.vocabulary.proposal import Action, Proposal
from service.world.checkpoint import MANIFEST, NOTHING, BadCheckpoint, DomainStory, Manifest
from service.world.model import WorldModelUnavailable
from service.world.scripted import Line, ScriptedWorldModel
from tests.service.house import BAD, CASE, FINE, NOON, STORY, Premises, body, premises

ROOT = Path(__file__).parents[2]
MINI = Settings().checkpoint
NEXT = STORY.model_copy(update={"checkpoint": "next"})
MANY = 2_000
SLIGHT = [Line("resolved", {"resolved": 0.99, "service_outage": 0.01})]
Points = tuple[tuple[float, float], ...]
EVEN: Points = ((0.0, 0.0), (1.0, 1.0))
GRIM: Points = ((0.0, 0.0), (0.001, 0.8), (0.999, 0.8), (1.0, 1.0))
GONE = [WorldModelUnavailable("it is gone")]
Open = Callable[..., AbstractAsyncContextManager[Premises]]


@pytest.fixture
def opened(tmp_path: Path, bank: EdgeAnchorBank) -> Open:
    """Premises where all is well by the checkpoint that serves."""
    return partial(premises, tmp_path, bank, ScriptedWorldModel(FINE))


def contender(world: ScriptedWorldModel, **story: Any) -> Contender:
    return Contender(world, NEXT, {"helpdesk": DomainStory(**story)})


def proposals(count: int) -> list[Proposal]:
    """All alike but for the ticket's number, which nothing recorded or imagined depends on."""
    state_type, action = catalog()["helpdesk"].state_type, Action.model_validate(CASE["action"])
    states = [state_type.model_validate(CASE["state"] | {"ticket_id": f"INC{number}"}) for number in range(count)]
    return [Proposal(domain="helpdesk", state=state, action=action) for state in states]


def given(share: float) -> set[int]:
    """Which of many proposals the candidate gets."""
    split = Split(contender(ScriptedWorldModel(FINE)), contender(ScriptedWorldModel(BAD)), share)
    return {number for number, each in enumerate(proposals(MANY)) if split.of(seed_of(each)) is split.candidate}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_the_candidate_gets_its_share(share: float) -> None:
    assert abs(len(given(share)) - MANY * share) < 4 * sqrt(MANY * share * (1 - share))


def test_of_no_share_it_gets_none_and_of_the_whole_share_all() -> None:
    assert given(0.0) == set() and given(1.0) == set(range(MANY))


def test_shares_nest_so_that_a_larger_one_moves_nobody_back() -> None:
    assert given(0.1) == given(0.1)
    assert given(0.1) < given(0.2) < given(0.9)


async def test_every_decision_rests_on_one_checkpoint_and_names_it(opened: Open) -> None:
    candidate = ScriptedWorldModel(BAD)
    async with opened(candidate=contender(candidate), share=0.5) as house:
        split = Split(Contender(house.world, STORY), contender(candidate), 0.5)
        named = set()
        for each in proposals(12):
            before = house.world.calls, candidate.calls
            told = (await house.ask(body(state=each.state.model_dump(mode="json", exclude_unset=True)))).json()
            asked = [
                calls > earlier for calls, earlier in zip((house.world.calls, candidate.calls), before, strict=True)
            ]
            given = split.of(seed_of(each))
            assert told["model"]["checkpoint"] == given.model.checkpoint
            assert told["ruling"] == ("escalate" if given is split.candidate else "approve")
            assert asked == [given is split.serving, given is split.candidate], (
                "alternatives too are its own to foresee"
            )
            named.add(told["model"]["checkpoint"])
        assert named == {"", "next"}


async def test_without_a_share_a_candidate_is_not_asked(opened: Open) -> None:
    candidate = ScriptedWorldModel(BAD)
    async with opened(candidate=contender(candidate)) as house:
        assert (await house.ask()).json()["ruling"] == "approve"
        assert candidate.calls == 0


async def test_a_candidate_that_is_down_escalates_its_share_and_the_other_is_not_asked_instead(opened: Open) -> None:
    async with opened(candidate=contender(ScriptedWorldModel(GONE)), share=1.0) as house:
        told = (await house.ask()).json()
        assert (told["ruling"], told["reason"], told["basis"]) == (
            "escalate",
            "world_model_unavailable",
            "history_only",
        )
        assert told["model"]["checkpoint"] == "next" and house.world.calls == 0


async def test_its_futures_are_read_by_its_own_calibration(opened: Open) -> None:
    grim = contender(ScriptedWorldModel(SLIGHT), calibration=GRIM)
    async with opened(candidate=grim, share=1.0) as house:
        told = (await house.ask()).json()
        assert (told["reason"], told["risk"]["adverse_probability"]) == ("risk_above_threshold", pytest.approx(0.8))


@pytest.mark.parametrize(("calibration", "safe"), [(EVEN, True), (GRIM, False)])
async def test_what_it_recommends_is_read_by_its_own_calibration(opened: Open, calibration: Points, safe: bool) -> None:
    world = ScriptedWorldModel(SLIGHT, by_kind={CASE["action"]["kind"]: [BAD]})
    async with opened(candidate=contender(world, calibration=calibration), share=1.0) as house:
        told = (await house.ask()).json()
        assert told["reason"] == "risk_above_threshold"
        assert (told["explanation"]["recommended_action"] is not None) is safe


async def test_what_it_was_not_measured_for_is_unfamiliar_to_it(opened: Open) -> None:
    unmeasured = contender(ScriptedWorldModel(FINE), familiar=NOTHING)
    async with opened(candidate=unmeasured, share=1.0) as house:
        assert (await house.ask()).json()["reason"] == "unfamiliar_situation"


async def test_its_trouble_is_told_and_takes_nothing_away_from_the_others(opened: Open) -> None:
    candidate = ScriptedWorldModel(GONE)
    await candidate.aclose()
    async with opened(candidate=contender(candidate), share=0.1) as house:
        answer = await house.client.get("/readyz")
        assert answer.status_code == 200 and answer.json()["status"] == "ready"
        assert set(answer.json()["trouble"]) == {"candidate", "candidate_canary"}
        scraped = (await house.client.get("/metrics")).text
        assert 'premortem_part_up{part="candidate"} 0.0' in scraped and 'premortem_part_up{part="world"} 1.0' in scraped
        await house.world.aclose()
        assert (await house.client.get("/readyz")).status_code == 503


async def test_rulings_are_counted_by_checkpoint_where_one_was_asked(opened: Open) -> None:
    async with opened(candidate=contender(ScriptedWorldModel(BAD)), share=1.0) as house:
        await house.ask()
        await house.ask(body(action={"kind": "ask", "text": "What does the screen say?"}))
        scraped = (await house.client.get("/metrics")).text.splitlines()
    counted = [line for line in scraped if line.startswith("premortem_checkpoint_evaluations_total{")]
    told = 'premortem_checkpoint_evaluations_total{checkpoint="%s",domain="helpdesk",ruling="%s"} %s'
    assert told % ("next", "escalate", "1.0") in counted
    assert told % ("next", "approve", "0.0") in counted, "a question is harmless: nothing was foreseen"
    assert told % ("", "approve", "0.0") in counted
    assert any(line.startswith("premortem_build_info{") and 'role="candidate"' in line for line in scraped)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"candidate_share": 0.1}, "need a candidate"),
        ({"candidate_vllm_urls": "http://a"}, "need a candidate"),
        ({"candidate": MINI, "candidate_share": 1.1}, "candidate_share"),
        ({"candidate": MINI, "world": "cases"}, "world local or vllm"),
        ({"candidate": MINI, "world": "scripted"}, "world local or vllm"),
        ({"candidate": MINI, "candidate_vllm_urls": "http://a"}, "candidate_vllm_urls"),
        ({"candidate": MINI, "world": "vllm", "vllm_urls": "http://a"}, "candidate_vllm_urls"),
    ],
)
def test_settings_of_a_candidate_that_contradict_each_other_are_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings(**told)


def test_an_empty_candidate_is_none() -> None:
    assert Settings(candidate="").candidate is None


def checkpoint(folder: Path, **changed: Any) -> Path:
    """The bundled checkpoint under another manifest."""
    folder.mkdir()
    for path in MINI.iterdir():
        (folder / path.name).symlink_to(path)
    manifest = Manifest.model_validate_json((MINI / MANIFEST).read_text())
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(manifest.model_copy(update=changed).model_dump_json())
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cache").symlink_to(ROOT / "build" / "cache")
    return tmp_path / "data"


@asynccontextmanager
async def furnished(data: Path, **told: Any) -> AsyncIterator[House]:
    house = await furnish(Settings(data=data, bundled_history=0, **told), NOON)
    yield house
    for each in house.rooms.split.by_role.values():
        await each.world.aclose()
    await house.rooms.bank.aclose()
    await house.rooms.ledger.aclose()


async def test_two_checkpoints_run_in_process_each_with_its_own_story(tmp_path: Path, data: Path) -> None:
    sure = {name: DomainStory(concentration=99.0) for name in catalog()}
    candidate = checkpoint(tmp_path / "next", name="next", domains=sure)
    async with furnished(data, candidate=candidate, candidate_share=0.2) as house:
        split = house.rooms.split
        assert split.candidate is not None and split.share == 0.2
        assert [each.model.engine for each in split.by_role.values()] == ["local:mini", "local:next"]
        assert split.candidate.stories == sure and split.serving.stories != sure


async def test_each_checkpoints_servers_are_its_own(tmp_path: Path, data: Path) -> None:
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    told = {"world": "vllm", "vllm_urls": urls[0], "candidate_vllm_urls": urls[1]}
    async with furnished(data, candidate=checkpoint(tmp_path / "next", name="next"), **told) as house:
        found = house.rooms.split.by_role
        assert [found[role].model.engine for role in ("world", "candidate")] == ["vllm:mini", "vllm:next"]
        assert [list(found[role].world.servers) for role in ("world", "candidate")] == [[url] for url in urls]
        assert all(url in why for url, why in house.rooms.split.servers.items()) and len(house.rooms.split.servers) == 2


@pytest.mark.parametrize(
    ("changed", "why"), [({}, "is named mini too"), ({"name": "next", "domains": {}}, "was not measured in helpdesk")]
)
async def test_a_candidate_that_cannot_be_compared_is_refused(
    tmp_path: Path, data: Path, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadCheckpoint, match=why):
        async with furnished(data, candidate=checkpoint(tmp_path / "other", **changed)):
            pass
