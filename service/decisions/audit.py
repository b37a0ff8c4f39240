"""The chain in a file: one event a line, and last the checkpoint that says where it ends."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from service.decisions.chain import Broken, Checkpoint, Event, Sealer, Walk
from service.decisions.ledger import Ledger

PAGE = 500

T = TypeVar("T", Event, Checkpoint)


async def export(ledger: Ledger, sealer: Sealer, at: datetime, write: Callable[[bytes], object]) -> Checkpoint | Broken:
    """Writes every event, then a checkpoint over all of them; a chain that is broken is not signed."""
    walk = Walk()
    while page := await ledger.events(walk.head.seq, PAGE):
        for event in page:
            if broken := walk.step(event):
                return broken
            write(event.line() + b"\n")
    sealed = sealer.seal(walk.head, at)
    write(sealed.line() + b"\n")
    return sealed


def verify_export(
    lines: Iterable[bytes], trusted: Collection[str] = (), earlier: Iterable[Checkpoint] = ()
) -> Checkpoint | Broken:
    """The closing checkpoint of an export that is as it was written, byte for byte; needs no ledger and no network.

    `earlier` are checkpoints kept from exports before: a ledger that was cut or rewritten since then contradicts them.
    """
    walk, last = Walk(earlier, trusted), b""
    for line in lines:
        if last:
            event = _read(Event, last)
            broken = walk.step(event) if event else Broken(walk.head.seq + 1, "it cannot be read")
            if broken:
                return broken
        last = line
    closing = _read(Checkpoint, last)
    why = walk.differs(closing, walk.head) if closing else "the closing checkpoint is missing, or cannot be read"
    if closing is None or why:
        return Broken(walk.head.seq + 1, why or "")
    return walk.end() or closing


def verify_file(path: Path, trusted: Collection[str] = (), since: Path | None = None) -> Checkpoint | Broken:
    """`since` is an export made before, whose end this one must contain. Raises `ValueError` if that has no end."""
    earlier = [_closing(since)] if since else []
    with path.open("rb") as lines:
        return verify_export(lines, trusted, earlier)


def _closing(path: Path) -> Checkpoint:
    last = b""
    with path.open("rb") as lines:
        for last in lines:  # noqa: B007
            pass
    closing = _read(Checkpoint, last)
    if closing is None:
        raise ValueError(f"{path} does not end with a checkpoint")
    return closing


def _read(kind: type[T], line: bytes) -> T | None:
    """None for any line that is not spelt exactly as it would be written."""
    try:
        told = kind.model_validate_json(line)
        return told if told.line() + b"\n" == line else None
    except ValueError:
        return None
