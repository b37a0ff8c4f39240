"""A furnished house to knock at: the real application, guardrail, anchors and ledger around a scripted world model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from fastapi import FastAPI

from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.api.callers import Role
from service.api.keys import Key, Keys
from service.app import create_app
from service.decisions.sqlite import SqliteLedger
from service.decisions.vault import Vault
from service.domains import catalog, examples
from service.guardrail import Chance, Rooms
from service.house import House
from service.metrics import Metrics
from service.settings import Settings
from service.split import Contender, Split
from service.vocabulary.anchor import Anchor
from service.vocabulary.decision import ModelStory
from service.vocabulary.proposal import Action
from service.world.cases import CasesWorldModel
from service.world.scripted import Line, ScriptedWorldModel

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORY = ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="edge")
FINE = [Line("resolved", {"resolved": 0.97, "progress": 0.03})]
BAD = [Line("service_outage", {"service_outage": 0.9, "progress": 0.1})]
CRITICAL = [Line("data_exposure", {"data_exposure": 0.9, "progress": 0.1})]
CASE = next(case["proposal"] for case in examples("helpdesk") if case["name"] == "routine-password-reset")
"""A proposal of consequence that breaks no rule: what becomes of it is up to the world model."""


def body(**changed: Any) -> dict[str, Any]:
    """The case as it is sent; `state` and `action` are changed field by field, anything else as a whole."""
    told = deepcopy({name: CASE[name] for name in ("domain", "state", "action")})
    for name, value in changed.items():
        told[name] = told[name] | value if isinstance(value, dict) and name in told else value
    return told


def known(key_of: dict[str, Any] = CASE) -> Anchor:
    """A recorded case like this one in every word, so that it is no unfamiliar situation."""
    domain = catalog()[key_of["domain"]]
    state, action = domain.state_type.model_validate(key_of["state"]), Action.model_validate(key_of["action"])
    return Anchor(
        id="known",
        domain=domain.name,
        key=domain.anchor_key(state, action),
        when=NOON - timedelta(days=90),
        source="the desk's log",
        action_kind=action.kind,
        outcome="resolved",
        next_outcome="resolved",
        state={},
        changes={},
        observation="the caller is back in",
        summary="a reset that went well",
    )


def stocked(folder: Path, encoder: Encoder) -> EdgeAnchorBank:
    """A bank that holds the known case."""
    bank = EdgeAnchorBank(folder, encoder)
    asyncio.run(bank.add([known()]))
    return bank


@dataclass
class Clock:
    now: datetime = NOON


@dataclass
class Premises:
    """What a test may look at behind the door."""

    app: FastAPI
    client: httpx.AsyncClient
    world: ScriptedWorldModel
    bank: EdgeAnchorBank
    ledger: SqliteLedger
    clock: Clock
    keys: dict[str, str]
    settings: Settings

    async def ask(self, told: dict[str, Any] | None = None, key: str = "agent", **more: Any) -> httpx.Response:
        return await self.client.post("/v1/evaluations", json=told or body(), headers=self.shown(key), **more)

    async def overrule(self, decision_id: str, key: str = "supervisor", **changed: Any) -> httpx.Response:
        told = {"ruling": "approved", "code": "mitigated", "reason": "Seen in person, all is well."} | changed
        return await self.client.post(f"/v1/decisions/{decision_id}/override", json=told, headers=self.shown(key))

    async def read(self, decision_id: str, key: str = "agent") -> httpx.Response:
        return await self.client.get(f"/v1/decisions/{decision_id}", headers=self.shown(key))

    def key(self, named: str, role: Role, **more: Any) -> str:
        """Makes a key, to be shown by its name."""
        made = Keys(self.settings.data / "keys.json", lambda: self.clock.now).make(Key(name=named, role=role, **more))
        self.keys[named] = made
        return made

    async def recorded(self) -> int:
        """How many decisions the ledger holds."""
        return int(await self.ledger._do(lambda db: db.execute("SELECT count(*) FROM decisions").fetchone()[0]))

    def shown(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[key]}"} if key in self.keys else {}


@asynccontextmanager
async def premises(
    folder: Path,
    bank: EdgeAnchorBank,
    world: ScriptedWorldModel,
    ledger: Path | None = None,
    metrics: Metrics | None = None,
    candidate: Contender | None = None,
    share: float = 0.0,
    **settings: Any,
) -> AsyncIterator[Premises]:
    """Answers through ASGI, without a socket and without the warm-up of a real start. The bank stays its owner's to close."""
    kept = SqliteLedger(ledger or folder / "ledger.sqlite", vault=Vault(b"v" * 32))
    clock, numbers, said = Clock(), count(1), list[str]()
    split = Split(Contender(world, STORY), candidate, share)
    house = House(Rooms(split, CasesWorldModel(bank), bank, kept))
    told = Settings(data=folder, **settings)
    chance = Chance(monotonic, lambda: clock.now, lambda: f"dec_{next(numbers)}")
    app = create_app(told, house, chance, said.append, metrics=metrics)
    keys = {str(line).split()[0]: str(line).split()[-1] for line in said}
    door = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=door, base_url="http://premortem") as client:
        yield Premises(app, client, world, bank, kept, clock, keys, told)
    await kept.aclose()
