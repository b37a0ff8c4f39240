"""What a body may be before anyone looks inside: so large, so deep, and plain JSON."""

import json
import re
from math import isfinite
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem

STRING = re.compile(rb'(?s)"(?:\\.|[^"\\])*"?')
"""A string that never ends runs to the end of the body: were it no match, each of its escaped quotes would be tried as a start."""
BRACKET = re.compile(rb"[\[\]{}]")


class BodyLimits:
    """Reads the body once and hands it on. Refuses NaN, infinities, lone surrogates and duplicate keys: two readers could disagree."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_depth: int) -> None:
        self._app, self._max_bytes, self._max_depth = app, max_bytes, max_depth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self._app(scope, receive, send)
        if not _is_json(Headers(scope=scope).get("content-type", "")):
            answer = problem(415, "Not JSON", "send the body as Content-Type: application/json")
            return await answer(scope, receive, send)
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                answer = problem(413, "Request too large", f"a body may have {self._max_bytes} bytes")
                return await answer(scope, receive, send)
            if not message.get("more_body"):
                break
        if depth(body) > self._max_depth:
            answer = problem(413, "Request too large", f"JSON may be nested {self._max_depth} deep")
            return await answer(scope, receive, send)
        try:
            _read(body)
        except (ValueError, RecursionError) as error:
            return await problem(422, "Bad JSON", str(error))(scope, receive, send)
        handed = False

        async def again() -> Message:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, again, send)


def depth(body: bytes) -> int:
    """How deeply brackets nest outside strings, without parsing."""
    deepest = level = 0
    for bracket in BRACKET.findall(STRING.sub(b"", body)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _read(body: bytes) -> None:
    """Raises ValueError unless every reader of JSON would read the same."""
    told = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicates)
    if b"\\u" in body:
        json.dumps(told, ensure_ascii=False).encode()


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
