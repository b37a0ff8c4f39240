"""Keys: shown once, kept hashed, rotated with an overlap, revoked in running services, and never lost by two who write."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.api.callers import Role
from service.api.keys import BadKeys, Key, Keys
from tests.service.house import NOON, Clock

MARIA = Key(name="maria", role=Role.supervisor)
BOT = Key(name="bot", role=Role.agent, tenant="ward-7", domains=frozenset({"triage"}), tokens_per_minute=900)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(folder: Path, clock: Clock, **more: Any) -> Keys:
    return Keys(folder / "data" / "keys.json", lambda: clock.now, **more)


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> Keys:
    return opened(tmp_path, clock)


def test_keys_are_kept_hashed_in_a_file_of_ones_own_and_shown_once(tmp_path: Path, keys: Keys) -> None:
    path, made = tmp_path / "data" / "keys.json", keys.make(MARIA)
    assert path.stat().st_mode & 0o777 == 0o600
    assert made not in path.read_text() and made.split("_")[-1] not in path.read_text()
    assert list(path.parent.iterdir()) == [path]


async def test_a_key_says_who_what_where_and_how_much(keys: Keys) -> None:
    key = keys.make(BOT)
    caller = await keys.caller(key)
    assert caller is not None
    assert (caller.name, caller.roles, caller.tenant) == ("bot", {Role.agent}, "ward-7")
    assert (caller.domains, caller.tokens_per_minute) == ({"triage"}, 900)
    (kept,) = keys.all()
    assert key.startswith(kept.prefix) and len(kept.prefix) == len("pm_agent_") + 6


async def test_keys_survive_a_restart_and_a_wrong_one_is_nobodys(tmp_path: Path, keys: Keys, clock: Clock) -> None:
    made = [keys.make(MARIA), keys.make(BOT)]
    again = opened(tmp_path, clock)
    assert [await again.caller(key) for key in made] == [MARIA.caller(), BOT.caller()]
    assert await again.caller(made[0][:-1]) is None and await again.caller("") is None
    with pytest.raises(BadKeys, match="maria"):
        again.make(Key(name="maria", role=Role.agent))


async def test_a_rotated_key_is_good_for_the_overlap_and_no_longer(keys: Keys, clock: Clock) -> None:
    old = keys.make(BOT)
    new = keys.rotate("bot", timedelta(hours=2))
    assert new != old and [await keys.caller(key) for key in (old, new)] == [BOT.caller()] * 2
    clock.now = NOON + timedelta(hours=2, microseconds=-1)
    assert await keys.caller(old) is not None
    clock.now = NOON + timedelta(hours=2)
    assert await keys.caller(old) is None and await keys.caller(new) is not None
    with pytest.raises(BadKeys, match="nobody"):
        keys.rotate("nobody", timedelta())


async def test_after_many_rotations_only_the_newest_and_those_in_their_overlap_are_kept(
    keys: Keys, clock: Clock
) -> None:
    shown = [keys.make(BOT)]
    for _ in range(5):
        clock.now += timedelta(hours=1)
        shown.append(keys.rotate("bot", timedelta(minutes=30)))
    good = [key for key in shown if await keys.caller(key)]
    assert good == shown[-2:] and len(keys) <= 3


async def test_a_running_service_sees_keys_that_are_made_and_revoked_elsewhere(
    tmp_path: Path, keys: Keys, clock: Clock
) -> None:
    elsewhere = opened(tmp_path, clock)
    key = elsewhere.make(BOT)
    assert await keys.caller(key) == BOT.caller()
    elsewhere.revoke("bot")
    assert await keys.caller(key) is None
    with pytest.raises(BadKeys, match="bot"):
        keys.revoke("bot")


def test_two_who_write_at_once_lose_no_key(tmp_path: Path, clock: Clock) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: opened(tmp_path, clock).make(Key(name=f"bot {n}", role=Role.agent)), range(40)))
    assert len(opened(tmp_path, clock)) == len(set(made)) == 40


async def test_a_key_that_could_not_be_kept_is_not_valid(tmp_path: Path, clock: Clock) -> None:
    keys = opened(tmp_path, clock, entropy=lambda: "known")
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(OSError, match="data"):
        keys.make(BOT)
    with pytest.raises(OSError, match="data"):
        await keys.caller("pm_agent_known")


async def test_keys_kept_before_there_were_tenants_are_good_still(tmp_path: Path, clock: Clock) -> None:
    from hashlib import sha256

    (tmp_path / "data").mkdir()
    told = {sha256(b"pm_agent_x").hexdigest(): {"name": "first-agent", "role": "agent"}}
    (tmp_path / "data" / "keys.json").write_text(json.dumps(told))
    caller = await opened(tmp_path, clock).caller("pm_agent_x")
    assert caller is not None and (caller.name, caller.tenant) == ("first-agent", "house")


@pytest.mark.parametrize("kept", ["", "[]", '{"a": 1}', '{"a": {"name": "x"}}', '{"a": {"name": "x", "role": "king"}}'])
def test_a_file_of_keys_that_cannot_be_read_is_never_taken_for_an_empty_one(
    tmp_path: Path, clock: Clock, kept: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keys.json").write_text(kept)
    with pytest.raises(BadKeys, match=r"keys\.json"):
        opened(tmp_path, clock)
