"""Policies from files: taken whole or refused whole, in force in one step, and in the audit chain before they are."""

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.decisions.chain import Kind
from service.decisions.sqlite import SqliteLedger
from service.decisions.switches import Switches
from service.domains import catalog
from service.errors import LedgerUnavailable
from service.metrics import Metrics
from service.policies import BadPolicies, Policies
from service.upkeep import Upkeep
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import RiskPolicy
from service.world.scripted import Line, ScriptedWorldModel
from tests.service.house import BAD, FINE, NOON, Premises, body, premises, stocked

ROOT = Path(__file__).parents[2]
SHIPPED = catalog()
STRICT = "version: strict\nthreshold: 0.2\ncritical_threshold: 0.05\n"
LENIENT = "version: lenient\nthreshold: 0.6\n"
AMBULANCE = {
    "domain": "triage",
    "state": {"chief_complaint": "chest pressure since an hour"},
    "action": {"kind": "call_911", "text": "Call 911 now."},
}
"""Of no consequence that is gated: decided as fast as it can be recorded."""
SLOW = [Line("progress", {"progress": 0.95, "service_outage": 0.05})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policies"
    made.mkdir()
    return made


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def names(policies: Policies) -> dict[str, str]:
    return {name: domain.policy.name for name, domain in policies.items()}


# a file


def test_what_a_file_leaves_out_is_as_it_ships_and_so_is_a_domain_without_one(folder: Path) -> None:
    write(folder, helpdesk=f"{STRICT}shadow: [ask, restart]\n")
    policies = Policies(SHIPPED, folder)
    shipped = SHIPPED["helpdesk"].policy
    assert policies["helpdesk"].policy == replace(
        shipped, version="strict", threshold=0.2, critical_threshold=0.05, shadow=frozenset({"ask", "restart"})
    )
    assert {name: policies[name] for name in policies if name != "helpdesk"} == {
        name: domain for name, domain in SHIPPED.items() if name != "helpdesk"
    }
    assert Policies(SHIPPED)["helpdesk"].policy is shipped


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("threshold: 0.2", "version"),
        ("version: 3", "version"),
        ("version: a b", "version"),
        ("version: a\nthresold: 0.2", "thresold"),
        ("version: a\nthreshold: true", "threshold"),
        ("version: a\nthreshold: '0.2'", "threshold"),
        ("version: a\nthreshold: .nan", "threshold"),
        ("version: a\nthreshold:", "threshold"),
        ("version: a\nrollouts: true", "rollouts"),
        ("version: a\nhorizon: 3.0", "horizon"),
        ("version: a\nhorizon: 21", "horizon"),
        ("version: a\nbudget_ms: 19", "budget_ms"),
        ("version: a\nanchor_interval: 0", "anchor_interval"),
        ("version: a\napprovals_required: 0", "approvals_required"),
        ("version: a\nmax_rollouts: 51", "max_rollouts"),
        ("version: a\nquorum: 9", "quorum"),
        ("version: a\ncritical_threshold: 0.5", "critical_threshold"),
        ("version: a\nshadow: ask", "shadow"),
        ("version: a\nshadow: [7]", "shadow"),
        ("version: a\nshadow: *", "YAML"),
        ("version: a\nadverse_from: minor", "adverse_from: it was measured with the checkpoint"),
        ("version: a\ntemperature: 0.8", "temperature: it was measured with the checkpoint"),
        ("version: a\nversion: b", "version: it is said twice"),
        ("- version", "mapping"),
        ("", "mapping"),
    ],
)
def test_a_folder_is_refused_whole_and_the_message_names_file_and_field(folder: Path, text: str, field: str) -> None:
    write(folder, helpdesk=STRICT, safety=text)
    with pytest.raises(BadPolicies) as refused:
        Policies(SHIPPED, folder)
    assert f"{folder}/safety.yaml: " in str(refused.value) and field in str(refused.value)


@pytest.mark.parametrize("name", ["plumbing.yaml", "safety.yml", "safety.yaml~", "README"])
def test_a_file_that_would_be_no_domains_is_refused_and_not_overlooked(folder: Path, name: str) -> None:
    (folder / ".safety.yaml.swp").write_bytes(b"\x00")
    assert names(Policies(SHIPPED, folder)) == names(Policies(SHIPPED))
    (folder / name).write_text(STRICT)
    with pytest.raises(BadPolicies, match=f"{name}.*helpdesk, safety, triage"):
        Policies(SHIPPED, folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPolicies, match="nowhere: No such file"):
        Policies(SHIPPED, tmp_path / "nowhere")


OTHER: dict[str, Any] = {
    **{"threshold": 0.31, "critical_threshold": 0.09, "adverse_from": Severity.critical, "rollouts": 6},
    **{"max_rollouts": 21, "horizon": 6, "anchor_interval": 3, "quorum": 2, "budget_ms": 900, "temperature": 0.7},
    **{"approvals_required": 1, "version": "other", "shadow": frozenset({"ask"})},
}


def test_a_name_is_of_every_field_and_equal_policies_have_equal_names() -> None:
    shipped = SHIPPED["helpdesk"].policy
    assert set(OTHER) == {field.name for field in fields(RiskPolicy)}
    found = {shipped.name} | {replace(shipped, **{name: value}).name for name, value in OTHER.items()}
    assert len(found) == 1 + len(OTHER)
    kinds = [f"kind {number}" for number in range(20)]
    one, another = (replace(shipped, shadow=frozenset(told)) for told in (kinds, reversed(kinds)))
    assert one.name == another.name and replace(shipped, **OTHER).name.startswith("other:")


def test_the_example_is_taken_and_says_nothing_else_than_what_ships() -> None:
    example = Policies(SHIPPED, ROOT / "deploy" / "policies")["safety"].policy
    assert replace(example, version="shipped", shadow=frozenset()) == SHIPPED["safety"].policy
    assert example.shadow, "it shows how"


# hot


def test_a_file_is_taken_at_the_second_look_so_that_none_is_taken_half_written(folder: Path) -> None:
    policies = Policies(SHIPPED, folder)
    for version in ("one", "two", "three"):
        write(folder, safety=f"version: {version}")
        assert policies.look() is None
    edition = policies.look()
    assert edition and edition.domains["safety"].policy.version == "three"
    assert names(policies) == names(Policies(SHIPPED)), "looked at is not in force"
    policies.put(edition)
    assert policies["safety"].policy.version == "three" and policies.look() is None
    (folder / "safety.yaml").unlink()
    assert policies.look() is None and (shipped := policies.look())
    assert shipped.domains == SHIPPED


def test_a_folder_that_kubernetes_exchanges_is_seen_though_no_time_of_change_says_so(folder: Path) -> None:
    for number, text in enumerate((STRICT, LENIENT)):
        made = folder / f"..{number}"
        made.mkdir()
        (made / "safety.yaml").write_text(text)
        os.utime(made / "safety.yaml", (0, 0))
    (folder / "..data").symlink_to("..0")
    (folder / "safety.yaml").symlink_to("..data/safety.yaml")
    policies = Policies(SHIPPED, folder)
    assert policies["safety"].policy.version == "strict"
    (folder / "..new").symlink_to("..1")
    (folder / "..new").rename(folder / "..data")
    assert policies.look() is None and (edition := policies.look())
    assert edition.domains["safety"].policy.version == "lenient"


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    made = SqliteLedger(tmp_path / "ledger.sqlite", patience_s=0.1)
    yield made
    await made.aclose()


def kept(policies: Policies, ledger: SqliteLedger) -> Upkeep:
    return Upkeep(ledger, Switches(ledger), lambda: NOON, dict, Metrics(lambda: 0.0), policies)


def refused(upkeep: Upkeep) -> float:
    return upkeep.metrics.registry.get_sample_value("premortem_policy_files_refused") or 0.0


async def test_while_files_are_bad_every_old_policy_stays_in_force_and_it_is_said_once(
    folder: Path, ledger: SqliteLedger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"handlers": [caplog.handler], "propagate": False, "disabled": False}.items():
        monkeypatch.setattr(logging.getLogger("premortem"), name, value)
    write(folder, helpdesk=STRICT, safety=STRICT)
    policies = Policies(SHIPPED, folder)
    before, upkeep = names(policies), kept(policies, ledger)
    await upkeep.reload()
    assert refused(upkeep) == 0
    write(folder, helpdesk=LENIENT, safety="version: worse\nthreshold: 2.0")
    for _ in range(4):
        await upkeep.reload()
    assert names(policies) == before and refused(upkeep) == 1
    assert [told.getMessage().count("safety.yaml") for told in caplog.records] == [1]
    assert await ledger.noted(Kind.policy) == (), "what is refused was never a policy"
    write(folder, safety=STRICT)
    for _ in range(2):
        await upkeep.reload()
    assert policies["helpdesk"].policy.version == "lenient" and refused(upkeep) == 0


async def test_policies_that_cannot_be_noted_are_not_put_in_force_until_they_can(
    folder: Path, ledger: SqliteLedger, tmp_path: Path
) -> None:
    policies = Policies(SHIPPED, folder)
    before, upkeep = names(policies), kept(policies, ledger)
    write(folder, safety=STRICT)
    await upkeep.reload()
    assert await ledger.healthy()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable):
            await upkeep.reload()
    assert names(policies) == before
    await upkeep.reload()
    assert policies["safety"].policy.version == "strict"


# the service


@pytest.fixture
def own_bank(tmp_path: Path, encoder: Encoder) -> EdgeAnchorBank:
    return stocked(tmp_path / "anchors", encoder)


@asynccontextmanager
async def running(
    tmp_path: Path, bank: EdgeAnchorBank, world: ScriptedWorldModel, **settings: Any
) -> AsyncIterator[Premises]:
    """With its upkeep, which closes all it has at its end."""
    async with premises(tmp_path, bank, world, **settings) as house, house.app.router.lifespan_context(house.app):
        yield house


async def in_force(house: Premises, version: str, domain: str = "helpdesk") -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            told: dict[str, Any] = (await house.client.get(f"/v1/domains/{domain}")).json()["policy"]
            if told["version"] == version:
                return told
            await asyncio.sleep(0.02)


async def test_a_running_service_takes_a_new_policy_and_what_is_under_way_ends_under_the_old_one(
    tmp_path: Path, folder: Path, own_bank: EdgeAnchorBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.upkeep.EVERY_S", 0.02)
    world = ScriptedWorldModel(SLOW, latency=0.25)
    patient = body(options={"budget_ms": 20_000, "settle": False})
    write(folder, helpdesk=f"{STRICT}max_rollouts: 5\n")
    async with running(tmp_path, own_bank, world, policies=folder) as house:
        old, warm = await in_force(house, "strict"), world.calls
        begun = asyncio.create_task(house.ask(patient))
        while world.calls == warm:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        write(folder, helpdesk=f"{LENIENT}rollouts: 3\nmax_rollouts: 3\n")
        new = await in_force(house, "lenient")
        assert not begun.done()
        first, second = (await begun).json(), (await house.ask(patient)).json()
        assert (first["model"]["policy"], second["model"]["policy"]) == (old["name"], new["name"])
        assert (first["risk"]["threshold"], first["rollouts"]["requested"]) == (0.2, 5)
        assert (second["risk"]["threshold"], second["rollouts"]["requested"]) == (0.6, 3)
        assert (first["ruling"], second["ruling"]) == ("escalate", "approve")
        metrics = (await house.client.get("/metrics")).text
        assert f'premortem_policy_info{{domain="helpdesk",policy="{new["name"]}"}} 1.0' in metrics
        assert old["name"] not in metrics


async def test_the_hash_in_a_decision_is_of_a_policy_that_the_audit_chain_holds_already(
    tmp_path: Path, folder: Path, own_bank: EdgeAnchorBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.upkeep.EVERY_S", 0.005)
    async with running(tmp_path, own_bank, ScriptedWorldModel(FINE), policies=folder) as house:
        over = asyncio.Event()

        async def ask() -> None:
            while not over.is_set():
                assert (await house.ask(AMBULANCE)).status_code == 200

        async with asyncio.TaskGroup() as asking:
            for _ in range(4):
                asking.create_task(ask())
            for number in range(12):
                write(folder, triage=f"version: v{number}\nrollouts: {10 + number % 2}\n")
                await in_force(house, f"v{number}", "triage")
                await asyncio.sleep(0.05)
            over.set()
        noted: set[str] = set()
        seen: set[str] = set()
        for event in await house.ledger.events(0, 100_000):
            if event.kind is Kind.policy:
                version = json.loads(event.body)["version"]
                noted.add(f"{version}:{hashlib.sha256(event.body.encode()).hexdigest()[:12]}")
            if event.kind is Kind.decision:
                decision = await house.ledger.find(event.subject, "house")
                assert decision and decision.model.policy in noted, event.seq
                seen.add(decision.model.policy)
        assert len(seen) >= 12


async def test_a_domain_shows_the_policy_in_force_and_options_change_a_decision_not_its_policys_name(
    tmp_path: Path, folder: Path, bank: EdgeAnchorBank
) -> None:
    write(folder, helpdesk=f"{STRICT}shadow: [restart, ask]\n")
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD), policies=folder) as house:
        told = (await house.client.get("/v1/domains/helpdesk")).json()["policy"]
        assert (told["version"], told["shadow"], told["threshold"]) == ("strict", ["ask", "restart"], 0.2)
        answer = (await house.ask(body(options={"rollouts": 7, "horizon": 2, "budget_ms": 5_000}))).json()
        assert answer["model"]["policy"] == told["name"] and answer["rollouts"]["requested"] == 7
        shipped = (await house.client.get("/v1/domains/safety")).json()["policy"]
        assert shipped["name"] == SHIPPED["safety"].policy.name and shipped["version"] == "shipped"
