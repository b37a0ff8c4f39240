"""The composition root: wires the rooms of a furnished house, closes them. The only module that knows them all."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.models import Example

from service.admission import Admission, Effort
from service.api import anchors, decisions, domains, errors, evaluations, health, permits, switches
from service.api import metrics as scrape
from service.api.callers import Doorkeeper, Role
from service.api.draining import Draining
from service.api.keys import Key, Keys
from service.api.limits import BodyLimits
from service.api.metrics import Tally
from service.api.oidc import OidcVerifier, Provider
from service.api.once import Once
from service.api.overrides import Overrides
from service.api.rates import Rates
from service.api.shadows import Shadows
from service.api.tokens import Tokens
from service.concurrency import GradientLimit
from service.decisions.chain import Kind
from service.decisions.ledger import Ledger
from service.decisions.permit import Issuer
from service.decisions.signing import KeyRing
from service.decisions.switches import Switches
from service.decisions.vault import BadMaster
from service.domains import catalog, examples
from service.errors import LedgerUnavailable
from service.guardrail import Chance, Guardrail
from service.house import House, signing_keys, stock
from service.metrics import Metrics, Span, no_span
from service.policies import Policies
from service.settings import Settings
from service.split import Contender
from service.upkeep import Circumstances, Upkeep
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import HOUSE, Action, Proposal

TITLE = "Premortem"
VAULT = "vault"
CANARY_MS = 2_500.0
ABOUT = "Ask before you act: what happens if I do this? N simulated futures of a proposed action; approve or escalate, with evidence."


def system_chance() -> Chance:
    """The real clocks, and time-ordered random ids."""
    return Chance(
        time.monotonic,
        lambda: datetime.now(UTC),
        lambda: f"dec_{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:16]}",
    )


def create_app(
    settings: Settings,
    house: House,
    chance: Chance | None = None,
    say: Callable[[str], object] = print,
    draining: Draining | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The service over a furnished house, which it closes when it ends. Raises `BadPolicies`."""
    chance, draining = chance or system_chance(), draining or Draining()
    fields = Policies(catalog(), settings.policies)
    cases = {name: examples(name) for name in fields}
    keys = first_keys(Keys(settings.data / "keys.json", chance.now), say) if settings.authentication else None
    tokens = oidc_verifier(settings, chance) if keys and settings.oidc_issuer else None
    door = Doorkeeper(*([keys] if keys else []), *([Tokens(tokens)] if tokens else []))
    ring, ledger = signing_keys(settings, chance.now()), house.rooms.ledger
    metrics = metrics or Metrics(chance.clock, _spans(settings))
    contenders = house.rooms.split.by_role
    metrics.told({role: each.model for role, each in contenders.items()}, fields, Effort)
    thrown = Switches(ledger, settings.disabled_domains)
    desk = permits.PermitDesk(Issuer(settings.permit_issuer, settings.permit_audience), ring, thrown, chance.now)
    guardrail = Guardrail(
        fields,
        house.rooms,
        chance,
        Admission(chance.clock, GradientLimit(settings.in_flight, most=settings.max_in_flight)),
        thrown,
        metrics,
    )
    shadows = Shadows(guardrail, settings.shadow_ms)
    upkeep = Upkeep(ledger, thrown, chance.now, partial(circumstances, house, fields, ring, keys), metrics, fields)
    canaries = {health.CANARY[role]: canary(guardrail, each, fields) for role, each in contenders.items()}
    readiness = health.Readiness(house.rooms, canaries, chance.clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            for room in (ledger, house.rooms.bank, house.rooms.stand_in):
                closing.push_async_callback(room.aclose)
            for contender in contenders.values():
                closing.push_async_callback(contender.world.aclose)
            closing.push_async_callback(shadows.finish)
            if tokens:
                closing.push_async_callback(tokens.aclose)
            with suppress(LedgerUnavailable):
                await refuse_another_secret(ledger, house.sealed_by)
                await upkeep.note()
            await warm_up(guardrail, fields)
            if not house.stocked:
                stocking = asyncio.create_task(stock(house.rooms.bank, settings))
                closing.callback(stocking.cancel)
            going_on = asyncio.create_task(upkeep.forever())
            closing.callback(going_on.cancel)
            yield

    app = FastAPI(title=TITLE, description=ABOUT, version="0.1.0", lifespan=lifespan)
    app.add_middleware(
        BodyLimits,
        max_bytes=settings.max_body_bytes,
        max_depth=settings.max_depth,
        max_items=settings.max_items,
    )
    app.add_middleware(Tally, counted=lambda status: metrics.problems.labels(status).inc())
    errors.install(app)
    once, rates = Once(ledger, chance.now), Rates(chance.clock)
    overrides = Overrides(guardrail, ledger, fields, chance.now)
    app.include_router(evaluations.router(guardrail, fields, door, once, openapi_examples(cases), desk, rates, shadows))
    app.include_router(decisions.router(ledger, fields, door, once, chance.now, desk, overrides, draining))
    app.include_router(anchors.router(house.rooms.bank, fields, door, chance.now))
    app.include_router(switches.router(thrown, fields, door, chance.now))
    app.include_router(permits.router(desk))
    app.include_router(domains.router(fields, cases))
    app.include_router(health.router(readiness, draining))
    app.include_router(scrape.router(metrics, readiness, guardrail))
    errors.describe(app)
    return app


def _spans(settings: Settings) -> Span:
    if not settings.otlp_endpoint:
        return no_span
    from service.tracing import exporting

    return exporting(settings.otlp_endpoint)


def oidc_verifier(settings: Settings, chance: Chance) -> OidcVerifier:
    """Raises `ValueError` for a provider that cannot be trusted as it is set."""
    provider = Provider(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_algorithms,
        settings.oidc_jwks_url,
        settings.oidc_roles_claim,
        settings.oidc_tenant_claim,
        settings.oidc_tenant,
        settings.oidc_leeway_s,
    )
    return OidcVerifier(provider, chance.now, chance.clock)


def circumstances(house: House, fields: Mapping[str, Domain], ring: KeyRing, keys: Keys | None) -> Circumstances:
    """What belongs in the audit chain beside what is decided: models, policies, and every key by what it may do."""
    split = house.rooms.split
    told: dict[Any, Mapping[str, Any]] = {
        (Kind.model, HOUSE, "world"): split.serving.model.model_dump(exclude={"policy"})
    }
    if split.candidate:
        model = split.candidate.model.model_dump(exclude={"policy"})
        told[Kind.model, HOUSE, "candidate"] = model | {"share": split.share}
    told |= {(Kind.policy, HOUSE, name): domain.policy.told() for name, domain in fields.items()}
    told[Kind.key, HOUSE, "signing"] = ring.newest().public.model_dump(mode="json")
    told[Kind.key, HOUSE, VAULT] = {"fingerprint": house.sealed_by}
    for key in keys.all() if keys else ():
        told[Kind.key, key.tenant, f"caller {key.name} {key.prefix}"] = key.model_dump(mode="json")
    return told


async def refuse_another_secret(ledger: Ledger, sealed_by: str) -> None:
    """A ledger sealed under one secret is not written under another. Raises `BadMaster`, `LedgerUnavailable`."""
    for event in await ledger.noted(Kind.key):
        if event.subject == VAULT and json.loads(event.body) != {"fingerprint": sealed_by}:
            raise BadMaster("this ledger is sealed under another secret: put its `vault.secret` back")


def first_keys(keys: Keys, say: Callable[[str], object]) -> Keys:
    """At first start, one agent key and one supervisor key, shown this once."""
    if not len(keys):
        for role in (Role.agent, Role.supervisor):
            say(f"{role} key (shown once): {keys.make(Key(name=f'first-{role}', role=role))}")
    return keys


async def warm_up(guardrail: Guardrail, fields: Mapping[str, Domain]) -> None:
    """One step of one example in each domain, unrecorded, so that the first caller does not pay for cold caches."""
    for contender in guardrail.rooms.split.by_role.values():
        for name, domain in fields.items():
            await guardrail.rehearse(known_case(name, domain), contender)


def canary(guardrail: Guardrail, contender: Contender, fields: Mapping[str, Domain]) -> health.Canary:
    """Has one known case after another read."""
    known = cycle([known_case(name, domain) for name, domain in fields.items()])
    return lambda: guardrail.rehearse(next(known), contender, CANARY_MS)


def known_case(name: str, domain: Domain) -> Proposal:
    """The first of the domain's examples."""
    told = examples(name)[0]["proposal"]
    state, action = domain.state_type.model_validate(told["state"]), Action.model_validate(told["action"])
    return Proposal(domain=name, state=state, action=action)


def openapi_examples(cases: Mapping[str, list[dict[str, Any]]]) -> dict[str, Example]:
    return {
        case["name"]: Example(
            summary=case["title"], value={key: case["proposal"][key] for key in ("domain", "state", "action")}
        )
        for domain in cases.values()
        for case in domain
    }
