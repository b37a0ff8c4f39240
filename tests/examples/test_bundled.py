"""The cases as the bundled world model rules them: the real service on embedded defaults, over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domains import catalog, examples
from service.server import running
from service.settings import Settings

DATA = Path(__file__).parents[2] / "build" / "test"
CASES = {f"{name}/{case['name']}": case for name in catalog() for case in examples(name) if "bundled" in case}
BUDGET_MS = 10_000
"""Roomy, for a busy machine: this is about what is ruled."""


async def _ask_all() -> dict[str, dict[str, Any]]:
    for name in ("keys.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (DATA / name).unlink(missing_ok=True)
    shown: list[str] = []
    async with running(Settings(data=DATA, port=0), shown.append) as url:
        key = next(line.split()[-1] for line in shown if line.startswith("agent"))
        async with httpx.AsyncClient(base_url=url, timeout=30, headers={"Authorization": f"Bearer {key}"}) as client:
            return {name: await _ask(client, case["proposal"]) for name, case in CASES.items()}


async def _ask(client: httpx.AsyncClient, proposal: dict[str, Any]) -> dict[str, Any]:
    body = {name: proposal[name] for name in ("domain", "state", "action")}
    answer = await client.post("/v1/evaluations", json=body | {"options": {"budget_ms": BUDGET_MS}})
    assert answer.status_code == 200, answer.text
    decision: dict[str, Any] = answer.json()
    return decision


@pytest.fixture(scope="module")
def decisions() -> dict[str, dict[str, Any]]:
    return asyncio.run(_ask_all())


@pytest.mark.parametrize("name", CASES)
def test_the_bundled_world_model_rules_a_clear_case_as_owed(name: str, decisions: dict[str, dict[str, Any]]) -> None:
    decision, owed = decisions[name], CASES[name]["bundled"]
    assert decision["ruling"] == owed["ruling"], (
        decision["reason"],
        decision["risk"],
        decision["explanation"]["summary"],
    )


def test_an_escalation_tells_what_a_supervisor_needs(decisions: dict[str, dict[str, Any]]) -> None:
    escalated = [decision for decision in decisions.values() if decision["ruling"] == "escalate"]
    for decision in escalated:
        assert decision["explanation"]["summary"].endswith("Override requires supervisor sign-off.")
        assert decision["explanation"]["questions"]
        assert decision["override"]["approvals_required"] >= 1
    assert any(decision["explanation"]["recommended_action"] for decision in escalated)
