"""Every worked case of every domain, as its scripted world model tells it, through the guardrail into the ledger."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.admission import Admission
from service.anchors.bank import AnchorBank
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.decisions.sqlite import SqliteLedger
from service.decisions.switches import Switches
from service.domains import catalog, examples
from service.guardrail import Chance, Guardrail, Options, Rooms
from service.metrics import Metrics
from service.split import Contender, Split
from service.vocabulary.anchor import Anchor
from service.vocabulary.decision import ModelStory
from service.vocabulary.proposal import HOUSE, Action, Proposal
from service.world.cases import CasesWorldModel
from service.world.scripted import Line, ScriptedWorldModel

Case = Mapping[str, Any]

CASES = [case for name in catalog() for case in examples(name)]
NAMES = [f"{case['proposal']['domain']}/{case['name']}" for case in CASES]
STORY = ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="edge")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
BUDGET_MS = 5_000
"""Roomy: this is about what is ruled; `tests/service/test_guardrail.py` is about when."""

ids = (f"dec_{number}" for number in itertools.count())


def proposed(case: Case) -> Proposal:
    told = case["proposal"]
    state = catalog()[told["domain"]].state_type.model_validate(told["state"])
    return Proposal(domain=told["domain"], state=state, action=Action.model_validate(told["action"]))


def recorded(case: Case) -> Anchor:
    """The case itself as something that once happened and ended well, so that it is known and frightens nobody."""
    proposal, domain = proposed(case), catalog()[case["proposal"]["domain"]]
    return Anchor(
        id=case["name"],
        domain=domain.name,
        key=domain.anchor_key(proposal.state, proposal.action),
        when=NOW,
        source="examples",
        action_kind=proposal.action.kind,
        outcome=domain.outcomes.names[0],
        next_outcome=domain.outcomes.names[0],
        state=proposal.state.model_dump(mode="json", exclude_defaults=True),
        changes={},
        observation="",
        summary=case["title"],
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[AnchorBank]:
    made = EdgeAnchorBank(tmp_path_factory.mktemp("anchors"), encoder)
    asyncio.run(made.add([recorded(case) for case in CASES]))
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    made = SqliteLedger(tmp_path / "ledger.sqlite")
    yield made
    await made.aclose()


@pytest.mark.parametrize("case", CASES, ids=NAMES)
async def test_a_worked_case_gets_the_verdict_and_the_record_it_is_owed(
    case: Case, bank: AnchorBank, ledger: SqliteLedger
) -> None:
    world = ScriptedWorldModel([Line(**line) for line in case["world"]])
    rooms = Rooms(Split(Contender(world, STORY)), CasesWorldModel(bank), bank, ledger)
    chance = Chance(time.monotonic, lambda: NOW, lambda: next(ids))
    guardrail = Guardrail(
        catalog(), rooms, chance, Admission(time.monotonic), Switches(rooms.ledger), Metrics(time.monotonic)
    )
    decision = await guardrail.evaluate(proposed(case), Options(budget_ms=BUDGET_MS, recommend=False))
    ruled = {"ruling": decision.ruling, "reason": decision.reason, "basis": decision.basis}
    assert ruled == case["verdict"], decision.explanation.summary
    kept = await ledger.find(decision.decision_id, HOUSE)
    assert kept == decision
    story = kept.model_dump_json(include={"explanation"})
    for mention in case["record"]["mentions"]:
        assert mention in story
    assert [rule.rule for rule in kept.explanation.rules] == case["record"]["rules"]


@pytest.mark.parametrize("domain", catalog())
def test_a_domain_has_ten_cases_and_twins_that_flip_the_verdict(domain: str) -> None:
    cases = {case["name"]: case for case in examples(domain)}
    assert len(cases) >= 10
    twins = [case for case in cases.values() if "twin_of" in case]
    assert len(twins) >= 3
    for twin in twins:
        assert twin["verdict"]["ruling"] != cases[twin["twin_of"]]["verdict"]["ruling"]
    assert {case["verdict"]["ruling"] for case in cases.values()} == {"approve", "escalate"}
