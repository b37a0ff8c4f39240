"""The cells of the ledger's disk: full, read-only, held by another process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from loadtest.faults.caller import KEYED, LOAD, ONE
from loadtest.faults.cell import Cell, Row
from loadtest.faults.dependent import service
from loadtest.faults.disk import Disk
from loadtest.faults.network_cells import SCRIPTED
from loadtest.faults.owed import Owed, ledger_gone, normal

CALLERS = (ONE, KEYED, LOAD)


async def disk_rows(data: Path) -> list[Row]:
    disk = Disk(data.parent / "disk")
    try:
        return await _rows(disk, data)
    finally:
        disk.take_back(data)


async def _rows(disk: Disk, data: Path) -> list[Row]:
    part = f"sqlite ({disk.kind})"
    disk.lend(data)
    found = []
    async with service(data, **SCRIPTED) as running:
        faults: dict[str, tuple[Callable[[], AbstractContextManager[None]], Owed]] = {
            "none": (nullcontext, normal),
            "disk full": (lambda: disk.full(running.pid), ledger_gone),
            "locked": (disk.locked, ledger_gone),
        }
        for name, (fault, owed) in faults.items():
            for caller in CALLERS:
                cell = Cell(part, name, caller, owed, normal)
                found.append(await cell.run(running.client, lasting(fault())))
    return found + await _begun_read_only(disk, data, part)


async def _begun_read_only(disk: Disk, data: Path, part: str) -> list[Row]:
    """A disk that is read-only when the service starts: a file that is open for writing keeps it from becoming so later."""
    cells = [Cell(part, "read-only at start", caller, ledger_gone, normal) for caller in CALLERS]
    async with AsyncExitStack() as running:
        with disk.read_only():
            client = (await running.enter_async_context(service(data, **SCRIPTED))).client
            rows = [await cell.asked(client) for cell in cells]
        for cell, row in zip(cells, rows, strict=True):
            await cell.checked(client, row)
    return rows


@asynccontextmanager
async def lasting(fault: AbstractContextManager[None]) -> AsyncIterator[None]:
    with fault:
        yield
