"""500 strings that stand for what people write, put wherever a caller can put one: none may be found where operators look.

Put into proposals, overrides, outcomes, history, and into requests that are refused, by a real process; then its log, its metrics
and its audit export are searched. What comes back to the caller itself still holds them, but for what the domain strikes.
"""

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from loadtest.process import Service, started
from service.api.callers import Role
from service.domains import examples
from tests.service.house import body

COUNT, SEED = 500, 3
JSON = {"Content-Type": "application/json"}
WHY = "Seen in person, all is well:"
AT_DEBUG = """
import asyncio, logging, uvicorn
from service.app import create_app, system_chance
from service.house import furnish
from service.settings import Settings

async def main():
    settings = Settings()
    app = create_app(settings, await furnish(settings, system_chance().now()))
    await uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="debug", access_log=False)).serve()

logging.basicConfig(level=logging.DEBUG)
asyncio.run(main())
"""
FAULTY = """
import asyncio
from dataclasses import replace
from service import house, server
from service.settings import Settings
from service.split import Split
from service.world.scripted import Line, ScriptedWorldModel

async def furnish(settings, now):
    found = await house.furnish(settings, now)
    world = ScriptedWorldModel([Line("")], by_kind={{"reset_password": [[RuntimeError("{text}")]]}})
    split = Split(replace(found.rooms.split.serving, world=world))
    return replace(found, rooms=replace(found.rooms, split=split))

server.furnish = furnish
asyncio.run(server.serve(Settings()))
"""
COMMANDS = {"info": ("-m", "service", "serve"), "debug": ("-c", AT_DEBUG)}


@dataclass(frozen=True)
class Canary:
    """`cores` are what is searched for: a part that no escaping changes, and no chance repeats. `struck`: a domain may redact it."""

    text: str
    cores: tuple[str, ...]
    struck: bool = False


def canaries() -> Iterator[Canary]:
    chance = Random(SEED)
    for shape in cycle(range(6)):
        core, digits = f"{chance.getrandbits(56):014x}", str(chance.randrange(10**11, 10**12))
        yield (
            Canary(f"kanarie-{core}", (core,)),
            Canary(f"kanarie.{core}@voorbeeld.example", (core,), struck=True),
            Canary(f"Zoë Kanárie-Ñandú {core} 🐤", (core,)),
            Canary(f"+31 {digits}", (digits,), struck=True),
            Canary(f"sk-kanarie{core}", (core,), struck=True),
            Canary(f"<b>Kanarie\t{core}</b>\\\"'%0a${{jndi:x}}", (core,)),
        )[shape]


@dataclass
class Knocking:
    """What has been put where, and what was answered to it."""

    service: Service
    clients: dict[Role | None, httpx.Client]
    decided: list[str] = field(default_factory=list)
    placed: list[tuple[str, Canary, httpx.Response]] = field(default_factory=list)

    def ask(self, told: Any, **headers: str) -> httpx.Response:
        answer = self.clients[Role.agent].post("/v1/evaluations", json=told, headers=headers)
        if answer.status_code == 200:
            self.decided.append(answer.json()["decision_id"])
        return answer

    def post(self, role: Role, path: str, told: Any) -> httpx.Response:
        return self.clients[role].post(path, json=told)

    def get(self, role: Role, path: str, **headers: str) -> httpx.Response:
        return self.clients[role].get(path, headers=headers)

    def fresh(self) -> str:
        """An escalation that nobody ruled on."""
        return str(self.ask(body(action={"text": "Reset it."})).json()["decision_id"])


def example(domain: str) -> dict[str, Any]:
    case = examples(domain)[0]["proposal"]
    return {name: case[name] for name in ("domain", "state", "action")}


def telling(domain: str, path: str) -> Callable[[Knocking, str], httpx.Response]:
    """A proposal of this domain with the canary as one of its texts."""

    def put(door: Knocking, text: str) -> httpx.Response:
        told = json.loads(json.dumps(example(domain)))
        at, (*way, last) = told, path.split("/")
        for name in way:
            at = at.setdefault(name, {})
        at[last] = [{"role": "user", "content": text}] if last == "conversation_history" else text
        if last in ("recent_observations", "red_flags_identified"):
            at[last] = [text]
        return door.ask(told)

    return put


Put = Callable[[Knocking, str], httpx.Response]
ACCEPTED: dict[str, Put] = {
    "description": lambda door, text: door.ask(body(state={"description": f"My name is {text}"})),
    "conversation": lambda door, text: door.ask(
        body(state={"conversation_history": [{"role": "user", "content": f"Call me at {text}"}]})
    ),
    "requester": lambda door, text: door.ask(body(state={"requester": {"name": text}})),
    "ticket": lambda door, text: door.ask(body(state={"ticket_id": text, "information_gathered": [text]})),
    "action text": lambda door, text: door.ask(body(action={"text": f"Reset {text}"})),
    "action kind": lambda door, text: door.ask(body(action={"kind": text[:60]})),
    "arguments": lambda door, text: door.ask(body(action={"arguments": {"to": [text, {"cc": text}]}})),
    "a key of arguments": lambda door, text: door.ask(body(action={"arguments": {text: 1}})),
    "agent": lambda door, text: door.ask(body(context={"agent_id": text})),
    "correlation": lambda door, text: door.ask(body(context={"correlation_id": text})),
    "with its futures": lambda door, text: door.ask(
        body(state={"description": text}, options={"include_rollouts": True})
    ),
    "a site's task": telling("safety", "state/task_description"),
    "a site's observations": telling("safety", "state/recent_observations"),
    "a complaint": telling("triage", "state/chief_complaint"),
    "a caller's words": telling("triage", "action/text"),
    "reason of an approval": lambda door, text: door.post(
        Role.supervisor,
        f"/v1/decisions/{door.fresh()}/override",
        {"ruling": "approved", "code": "mitigated", "reason": f"{WHY} {text}"},
    ),
    "reason of a denial": lambda door, text: door.post(
        Role.supervisor,
        f"/v1/decisions/{door.fresh()}/override",
        {"ruling": "denied", "code": "unsafe", "reason": f"{WHY} {text}"},
    ),
    "an edited action": lambda door, text: door.post(
        Role.supervisor,
        f"/v1/decisions/{door.fresh()}/override",
        {"ruling": "approved", "code": "mitigated", "reason": WHY, "action": {"kind": "ask", "text": text}},
    ),
    "another state": lambda door, text: door.post(
        Role.agent, f"/v1/decisions/{door.fresh()}/state", {"state": {"description": text}}
    ),
    "note of an outcome": lambda door, text: door.post(
        Role.outcome, f"/v1/decisions/{door.decided[0]}/outcome", {"outcome": "resolved", "note": text}
    ),
}
REFUSED: dict[str, Put] = {
    "why something is erased": lambda door, text: door.post(
        Role.admin, f"/v1/decisions/{door.fresh()}/erasure", {"code": "ordered", "ticket": text}
    ),
    "why something is switched": lambda door, text: door.clients[Role.admin].put(
        "/v1/switches/agent/nobody", json={"off": True, "code": "drill", "ticket": text}
    ),
    "an unknown field": lambda door, text: door.ask(body(**{text: 1})),
    "an unknown field of the state": lambda door, text: door.ask(body(state={text: text})),
    "a wrong type": lambda door, text: door.ask(body(state={"turns_elapsed": text})),
    "a word not of the list": lambda door, text: door.ask(body(state={"category": text, "priority": text})),
    "a text too long": lambda door, text: door.ask(body(state={"ticket_id": text * 30})),
    "an unknown domain": lambda door, text: door.ask(body(domain=text[:60])),
    "an unknown outcome": lambda door, text: door.post(
        Role.outcome, f"/v1/decisions/{door.decided[0]}/outcome", {"outcome": text[:60]}
    ),
    "bad JSON": lambda door, text: door.clients[Role.agent].post(
        "/v1/evaluations", content=f'{{"domain": "{text}'.encode(), headers=JSON
    ),
    "bad UTF-8": lambda door, text: door.clients[Role.agent].post(
        "/v1/evaluations", content=text.encode() + b"\xff", headers=JSON
    ),
    "a key twice": lambda door, text: door.clients[Role.agent].post(
        "/v1/evaluations",
        content=json.dumps({text: 0}).encode()[:-1] + b"," + json.dumps({text: 0}).encode()[1:],
        headers=JSON,
    ),
    "too large": lambda door, text: door.ask(body(action={"text": text * 20_000})),
    "nested": lambda door, text: door.ask(
        body(action={"arguments": {"a": json.loads("[" * 40 + "]" * 40), "b": text}})
    ),
    "another type": lambda door, text: door.clients[Role.agent].post(
        "/v1/evaluations", content=text.encode(), headers={"Content-Type": f"text/{text.encode().hex()[:20]}"}
    ),
    "an id": lambda door, text: door.get(Role.agent, f"/v1/decisions/{quote(text, safe='')}"),
    "an id to wait for": lambda door, text: door.get(Role.agent, f"/v1/decisions/{quote(text, safe='')}/wait"),
    "an id to overrule": lambda door, text: door.post(
        Role.supervisor,
        f"/v1/decisions/{quote(text, safe='')}/override",
        {"ruling": "denied", "code": "unsafe", "reason": f"{WHY} {text}"},
    ),
    "a query": lambda door, text: door.get(Role.supervisor, f"/v1/decisions?limit={quote(text)}&{quote(text)}=1"),
    "a place in a list": lambda door, text: door.get(Role.supervisor, f"/v1/decisions?after={quote(text)}"),
    "a domain's name": lambda door, text: door.get(Role.agent, f"/v1/domains/{quote(text, safe='')}"),
    "a path": lambda door, text: door.get(Role.agent, f"/{quote(text)}"),
    "a bad key": lambda door, text: door.get(Role.agent, "/v1/decisions/x", Authorization=f"Bearer {quote(text)}"),
    "a bad scheme": lambda door, text: door.get(Role.agent, "/v1/decisions/x", Authorization=quote(text)),
    "a bad idempotency key": lambda door, text: door.ask(body(), **{"Idempotency-Key": f"{quote(text)} x"}),
    "a role that may not": lambda door, text: door.post(
        Role.agent, f"/v1/decisions/{quote(text, safe='')}/override", {"reason": text}
    ),
    "a switch that is none": lambda door, text: door.clients[Role.admin].put(
        f"/v1/switches/domain/{quote(text, safe='')}", json={"off": True, "code": "drill"}
    ),
}


@pytest.fixture(scope="module", params=COMMANDS)
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knocking]:
    """After all of the canaries were put, and with a ledger that could not be written for a while."""
    folder = tmp_path_factory.mktemp(request.param)
    with started(folder, COMMANDS[request.param]) as service, contextlib.ExitStack() as closing:
        clients = {role: closing.enter_context(service.client(role)) for role in (None, *Role)}
        found = Knocking(service, clients)
        found.fresh()
        places = cycle((ACCEPTED | REFUSED).items())
        told = canaries()
        for _ in range(COUNT):
            (place, put), canary = next(places), next(told)
            found.placed.append((place, canary, put(found, canary.text)))
        yield found


def caught(door: Knocking, text: str) -> list[str]:
    """Which canaries are found in a text, and where each was put."""
    put = [(place, canary) for place, canary, _ in door.placed]
    return [f"{place}: {canary.text!r}" for place, canary in put if any(core in text for core in canary.cores)]


def test_every_place_was_reached(door: Knocking) -> None:
    """Or what was not found says nothing. A refusal is one, and what is accepted is."""
    statuses: dict[str, set[int]] = {}
    for place, _, answer in door.placed:
        statuses.setdefault(place, set()).add(answer.status_code)
    assert len(door.placed) == COUNT and set(statuses) == set(ACCEPTED | REFUSED)
    for place, found in statuses.items():
        assert max(found) < 300 if place not in REFUSED else 400 <= min(found) <= max(found) < 500, (place, found)


def test_the_caller_itself_is_told_what_it_said(door: Knocking) -> None:
    back = dict.fromkeys(ACCEPTED, 0)
    for place, canary, answer in door.placed:
        if place in ACCEPTED and not canary.struck and answer.status_code == 200:
            back[place] += all(core in answer.text for core in canary.cores)
    silent = {"another state", "note of an outcome"}
    assert {place for place, count in back.items() if not count} <= silent, back


def test_no_canary_is_in_the_log(door: Knocking) -> None:
    assert caught(door, door.service.log.read_text()) == []


def test_no_canary_is_in_the_metrics(door: Knocking) -> None:
    answer = door.clients[None].get("/metrics")
    if answer.status_code == 404:
        pytest.skip("there is no /metrics yet")
    assert answer.status_code == 200 and caught(door, answer.text) == []


def test_no_canary_is_in_any_route_that_takes_no_credential(door: Knocking) -> None:
    for path in ("/livez", "/readyz", "/openapi.json", "/v1/domains", "/.well-known/jwks.json"):
        assert caught(door, door.clients[None].get(path).text) == [], path


def exported(door: Knocking) -> str:
    export = door.service.data / "audit.jsonl"
    for arguments in (("export", "--out", str(export)), ("verify", str(export))):
        ended = subprocess.run(
            (sys.executable, "-m", "service", "audit", *arguments),
            env=dict(door.service.environment),
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert caught(door, ended.stdout + ended.stderr) == []
    return export.read_text()


def test_no_canary_is_in_the_audit_export(door: Knocking) -> None:
    told = exported(door)
    assert sum('"kind":"decision"' in line for line in told.splitlines()) >= len(set(door.decided))
    assert caught(door, told) == []


def test_no_canary_is_logged_when_the_ledger_fails(door: Knocking) -> None:
    """First it cannot be written, then it is no ledger any more. Last: nothing can be asked of it afterwards."""
    told = canaries()
    path = door.service.data / "ledger.sqlite"
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    refused = [failing(door, place, next(told)) for place in ACCEPTED]
    held.execute("ROLLBACK")
    held.close()
    for part in (path, path.with_name(f"{path.name}-wal")):
        part.write_bytes(b"\0" * part.stat().st_size)
    refused += [failing(door, place, next(told)) for place in ACCEPTED]
    assert refused.count(503) > len(ACCEPTED) / 2 and set(refused) <= {200, 204, 404, 409, 503}, refused
    assert caught(door, door.service.log.read_text()) == []


def failing(door: Knocking, place: str, canary: Canary) -> int:
    """The same canaries over again: what is searched for is what was put."""
    sent = body(state={"description": canary.text}, context={"agent_id": canary.text}, options={"budget_ms": 500})
    if "reason" in place or "note" in place:
        id, path = door.decided[0], "outcome" if "note" in place else "override"
        told = {"outcome": "resolved", "note": canary.text}
        if path == "override":
            told = {"ruling": "denied", "code": "unsafe", "reason": f"{WHY} {canary.text}"}
        return door.post(Role.supervisor, f"/v1/decisions/{id}/{path}", told).status_code
    return door.ask(sent).status_code


def test_a_fault_of_ours_is_logged_by_its_kind_and_place_alone(tmp_path: Path) -> None:
    """What an exception says may quote what was sent."""
    canary = next(canaries())
    command = ("-c", FAULTY.format(text=canary.text))
    with started(tmp_path, command) as service, service.client(Role.agent) as client:
        answer = client.post("/v1/evaluations", json=body())
        log = service.log.read_text()
    assert answer.status_code == 500 and answer.json()["title"] == "Internal error"
    assert "RuntimeError" in log and "scripted.py" in log
    assert canary.cores[0] not in log + answer.text
