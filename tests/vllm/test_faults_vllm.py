"""The real vLLM behind a network that goes wrong in every way: the caller gets recorded history, and the engine is taken back."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtest.faults.matrix import LATE_MS, able, matrix, table

OUT = Path("build") / "faults-vllm.json"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """With an engine of its own, which goes before its neighbours as the service does."""
    if not able("vllm"):
        pytest.skip("vLLM is not installed here: `make test-vllm` installs its CPU build and runs this")
    found = asyncio.run(matrix(["vllm"], tmp_path_factory.mktemp("faults")))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    Console(width=200).print(table(found))
    return found


def test_a_world_model_that_fails_is_an_escalation_on_recorded_history(told: Mapping[str, Any]) -> None:
    assert {f"{row['fault']}, {row['who']}": row["wrong"] for row in told["rows"] if row["wrong"]} == {}


def test_nothing_is_approved_without_evidence(told: Mapping[str, Any]) -> None:
    assert told["approvals_without_evidence"] == 0


def test_a_failing_engine_makes_nobody_wait_beyond_the_deadline(told: Mapping[str, Any]) -> None:
    assert told["deadline_overrun_p99_ms"] <= LATE_MS + told["measured_with_p99_lateness_ms"]
