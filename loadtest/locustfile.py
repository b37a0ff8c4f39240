"""Locust's part: proposals arrive when they are due, whether or not those before them were answered.

    LOAD_KEY=... locust --headless -f loadtest/locustfile.py --host http://127.0.0.1:8000 --profile smoke

Against a service that is started for it: `python -m loadtest.load`. Locust's own users ask again when they were answered, so a
service that stands still is asked less and looks better than it is. Here one user is all callers: every arrival gets a greenlet
and a connection of its own, and its latency counts from when it was due. The exit status is whether every budget was kept.
"""

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import gevent
from gevent.pool import Group
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from loadtest.answers import Answer, Figures, Kind
from loadtest.budgets import BUDGETS, profile
from loadtest.report import show
from loadtest.traffic import Arrival, arrivals
from service.domains import catalog

PATIENCE_S = 10.0
MOST_AT_ONCE = 10_000


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def options(parser: LocustArgumentParser) -> None:
    """Beside Locust's own `--profile`, which names one of budgets.toml."""
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    parser.add_argument("--traffic-seed", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="where they are written as JSON")
    parser.add_argument("--key", env_var="LOAD_KEY", default="", is_secret=True, help="an agent's")


class Callers(FastHttpUser):
    """All of them."""

    fixed_count = 1
    concurrency = MOST_AT_ONCE
    network_timeout = connection_timeout = PATIENCE_S

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        assert environment.parsed_options is not None
        self.asked = environment.parsed_options
        self.profile = profile(self.asked.profile, self.asked.budgets)
        self.headers = {"Authorization": f"Bearer {self.asked.key}"} if self.asked.key else {}
        self.heard: dict[str, list[Answer]] = defaultdict(list)
        self.lag_s = 0.0

    @task
    def arrive(self) -> None:
        """All arrivals, until the last has been answered or given up. Whatever fails here fails the run: Locust would begin again."""
        self.environment.process_exit_code = 1
        try:
            began, callers = monotonic(), Group()
            for arrival in arrivals(self.profile, self.asked.traffic_seed):
                due = began + arrival.second
                gevent.sleep(max(0.0, due - monotonic()))
                self.lag_s = max(self.lag_s, monotonic() - due)
                callers.spawn(self.ask, arrival, due)
            callers.join(raise_error=True)
            self.environment.process_exit_code = 0 if self.kept() else 1
        finally:
            gevent.spawn_later(0, self.environment.runner.quit)
        raise StopUser

    def ask(self, arrival: Arrival, due: float) -> None:
        with self.client.post(
            "/v1/evaluations", json=arrival.body, headers=self.headers, name=arrival.domain, catch_response=True
        ) as response:
            took_ms = (monotonic() - due) * 1000
            answer = Answer.read(response.status_code, response.headers or {}, response.content or b"", took_ms)
            self.heard[arrival.domain].append(answer)
            response.request_meta["response_time"] = took_ms
            if answer.kind is Kind.error:
                response.failure(answer.why)
            else:
                response.request_meta["name"] += " refused" * (answer.kind is Kind.refused)
                response.success()

    def kept(self) -> bool:
        """Judges, and tells."""
        found = {
            domain: Figures.of(self.heard[domain], catalog()[domain].policy.budget_ms) for domain in self.profile.mix
        }
        show(found, self.profile, f"{self.asked.profile}: {self.profile.rate:g} a second", self.lag_s * 1000)
        if self.asked.figures:
            self.asked.figures.write_text(
                json.dumps({domain: asdict(each) for domain, each in found.items()}, indent=2)
            )
        return not any(each.broken(self.profile.owed(domain)) for domain, each in found.items())
