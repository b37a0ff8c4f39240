"""Every route, every role, one's own and another tenant's objects: generated from the OpenAPI document, so that no route is left out."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, Premises, body, premises

A, S, T, D, U = Role.agent, Role.supervisor, Role.outcome, Role.admin, Role.auditor
TENANTS = ("house", "ward-7")
OUT = Path(__file__).parents[2] / "build" / "authz.json"
WHY = "Because the matrix asks for it."
EVERYONE = frozenset({*Role, None})


@dataclass(frozen=True)
class Access:
    """Who may use a route, and what is sent to it."""

    roles: frozenset[Role | None]
    sent: Any = None


def access(*roles: Role, sent: Any = None) -> Access:
    return Access(frozenset(roles), sent)


ROUTES = {
    "POST /v1/evaluations": access(A, S, sent=body()),
    "GET /v1/decisions": access(S, U),
    "GET /v1/decisions/{decision_id}": access(A, S, U),
    "GET /v1/decisions/{decision_id}/wait": access(A, S, U),
    "GET /v1/decisions/{decision_id}/events": access(S, U),
    "POST /v1/decisions/{decision_id}/override": access(S, sent={"ruling": "denied", "code": "unsafe", "reason": WHY}),
    "POST /v1/decisions/{decision_id}/state": access(A, S, sent={"state": body()["state"]}),
    "POST /v1/decisions/{decision_id}/outcome": access(S, T, sent={"outcome": "resolved"}),
    "POST /v1/decisions/{decision_id}/erasure": access(D, sent={"code": "ordered"}),
    "GET /v1/switches": access(S, D, U),
    "PUT /v1/switches/{target}/{name}": access(D, sent={"off": False, "code": "drill"}),
    "POST /v1/anchors": access(D, sent={}),
    "GET /v1/domains": Access(EVERYONE),
    "GET /v1/domains/{name}": Access(EVERYONE),
    "GET /.well-known/jwks.json": Access(EVERYONE),
    "GET /livez": Access(EVERYONE),
    "GET /metrics": Access(EVERYONE),
    "GET /readyz": Access(EVERYONE),
}
NAMED = {"{target}": "agent", "{name}": "helpdesk"}
SELF_CHECKED = {"POST /v1/anchors": 422}
"""What is sent there is nothing: whoever may come in is told so."""


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    """Two tenants, each with a credential for every role."""
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD)) as found:
        for tenant in TENANTS:
            for role in Role:
                found.key(key(tenant, role), role, tenant=tenant)
        yield found


def key(tenant: str, role: Role | None) -> str:
    return f"{tenant} {role}" if role else "nobody"


async def decided(house: Premises, tenant: str) -> str:
    return str((await house.ask(key=key(tenant, A))).json()["decision_id"])


async def knock(house: Premises, route: str, tenant: str, role: Role | None, decision_id: str) -> int:
    method, path = route.split(" ")
    for name, value in (NAMED | {"{decision_id}": decision_id}).items():
        path = path.replace(name, value)
    params = {"timeout_s": 0.01} if path.endswith("/wait") else {}
    sent = {"json": ROUTES[route].sent} if method != "GET" else {}
    answer = await house.client.request(method, path, headers=house.shown(key(tenant, role)), params=params, **sent)
    return answer.status_code


def owed(route: str, role: Role | None, own: bool) -> set[int]:
    roles = ROUTES[route].roles
    if roles == EVERYONE:
        return {200}
    if role is None:
        return {401}
    if role not in roles:
        return {403}
    if "{decision_id}" in route and not own:
        return {404}
    return {SELF_CHECKED[route]} if route in SELF_CHECKED else {200, 204}


async def test_every_route_and_role_and_tenant_gets_what_it_is_owed(house: Premises) -> None:
    document = (await house.client.get("/openapi.json")).json()
    routes = {f"{method.upper()} {path}" for path, told in document["paths"].items() for method in told}
    assert routes == set(ROUTES), "every route has its line in the matrix"
    cells, violations = 0, []
    for route in sorted(routes):
        for role in (None, *Role):
            for own in (True, False):
                if own is False and "{decision_id}" not in route:
                    continue
                mine, theirs = TENANTS
                id = await decided(house, mine if own else theirs)
                status = await knock(house, route, mine, role, id)
                cells += 1
                if status not in owed(route, role, own):
                    violations.append(f"{route} as {role}, {'own' if own else 'other'}: {status}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"cells": cells, "violations": len(violations), "found": violations}, indent=2) + "\n")
    assert violations == [] and cells > 100


async def test_another_tenants_decision_is_as_unknown_as_one_that_never_was(house: Premises) -> None:
    theirs = await decided(house, "ward-7")
    for path in ("", "/wait", "/events"):
        answers = [
            (await house.client.get(f"/v1/decisions/{id}{path}", headers=house.shown(key("house", S)))).json()
            for id in (theirs, "dec_never")
        ]
        assert answers[0]["detail"].replace(theirs, "dec_never") == answers[1]["detail"]


async def test_nothing_of_another_tenant_is_listed_nor_a_place_in_its_list_accepted(house: Premises) -> None:
    ours, theirs = [await decided(house, tenant) for tenant in TENANTS]
    shown = house.shown(key("house", S))
    listed = await house.client.get("/v1/decisions", headers=shown)
    assert [each["decision_id"] for each in listed.json()] == [ours]
    assert (await house.client.get(f"/v1/decisions?after={theirs}", headers=shown)).status_code == 404


async def test_an_idempotency_key_of_another_tenant_replays_nothing(house: Premises) -> None:
    house.key("bot", A)
    answers = []
    for name in (key("house", A), key("ward-7", A)):
        headers = house.shown(name) | {"Idempotency-Key": "order-7"}
        answers.append((await house.client.post("/v1/evaluations", json=body(), headers=headers)).json())
    assert answers[0]["decision_id"] != answers[1]["decision_id"]


async def test_a_body_cannot_name_a_tenant(house: Premises) -> None:
    for told in (body(tenant="ward-7"), body(context={"tenant": "ward-7"})):
        assert (await house.ask(told, key=key("house", A))).status_code == 422


async def test_a_credential_for_one_domain_neither_asks_nor_sees_another(house: Premises) -> None:
    house.key("triage bot", A, domains=frozenset({"triage"}))
    house.key("triage lead", S, domains=frozenset({"triage"}))
    house.key("desk lead", S, domains=frozenset({"helpdesk"}))
    assert (await house.ask(key="triage bot")).status_code == 403
    id = await decided(house, "house")
    seen = {lead: await house.read(id, lead) for lead in ("triage lead", "desk lead")}
    assert {lead: answer.status_code for lead, answer in seen.items()} == {"triage lead": 404, "desk lead": 200}
    assert (await house.overrule(id, key="triage lead")).status_code == 404
    for lead, expected in (("triage lead", []), ("desk lead", [id])):
        listed = await house.client.get("/v1/decisions", headers=house.shown(lead))
        assert [each["decision_id"] for each in listed.json()] == expected
