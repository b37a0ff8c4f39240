"""Errors to HTTP, once: application/problem+json (RFC 9457)."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.api.schemas import FieldProblem, Problem
from service.errors import PremortemError

PROBLEM = "application/problem+json"


def problem(
    status: int, title: str, detail: str, errors: Iterable[FieldProblem] = (), retry_after: int | None = None
) -> Response:
    body = Problem(title=title, status=status, detail=detail, errors=tuple(errors))
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    headers |= {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return Response(body.model_dump_json(), status, headers, PROBLEM)


def install(app: FastAPI) -> None:
    app.add_exception_handler(PremortemError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, PremortemError)
    errors = (FieldProblem(pointer=field.pointer, detail=field.detail) for field in error.errors)
    return problem(error.status, error.title, error.detail, errors, error.retry_after)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [FieldProblem(pointer=pointer(each["loc"][1:]), detail=each["msg"]) for each in error.errors()]
    return problem(422, "Bad request", f"{len(found)} field(s) are not as they must be", found)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(_: Request, error: Exception) -> Response:
    return problem(500, "Internal error", f"no ruling was made: {type(error).__name__}")


def pointer(path: Iterable[Any]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


TOLD = {
    401: "No valid key",
    403: "The key's role may not do this",
    404: "No such thing",
    409: "Not open to override, or the same request is being carried out (Retry-After)",
    413: "Body, nesting or prompt too large",
    415: "The body is not sent as JSON",
    422: "A field is not as it must be; `errors` names it",
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
