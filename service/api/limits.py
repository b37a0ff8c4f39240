"""What a body may be before anyone looks inside: so large, so deep, of so many parts, and plain JSON.

All of it in time linear in the bytes, and nothing is ever inflated. How much of a request's head may arrive is the server's to
limit (`service/server.py`).
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import accumulate
from math import isfinite
from typing import Any

from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem

STRING = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
"""A string that never ends runs to the end of the body: were it no match, each of its escaped quotes would be tried as a start."""
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
LEVELS = bytes.maketrans(b"[{]}", b"\1\1\0\0")
MOST_DIGITS = 1_100
"""The longest number that a double holds is written out in 1,077 characters; a longer one is no measurement."""
BODY_S = 10.0
"""How long a body may take to arrive."""


class Refused(Exception):
    """By the body itself. `status` is the HTTP status."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail

    def answer(self) -> Response:
        answer = problem(self.status, self.title, self.detail)
        if self.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            answer.headers["Accept-Encoding"] = "identity"
        if self.status == HTTPStatus.REQUEST_TIMEOUT:
            answer.headers["Connection"] = "close"
        return answer


class BodyLimits:
    """Reads the body once and hands it on. Refuses NaN, infinities, lone surrogates and duplicate keys: two readers could disagree."""

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_depth: int, max_items: int = 5_000, patience_s: float = BODY_S
    ) -> None:
        self._app, self._max_bytes, self._max_depth, self._max_items = app, max_bytes, max_depth, max_items
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self._app(scope, receive, send)
        try:
            body = await self._body(Headers(scope=scope), receive)
        except Refused as refused:
            return await refused.answer()(scope, receive, send)
        if body is None:
            return None
        unread: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(unread, None) or await receive()

        return await self._app(scope, again, send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None if the caller hung up before it was sent. Raises `Refused`."""
        length = headers.get("content-length", "0" if "transfer-encoding" not in headers else "")
        if length != "0" and not _is_json(headers.get("content-type", "")):
            raise Refused(415, "Not JSON", "send the body as Content-Type: application/json")
        if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise Refused(415, "Compressed", "send the body as it is: nothing is inflated here")
        if length.isdecimal() and (len(length) > MOST_DIGITS or int(length) > self._max_bytes):
            raise self._too_large()
        try:
            async with asyncio.timeout(self._patience_s):
                body = await self._read(receive)
        except TimeoutError:
            raise Refused(408, "Too slow", f"a body must be here within {self._patience_s:g} s") from None
        if body:
            self._weigh(body)
        return body

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "Request too large", f"a body may have {self._max_bytes} bytes")

    def _weigh(self, body: bytes) -> None:
        """Counted before it is parsed, for what is parsed takes 20 times the memory."""
        most = 2 * self._max_items
        frame, strings = STRING.subn(b"", body, most + 1)
        if strings > most or items(frame) > self._max_items or depth(frame) > self._max_depth:
            shape = f"nested {self._max_depth} deep, and have {self._max_items} members and items in all"
            raise Refused(413, "Request too large", f"JSON may be {shape}")
        try:
            _parse(body)
        except (ValueError, RecursionError) as error:
            raise Refused(422, "Bad JSON", str(error)) from error


def depth(body: bytes) -> int:
    """How deeply brackets nest outside strings, without parsing."""
    brackets = STRING.sub(b"", body).translate(LEVELS, NOT_BRACKETS)
    return max(accumulate(2 * opens - 1 for opens in brackets), default=0)


def items(frame: bytes) -> int:
    """How many values there are at most, strings aside: each follows a comma or an opening bracket, or is the whole."""
    return 1 + sum(map(frame.count, (b",", b"[", b"{")))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _parse(body: bytes) -> None:
    """Raises ValueError unless every reader of JSON would read the same."""
    told = json.loads(
        body.decode(),
        parse_constant=_no_constant,
        parse_int=_short(int),
        parse_float=_short(_finite),
        object_pairs_hook=_no_duplicates,
    )
    if b"\\u" in body:
        json.dumps(told, ensure_ascii=False).encode()


def _short(read: Callable[[str], float]) -> Callable[[str], float]:
    def checked(number: str) -> float:
        if len(number) > MOST_DIGITS:
            raise ValueError(f"a number of {len(number)} characters; it may have {MOST_DIGITS}")
        return read(number)

    return checked


def _finite(number: str) -> float:
    value = float(number)
    return value if isfinite(value) else _no_constant(number)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found
