"""A real Prometheus as a process of its own, which scrapes every second."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from loadtest.served import free_port

ALERTS = Path(__file__).parents[1] / "deploy" / "prometheus" / "alerts.yml"
POINTS = 120
START_S, ASK_S = 30.0, 10.0
Told = Mapping[str, Any]


@dataclass(frozen=True)
class Prometheus:
    """What it is asked, in PromQL."""

    client: httpx.Client

    def query(self, expression: str) -> Sequence[Told]:
        return self._asked("query", query=expression)

    def range(self, expression: str, start: float, end: float) -> Sequence[Told]:
        step = max(1.0, (end - start) / POINTS)
        return self._asked("query_range", query=expression, start=start, end=end, step=step)

    def now(self) -> float:
        """Seconds since the epoch, by its clock."""
        told: Any = self._asked("query", query="time()")
        return float(told[0])

    def firing(self) -> set[str]:
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def _asked(self, what: str, **told: Any) -> Sequence[Told]:
        answer = self.client.post(f"/api/v1/{what}", data=told).raise_for_status().json()
        found: Sequence[Told] = answer["data"]["result"]
        return found


def installed() -> bool:
    return shutil.which("prometheus") is not None


@contextmanager
def watching(folder: Path, target: str, rules: Path = ALERTS) -> Iterator[Prometheus]:
    """Scrapes `target` (host:port) and applies `rules`, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules.resolve())],
        "scrape_configs": [{"job_name": "premortem", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
    listens = f"127.0.0.1:{free_port()}"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder, "web.listen-address": listens}
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://{listens}", timeout=ASK_S) as client:
                _ready(client, process, folder / "log")
                yield Prometheus(client)
        finally:
            process.terminate()
            process.wait()


def _ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with suppress(httpx.TransportError):
            if client.get("/-/ready").status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2_000:]}")
