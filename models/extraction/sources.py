"""Recorded histories: JSON Lines, plain or gzipped, read one line at a time."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast


@dataclass(frozen=True, slots=True)
class Record:
    """One line's object; lines are counted from 1."""

    line: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that is of no use, and why: counted and shown, never dropped in silence."""

    line: int
    reason: str


def records(path: Path) -> Iterator[Record | Rejection]:
    """Every line but blank ones. A file that breaks off is a rejection where it does."""
    line = 0
    with _opened(path) as file:
        try:
            for line, raw in enumerate(file, 1):
                if raw.strip():
                    yield _record(line, raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Rejection(line + 1, f"the file breaks off: {error}")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _record(line: int, raw: bytes) -> Record | Rejection:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Rejection(line, f"not JSON: {error}")
    return Record(line, content) if isinstance(content, dict) else Rejection(line, "not a JSON object")
