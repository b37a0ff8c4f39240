"""Canonical JSON (RFC 8785) and its hash: equal values have equal hashes, and a hash has one reading.

A strict subset: a number is below 2**53, however it is written, so that no reader rounds it; a string is as it was
sent, for RFC 8785 does not normalise Unicode. 10 and 10.0 are one number; a composed and a decomposed é are two strings.
"""

import json
from base64 import urlsafe_b64encode
from decimal import Decimal
from hashlib import sha256
from json.encoder import encode_basestring
from math import isfinite
from typing import Any, NoReturn

from pydantic import JsonValue

LARGEST = 2**53 - 1
PLAIN_FROM = 1e-6
"""Smaller numbers are written with an exponent (ECMA-262, Number::toString)."""


class NotCanonical(ValueError):
    """JSON that two readers could read differently. `path` is where."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.path: tuple[str | int, ...] = ()


def read(text: str | bytes) -> JsonValue:
    """JSON text, as its only reading. Raises `NotCanonical`: bad JSON or UTF-8, a key that is there twice, NaN, an infinity."""
    try:
        told = text.decode() if isinstance(text, bytes) else text
        value: JsonValue = json.loads(
            told, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
        return value
    except NotCanonical:
        raise
    except (ValueError, RecursionError) as error:
        raise NotCanonical(str(error)) from error


def canonical(value: JsonValue) -> bytes:
    """Raises `NotCanonical`: a number not below 2**53, a lone surrogate, or what is no JSON value."""
    try:
        return _written(value).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a lone surrogate is no Unicode text") from error
    except RecursionError as error:
        raise NotCanonical("nested too deeply") from error


def fingerprint(value: JsonValue) -> str:
    """SHA-256 of the canonical form. Raises `NotCanonical`."""
    return base64url(sha256(canonical(value)).digest())


def base64url(data: bytes) -> str:
    """Unpadded (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _written(value: object) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        return "[" + ",".join([_within(at, item) for at, item in enumerate(value)]) + "]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        keys = sorted(value, key=_utf16)
        return "{" + ",".join([f"{_written(key)}:{_within(key, value[key])}" for key in keys]) + "}"
    raise NotCanonical(f"a {type(value).__name__} is no JSON value")


def _within(key: str | int, value: object) -> str:
    try:
        return _written(value)
    except NotCanonical as error:
        error.path = (key, *error.path)
        raise


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _number(value: int | float) -> str:
    if not abs(value) <= LARGEST:
        raise NotCanonical("a number of 2**53 or more is not the same to every reader: send it as a string")
    if value == int(value):
        return str(int(value))
    shortest = float.__repr__(float(value))
    if "e" not in shortest:
        return shortest
    return f"{Decimal(shortest):f}" if abs(value) >= PLAIN_FROM else shortest.replace("e-0", "e-")


def _finite(number: str) -> float:
    value = float(number)
    return value if isfinite(value) else _no_constant(number)


def _no_constant(name: str) -> NoReturn:
    raise NotCanonical(f"{name} is not a JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise NotCanonical(f"the key {twice!r} is there twice")
    return found
