"""The alerts, for real: a real service under a real Prometheus, broken on purpose and mended again.

Everything is as shipped, but that windows are sixty times shorter.
"""

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.process import Service, started
from loadtest.prometheus import ALERTS, Prometheus, installed, watching
from service.api.callers import Role
from tests.service.house import body

FASTER = 60
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
PATIENCE_S, ASKERS, LATENCY_MS = 45.0, 4, 50
TRIAGE = {
    "domain": "triage",
    "state": {"chief_complaint": "a sore throat since yesterday"},
    "action": {"kind": "home_care", "text": "Rest at home, drink enough, and call again if it gets worse."},
}


def hurried(rules: str) -> str:
    """The same rules with every window, offset and `for` so much shorter."""

    def shorter(told: re.Match[str]) -> str:
        return f"{told[1]}{max(1, int(told[2]) * SECONDS[told[3]] // FASTER)}s"

    return re.sub(r"(\[|offset |for: )(\d+)([smhd])\b", shorter, rules)


def test_hurried_rules_are_the_same_rules() -> None:
    assert hurried("rate(x[5m]) offset 1h\n for: 2m") == "rate(x[5s]) offset 60s\n for: 2s"
    told = ALERTS.read_text()
    assert hurried(told).count("\n") == told.count("\n") and hurried(told) != told


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Prometheus]]:
    if not installed():
        pytest.skip("there is no Prometheus here: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("watched")
    (folder / "alerts.yml").write_text(hurried(ALERTS.read_text()))
    with started(folder / "service", scripted_latency_ms=LATENCY_MS) as service:
        target = service.url.removeprefix("http://")
        with watching(folder / "prometheus", target, folder / "alerts.yml") as prometheus:
            yield service, prometheus


def until(told: Callable[[], bool], why: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not told():
        assert time.monotonic() < ends, why()
        time.sleep(0.3)


def fire(prometheus: Prometheus, *alerts: str) -> None:
    until(lambda: set(alerts) <= prometheus.firing(), lambda: f"{alerts}, but {prometheus.firing()} fire")


@contextmanager
def asking(service: Service, told: dict[str, Any], most: int = 10_000) -> Iterator[None]:
    """Several callers who ask again and again, and a balancer that asks whether it is ready, while the block lasts."""
    over: list[bool] = []

    def ask() -> None:
        with service.client(Role.agent) as client:
            for number in count():
                if over or number >= most:
                    return
                client.post("/v1/evaluations", json=told)

    def look() -> None:
        with service.client() as client:
            while not over:
                client.get("/readyz")
                time.sleep(0.5)

    with ThreadPoolExecutor(ASKERS + 1) as pool:
        under_way = [pool.submit(each) for each in (*[ask] * ASKERS, look)]
        try:
            yield
        finally:
            over.append(True)
    assert all(each.exception() is None for each in under_way)


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Another process's lock, as a backup that hangs would hold it."""
    db = sqlite3.connect(ledger, isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


@contextmanager
def switched_off(service: Service, domain: str) -> Iterator[None]:
    with service.client(Role.admin) as client:
        for off in (True, False):
            told = {"off": off, "code": "drill"}
            client.put(f"/v1/switches/domain/{domain}", json=told).raise_for_status()
            if off:
                yield


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_is_broken_fires_and_what_is_mended_clears(watched: tuple[Service, Prometheus]) -> None:
    service, prometheus = watched
    until(lambda: bool(prometheus.query("premortem_part_up == 1")), lambda: "no part is up")
    with asking(service, body()):
        time.sleep(3)
    assert prometheus.firing() == set()
    with switched_off(service, "helpdesk"), asking(service, body()):
        fire(prometheus, "PremortemSwitchedOff")
    with asking(service, TRIAGE | {"options": {"budget_ms": LATENCY_MS // 2}}):
        fire(prometheus, "PremortemNoEvidenceFast")
    with locked(service.data / "ledger.sqlite"), asking(service, body()):
        fire(prometheus, "PremortemLedgerNotWritable", "PremortemUnanswered")
    until(lambda: "PremortemAllDown" not in prometheus.firing(), lambda: "it cannot be scraped though it runs")
    with frozen(service.pid):
        fire(prometheus, "PremortemAllDown")
    drill = {"SwitchedOff", "NoEvidenceFast", "LedgerNotWritable", "Unanswered", "AllDown"}
    until(
        lambda: not prometheus.firing() & {f"Premortem{name}" for name in drill},
        lambda: f"{prometheus.firing()} still fire",
    )
    with service.client(Role.agent) as client:
        assert client.post("/v1/evaluations", json=body()).status_code == httpx.codes.OK
