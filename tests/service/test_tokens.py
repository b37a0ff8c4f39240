"""OIDC tokens at the door: a person may rule, a service may not, and a provider that is down lets nobody in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, NOON, Premises, premises
from tests.service.test_oidc import AUDIENCE, IdentityProvider, token

AT = int(NOON.timestamp())


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    server = IdentityProvider()
    yield server
    server.stop()


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank, idp: IdentityProvider) -> AsyncIterator[Premises]:
    """Keys are of the tenant house, tokens of north, unless they say another."""
    oidc = {"oidc_issuer": idp.url, "oidc_audience": AUDIENCE}
    async with premises(tmp_path, bank, ScriptedWorldModel(BAD), **oidc) as found:
        yield found


def shown(idp: IdentityProvider, **changed: Any) -> str:
    return token(idp.url, **{"iat": AT - 60, "exp": AT + 600, **changed})


async def test_a_person_with_a_token_asks_and_another_rules(house: Premises, idp: IdentityProvider) -> None:
    house.keys |= {
        "bot": shown(idp, sub="bot", azp="bot", roles=["agent"], amr=None),
        "lead": shown(idp, sub="lead"),
    }
    decided = (await house.ask(key="bot")).json()
    ruled = (await house.overrule(decided["decision_id"], key="lead")).json()
    assert ruled["overridden"]["supervisor"] == "oidc:lead"
    assert (await house.read(decided["decision_id"], key="bot")).json()["permit"]
    assert (await house.read(decided["decision_id"], key="supervisor")).status_code == 404, "another tenant"


async def test_no_service_may_override_whatever_role_it_was_given(house: Premises, idp: IdentityProvider) -> None:
    robots = {
        "no word of how anyone authenticated": {"amr": None},
        "its own client": {"azp": "u-17"},
        "acting for somebody": {"act": {"sub": "bot"}},
        "a client's grant": {"gty": "client-credentials"},
    }
    house.keys["person"] = shown(idp, tenant="house")
    for name, claims in robots.items():
        id = (await house.ask()).json()["decision_id"]
        house.keys["robot"] = shown(idp, tenant="house", **claims)
        assert (await house.overrule(id, key="robot")).status_code == 403, name
        assert (await house.overrule(id, key="person")).status_code == 200


async def test_a_token_that_lets_nobody_in_is_told_why(house: Premises, idp: IdentityProvider) -> None:
    house.keys["late"] = shown(idp, exp=AT - 31, roles=["agent"])
    answer = await house.ask(key="late")
    assert answer.status_code == 401 and answer.json()["detail"] == "this token lets nobody in: it has expired"
    assert (await house.ask()).status_code == 200, "keys are good beside tokens"


async def test_while_the_provider_is_down_nobody_comes_in_by_its_word(house: Premises, idp: IdentityProvider) -> None:
    idp.fails()
    house.keys["bot"] = shown(idp, roles=["agent"])
    answer = await house.ask(key="bot")
    assert answer.status_code == 503 and answer.json()["title"] == "Identity provider unavailable"
    assert int(answer.headers["retry-after"]) == 10
    assert (await house.ask()).status_code == 200
