"""Requests that nobody thought of: no route fails, and every answer is one that the document promises. `make fuzz` asks for longer."""

import json
from typing import Any

import pytest

from service.api.callers import Role

pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e '.[dev]'")

from loadtest.fuzz import PHASES, run

FEW, SEED = 6, 11


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return run(FEW, SEED, (Role.supervisor, Role.admin))


def test_no_route_fails_nor_answers_what_it_does_not_promise(told: dict[str, Any]) -> None:
    print(f"{told['cases']} cases: {told['phases']}")
    assert (told["server_errors"], told["violations"]) == (0, 0), json.dumps(told["found"], indent=2)
    assert told["cases"] > 500 and set(told["phases"]) == set(PHASES)


def test_every_route_was_answered_well_at_least_once(told: dict[str, Any]) -> None:
    """Or all that was tried were refusals. History that chance would not write is `test_anchors_api`'s."""
    declared = {route: statuses for route, statuses in told["by_route"].items() if set(statuses) != {"405"}}
    assert len(declared) > 12
    refused = {route for route, statuses in declared.items() if not {"200", "204"} & set(statuses)}
    assert refused <= {"POST /v1/anchors"}
