"""A load test of the real service, started for it. The exit status is the answer.

    python -m loadtest.load --profile smoke        # make load PROFILE=smoke; writes build/load-smoke.html and .json

The service has the bundled world model, keys, a ledger on the disk and a little recorded history; it shares this machine's cores
with the callers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx

from loadtest.budgets import BUDGETS, Profile, profile
from loadtest.process import Service, started
from service.api.callers import Role

LOCUSTFILE, OUT = Path(__file__).with_name("locustfile.py"), Path("build")
HISTORY = 200
"""Recorded cases a domain: a first start indexes them, and nothing that they are asked costs more when there are more of them."""
SETTLED = 0.2
"""How much of a run is over when memory is first looked at."""


def run(service: Service, named: str, asked: Profile, budgets: Path, seed: int, out: Path) -> bool:
    """Whether every budget was kept, memory's among them."""
    out.mkdir(parents=True, exist_ok=True)
    report, figures = (out / f"load-{named}.{kind}" for kind in ("html", "json"))
    command = ("-m", "locust", "--headless", "--skip-log-setup", f"--locustfile={LOCUSTFILE}")
    told = {"host": service.url, "html": report, "figures": figures, "profile": named, "budgets": budgets}
    options = [f"--{name}={value}" for name, value in (told | {"traffic-seed": seed}).items()]
    key = {"LOAD_KEY": service.keys[Role.agent]}
    locust = subprocess.Popen([sys.executable, *command, *options], env=os.environ | key)
    with suppress(subprocess.TimeoutExpired):
        locust.wait(SETTLED * asked.duration_s)
    before = service.resident()
    kept = locust.wait() == 0
    grown = (service.resident() - before) / 1e6
    most = float("inf") if asked.memory_growth_mb is None else asked.memory_growth_mb
    print(f"the service holds {grown:+.0f} MB more than it did a fifth of the way on (≤ {most:g}); {report}")
    return kept and grown <= most


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.load", description="Whether the service keeps its budgets")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--history", type=int, default=HISTORY)
    parser.add_argument("--world", choices=("local", "scripted", "cases"), default="local")
    parser.add_argument("--out", type=Path, default=OUT)
    ask = parser.parse_args()
    try:
        asked = profile(ask.profile, ask.budgets)
    except ValueError as error:
        parser.error(str(error))
    with (
        tempfile.TemporaryDirectory() as data,
        started(Path(data), world=ask.world, bundled_history=ask.history) as service,
    ):
        httpx.get(f"{service.url}/readyz").raise_for_status()
        kept = run(service, ask.profile, asked, ask.budgets, ask.seed, ask.out)
    raise SystemExit(not kept)


if __name__ == "__main__":
    main()
