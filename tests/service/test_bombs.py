"""What is sent to hurt: refused soon and in few words, and nothing of it stays in memory. The figures are printed, and kept.

Speed is a ratio: a bomb may take so many times what an ordinary refusal takes, on the same machine in the same minute.
"""

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message

from loadtest.process import Service, started
from service.api.callers import Role
from service.api.errors import MOST_ERRORS, PROBLEM
from service.api.limits import BodyLimits
from service.domains import catalog
from service.settings import Settings
from service.world.checkpoint import opened
from service.world.codec import Codec
from tests.service.house import body

OUT = Path(__file__).parents[2] / "build" / "bombs.json"
LIMIT = Settings.model_fields["max_body_bytes"].default
ITEMS = 5_000
REPEATS, DROPPED, WARM, WARM_TOKENS = 9, 300, 40, 900
"""Allocators and caches are full after so many (64 openings, 2 MB each, that the local world model keeps); then nothing is added."""
RATIO = 150
"""To an ordinary refusal, of about a millisecond here. What was quadratic in a body of this size would be thousands."""
GROWTH = 8 * 2**20
PATH = "/v1/evaluations"
JSON = {"Content-Type": "application/json"}


def filled(start: str, unit: str, end: str = "", size: int = LIMIT) -> bytes:
    """As large as it may be."""
    return (start + unit * ((size - len(start.encode()) - len(end.encode())) // len(unit.encode())) + end).encode()


def told(**changed: Any) -> bytes:
    return json.dumps(body(**changed)).encode()


def with_number(number: str) -> bytes:
    return told(state={"turns_elapsed": "@"}).replace(b'"@"', number.encode())


MANY = {f"key {number}": 0 for number in range(ITEMS - 100)}
BOMBS: Mapping[str, tuple[int, bytes]] = {
    "a body too large": (413, b" " * (LIMIT + 1)),
    "lists in lists": (413, filled("", "[")),
    "objects in objects": (413, filled("", '{"a":')),
    "many keys": (413, b"{" + b",".join(b'"%d":0' % number for number in range(LIMIT // 10)) + b"}"),
    "many items": (413, filled("[0", ",0", "]")),
    "many empty texts": (413, filled('[""', ',""', "]")),
    "many lists, none deep": (413, filled("[[]", ",[]", "]")),
    "keys that nobody knows": (422, json.dumps(MANY).encode()),
    "keys that no state has": (422, told(state=MANY)),
    "items that are no text": (422, told(state={"information_gathered": [1] * (ITEMS - 100)})),
    "turns that are none": (422, told(state={"conversation_history": [{"role": "x", "z": 1}] * (ITEMS // 3 - 50)})),
    "a text of quotes": (422, filled('["', '\\"', '"]')),
    "a text of escapes": (422, filled('["', "\\u0000", '"]')),
    "a text of surrogates": (422, filled('["', "\\ud83d\\udd25", '"]')),
    "a text that never ends": (422, filled('[["', '\\"[')),
    "a text too long": (422, told(action={"text": "x" * (LIMIT - 1_000)})),
    "a whole number without end": (422, with_number("1" * 250_000)),
    "a number without end": (422, with_number("0." + "1" * 250_000)),
    "an exponent without end": (422, with_number("1e" + "9" * 250_000)),
    "long numbers": (422, told(action={"arguments": {"a": "@"}}).replace(b'"@"', b"[" + b"9" * 1_000 + b"]")),
    "a long key twice": (422, filled('{"', "k", '":1,', LIMIT // 2) + filled('"', "k", '":1}', LIMIT // 2 - 1)),
    "a domain without end": (422, told(domain="x" * (LIMIT - 1_000))),
    "a field without end": (422, told(state={"x" * (LIMIT - 1_000): 1})),
    "no text at all": (422, b"\xff" * LIMIT),
}
GZIPPED = gzip.compress(b"[" * 20_000_000)
KINDS = (
    *("a body too large", "lists in lists", "many keys", "many items", "keys that no state has", "a text of escapes"),
    *("a whole number without end", "a long key twice", "a field without end", "compressed"),
)
"""One for each way of refusing."""
TOO_MANY_TOKENS = {
    "emoji": "🧨",
    "marks on marks": "a\u0301\u0327\u0323",
    "rare letters": "\ua66e",
    "digits": "7",
    "punctuation": "-_",
    "joiners": "\u200d",
}
PATIENT = {"budget_ms": 30_000}
"""Or a busy machine may run out of its time before it has counted the tokens, and escalate."""
figures: dict[str, float] = {}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("scripted")) as found:
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The bundled world model, whose attention is what a text may fill. One arena: what is held, not how threads spread it."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("MALLOC_ARENA_MAX", "1")
        with started(tmp_path_factory.mktemp("local"), world="local") as found:
            yield found


@pytest.fixture(scope="module", autouse=True)
def kept() -> Iterator[None]:
    """The figures, for whoever reads them after the run."""
    yield
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({name: round(figure, 2) for name, figure in figures.items()}, indent=2) + "\n")
    for name, figure in figures.items():
        print(f"{figure:9.2f}  {name}")


def refused(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == PROBLEM
    assert len(answer.content) < 16_000, "what was sent is not sent back"


def drop(client: httpx.Client, bomb: bytes, **headers: str) -> httpx.Response:
    return client.post(PATH, content=bomb, headers=JSON | headers)


def timed(name: str, client: httpx.Client, status: int, bomb: bytes, **headers: str) -> None:
    """Turn about with an ordinary refusal, so that whatever else the machine does is done to both."""
    took: dict[bytes, list[float]] = {bomb: [], ORDINARY: []}
    for _ in range(REPEATS):
        for sent, times in took.items():
            began = time.perf_counter()
            answer = drop(client, sent, **(headers if sent is bomb else {}))
            times.append(time.perf_counter() - began)
            refused(answer, status if sent is bomb else 422)
    hurt, ordinary = median(took[bomb]), median(took[ORDINARY])
    figures[f"ms, {name}"] = hurt * 1_000
    assert hurt < RATIO * ordinary, f"{hurt * 1_000:.1f} ms against {ordinary * 1_000:.1f} ms"


ORDINARY = told(colour="red")


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_about_as_soon_as_any_mistake(service: Service, name: str) -> None:
    with service.client(Role.agent) as client:
        timed(name, client, *BOMBS[name])


def test_what_is_compressed_is_never_inflated(service: Service) -> None:
    with service.client(Role.agent) as client:
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP"):
            timed("compressed", client, 415, GZIPPED, **{"Content-Encoding": coding})
        assert drop(client, GZIPPED, **{"Content-Encoding": "gzip"}).headers["accept-encoding"] == "identity"
        refused(drop(client, GZIPPED), 422)
        assert drop(client, told(), **{"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("name", KINDS)
def test_no_bomb_stays_in_memory(service: Service, name: str) -> None:
    status, bomb = (415, GZIPPED) if name == "compressed" else BOMBS[name]
    headers = {"Content-Encoding": "gzip"} if name == "compressed" else {}
    with service.client(Role.agent) as client:

        def dropped(times: int) -> int:
            for _ in range(times):
                refused(drop(client, bomb, **headers), status)
            return service.resident()

        before = dropped(WARM)
        grown = dropped(DROPPED) - before
    figures[f"MB grown, {name}"] = grown / 2**20
    assert grown < GROWTH


# Too many tokens in few enough bytes.


def spelt(unit: str) -> dict[str, Any]:
    """As much text as a body may have, of the worst kind."""
    text = (unit * 8_000)[:8_000]
    turns = (LIMIT - 1_000) // (len(text.encode()) + 64) - 2
    state = {"description": text, "conversation_history": [{"role": "user", "content": text}] * turns}
    return body(action={"text": text}, state=state, options=PATIENT)


def whole(unit: str) -> bytes:
    return json.dumps(spelt(unit), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", TOO_MANY_TOKENS)
def test_more_tokens_than_the_model_reads_are_refused_soon(local: Service, name: str) -> None:
    _, codec = opened(Settings().checkpoint, Codec)
    text = (TOO_MANY_TOKENS[name] * 8_000)[:8_000]
    began = time.perf_counter()
    tokens = len(codec.text(text)[0])
    figures[f"ms, the codec on 8,000 characters of {name}, {tokens} tokens"] = (time.perf_counter() - began) * 1_000
    with local.client(Role.agent) as client:
        timed(f"tokens of {name}", client, 413, told(action={"text": text}, options=PATIENT))
        timed(f"tokens of {name}, a whole body", client, 413, whole(TOO_MANY_TOKENS[name]))


def test_no_token_stays_in_memory(local: Service) -> None:
    """What leaks does so twice; that openings take each other's place makes either figure uneven."""
    bombs = [told(action={"text": unit * 8_000}, options=PATIENT) for unit in ("🧨", "\ua66e", "x")]
    with local.client(Role.agent) as client:

        def dropped(times: int) -> int:
            for number in range(times):
                refused(drop(client, bombs[number % len(bombs)]), 413)
            return local.resident()

        held = [dropped(times) for times in (WARM_TOKENS, DROPPED, DROPPED)]
        grown = min(after - before for before, after in pairwise(held))
    figures["MB grown, tokens"] = grown / 2**20
    assert grown < GROWTH


# What the server sees before anyone else.


def spoken(service: Service, request: bytes) -> bytes:
    """The answer's beginning, on a bare socket."""
    url = urlsplit(service.url)
    with socket.create_connection((url.hostname, url.port), timeout=20) as line:
        with contextlib.suppress(OSError):
            line.sendall(request)
        return line.recv(65_536)


HEAD = b"POST /v1/evaluations HTTP/1.1\r\nHost: premortem\r\nContent-Type: application/json\r\n"


def test_a_length_beyond_the_limit_is_refused_before_anything_is_sent(service: Service) -> None:
    for length in (b"%d" % (LIMIT + 1), b"9" * 19):
        said = spoken(service, HEAD + b"Content-Length: " + length + b"\r\nExpect: 100-continue\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 413 "), "and nobody is told to go on"


@pytest.mark.parametrize(
    "head",
    {
        "a header": HEAD + b"X-Long: " + b"x" * 1_000_000,
        "headers": HEAD + b"X: y\r\n" * 200_000,
        "a path": b"GET /" + b"a" * 1_000_000,
        "a query": b"GET /v1/decisions?" + b"a=1&" * 250_000,
        "no HTTP": b"\x16\x03\x01" * 100_000,
    }.values(),
    ids=["a header", "headers", "a path", "a query", "no HTTP"],
)
def test_a_head_without_end_is_the_servers_to_refuse(service: Service, head: bytes) -> None:
    """h11's limit in uvicorn: 64 KiB of an event that is not whole. Its answer is plain text, before any code of ours."""
    assert spoken(service, head).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{service.url}/livez").status_code == 200


def test_the_longest_head_that_is_read_is_answered_briefly(service: Service) -> None:
    with service.client(Role.supervisor) as client:
        for path in (f"/v1/decisions/{'x' * 60_000}", f"/v1/domains/{'x' * 60_000}", f"/{'x' * 60_000}"):
            refused(client.get(path), 404)
        refused(client.get("/v1/decisions?" + "after=1&" * 7_000 + "limit=x"), 422)
        refused(client.get("/v1/decisions", headers={"Authorization": "Bearer " + "x" * 50_000}), 401)
        refused(client.post(PATH, content=told(), headers=JSON | {"Idempotency-Key": "x" * 50_000}), 422)


def test_a_body_in_crumbs_is_put_together_in_linear_time(service: Service) -> None:
    crumbs = HEAD + b"Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 20_000
    began = time.perf_counter()
    assert b" 422 " in spoken(service, crumbs + b"0\r\n\r\n")
    figures["ms, a body in 20,000 crumbs"] = (time.perf_counter() - began) * 1_000


# The limits by themselves.


async def arrived(limits: BodyLimits, *messages: Message) -> list[Message]:
    """What is answered to a body that comes in these parts, and then no further."""
    coming, said = iter(messages), list[Message]()

    async def receive() -> Message:
        for message in coming:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    await limits(scope, receive, send)
    return said


async def nobody(*_: Any) -> None:
    raise AssertionError("nobody is asked")


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    limits = BodyLimits(nobody, LIMIT, 32, patience_s=0.05)
    said = await arrived(limits, {"type": "http.request", "body": b"{", "more_body": True})
    assert said[0]["status"] == 408 and (b"connection", b"close") in said[0]["headers"]


async def test_who_hangs_up_before_it_is_all_said_is_not_answered() -> None:
    part = {"type": "http.request", "body": b"{", "more_body": True}
    assert await arrived(BodyLimits(nobody, LIMIT, 32), part, {"type": "http.disconnect"}) == []


def test_no_problem_names_more_fields_than_a_person_reads(service: Service) -> None:
    with service.client(Role.agent) as client:
        for name in ("keys that nobody knows", "keys that no state has"):
            named = drop(client, BOMBS[name][1]).json()["errors"]
            assert len(named) == MOST_ERRORS + 1
            assert named[-1]["detail"].startswith("and ") and "more" in named[-1]["detail"], name


def test_the_largest_state_of_any_domain_leaves_room_for_its_action() -> None:
    """A list without a limit of its own would have no largest state."""
    for domain in catalog().values():
        schema = domain.state_type.model_json_schema()
        assert most(schema, schema.get("$defs", {})) < ITEMS / 2, domain.name


def most(schema: Mapping[str, Any], named: Mapping[str, Any]) -> int:
    """How many members and items a value of this schema may hold."""
    if "$ref" in schema:
        return most(named[schema["$ref"].rsplit("/")[-1]], named)
    inside = [most(each, named) for each in schema.get("anyOf", ())]
    if schema.get("type") == "array":
        inside.append(schema["maxItems"] * most(schema["items"], named))
    inside.append(sum(most(each, named) for each in schema.get("properties", {}).values()))
    return 1 + max(inside)
