"""Errors to HTTP, once: application/problem+json (RFC 9457)."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from logging import getLogger
from traceback import extract_tb
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.schemas import FieldProblem, Problem
from service.errors import FieldError, PremortemError

LOG = getLogger("premortem")
PROBLEM = "application/problem+json"
MOST_ERRORS, MOST_TEXT = 20, 400
"""A problem is short, however large the request was: so many fields are named, and no text is longer."""


def problem(
    status: int, title: str, detail: str, errors: Sequence[FieldError] = (), retry_after: int | None = None
) -> Response:
    shown = [FieldProblem(pointer=_cut(each.pointer), detail=_cut(each.detail)) for each in errors[:MOST_ERRORS]]
    if more := len(errors) - len(shown):
        shown.append(FieldProblem(pointer="", detail=f"and {more} more that are not as they must be"))
    body = Problem(title=title, status=status, detail=_cut(detail), errors=tuple(shown))
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    headers |= {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return Response(body.model_dump_json(), status, headers, PROBLEM)


def install(app: FastAPI) -> None:
    app.add_exception_handler(PremortemError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Faults)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, PremortemError)
    return problem(error.status, error.title, error.detail, error.errors, error.retry_after)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [FieldError(pointer(each["loc"][1:]), each["msg"]) for each in error.errors()]
    return problem(422, "Bad request", f"{len(found)} field(s) are not as they must be", found)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


class Faults:
    """A fault of ours is a 500, and is logged by its kind and its place alone: its message may quote what was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            LOG.error("%s", _placed(error))
            if begun:
                raise BrokenOff from None
            answer = problem(500, "Internal error", f"no ruling was made: {type(error).__name__}")
            await answer(scope, receive, send)


class BrokenOff(Exception):
    """An answer that had begun and cannot be ended: the server hangs up."""


def _placed(error: BaseException) -> str:
    """Its kind, where it was raised, and the same of what caused it."""
    frames = extract_tb(error.__traceback__)
    places = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    cause = error.__cause__ or error.__context__
    return f"{type(error).__name__}{places}" + (f"\nbecause of {_placed(cause)}" if cause else "")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def pointer(path: Iterable[Any]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


TOLD = {
    401: "No valid credential",
    403: "The credential's role, or its domains, do not allow this",
    404: "No such thing in this tenant",
    409: "Not open to this ruling, or the same request is being carried out (Retry-After)",
    413: "Body, nesting or prompt too large",
    415: "The body is not sent as JSON",
    422: "A field is not as it must be; `errors` names it",
    429: "This credential has spent its simulated tokens (Retry-After)",
    503: "Overloaded, or the ledger cannot be used",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told: dict[int | str, dict[str, Any]] = {"default": {"description": "No ruling was made", "content": content}}
    return {status: {"description": TOLD[status], "content": content} for status in statuses} | told


def describe(app: FastAPI) -> None:
    """Adds the problem's schema to the OpenAPI document: no route names it as its model, for that would promise application/json."""
    told = app.openapi()
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    told["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
