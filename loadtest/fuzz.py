"""Schemathesis over the OpenAPI document, with every role's credential: no route may fail, or answer what it does not promise.

    python -m loadtest.fuzz                  # make fuzz; writes build/fuzz.json

The real service as a process of its own, around the scripted world. Examples, the corners of every field, random requests good
and bad, and walks along the document's links from a decision to whatever takes its id. A refusal of a request that the document
allows is no violation: what a state must hold is its domain's to say, and `GET /v1/domains/{name}` says it.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.process import Service, started
from service.api.callers import Role
from service.api.errors import PROBLEM
from service.domains import catalog, examples

Told = dict[str, Any]
PHASES = ("examples", "coverage", "fuzzing", "stateful")
NOT_OWED = "not_a_server_error", "positive_data_acceptance"
"""What fails is counted here, where an owed 503 is told from any other; for the second, see above."""
SPELT = {
    "path.name": "domain",
    "path.decision_id": "decision",
    "body.domain": "domain",
    "body.outcome": "outcome",
}
REFUSED = ["400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "422", "429", "5xx"]
"""What answers a body that is not as the document says; a 413 says that it is not even looked at."""
METHODS = ("GET", "POST", "PUT")
KEPT, DECIDED = 20, 4
"""Violations that are written out; all of them are counted."""


@dataclass(eq=False)
class Finds:
    """What was asked and answered."""

    cases: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    routes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    server_errors: list[Told] = field(default_factory=list)
    violations: list[Told] = field(default_factory=list)

    def add(self, role: str, lines: Iterable[str]) -> None:
        for line in lines:
            told = json.loads(line)
            if finished := told.get("ScenarioFinished"):
                self._scenario(role, finished)
            elif failed := told.get("NonFatalError") or told.get("FatalError"):
                self.violations.append({"role": role, "route": failed.get("label"), "why": json.dumps(failed)[:500]})

    def _scenario(self, role: str, told: Told) -> None:
        recorder = told["recorder"]
        for case_id, exchange in recorder.get("interactions", {}).items():
            route = _route(recorder, case_id)
            self.cases += 1
            self.phases[told["phase"]] += 1
            self.roles[role] += 1
            answer = exchange["response"]
            self.routes[route][str(answer["status_code"]) if answer else "no answer"] += 1
            asked = {
                "role": role,
                "route": route,
                "uri": exchange["request"]["uri"],
                "sent": _text(exchange["request"]),
            }
            if answer is None or (answer["status_code"] >= 500 and not _owed(answer)):
                self.server_errors.append(asked | {"answer": _text(answer or {}, "content")})
            for check in recorder.get("checks", {}).get(case_id, ()):
                if check["status"] == "failure":
                    self.violations.append(asked | {"why": json.dumps(check["failure_info"])[:500]})

    def told(self, seed: int) -> Told:
        return {
            "cases": self.cases,
            "server_errors": len(self.server_errors),
            "violations": len(self.violations),
            "seed": seed,
            "phases": dict(self.phases),
            "roles": dict(self.roles),
            "by_route": {route: dict(sorted(statuses.items())) for route, statuses in sorted(self.routes.items())},
            "found": (self.server_errors + self.violations)[:KEPT],
        }


def _route(recorder: Told, case_id: str) -> str:
    """As the document writes it; a walk along links has steps of several routes."""
    case = recorder["cases"][case_id]["value"]
    return f"{case['method']} {case['path']}" if case["method"] in METHODS else "any other method"


def _owed(answer: Told) -> bool:
    """A 503 that says what is missing: no time for it, or nothing to record it in."""
    return bool(answer["status_code"] == 503 and answer["headers"].get("content-type") == [PROBLEM])


def _text(part: Told, name: str = "body") -> str:
    encoded = part.get(name)
    return base64.b64decode(encoded["$base64"]).decode(errors="replace")[:500] if encoded else ""


def run(count: int, seed: int, roles: Sequence[Role | None], phases: Sequence[str] = PHASES) -> Told:
    """`{cases, server_errors, violations, phases, roles, by_route, found}`. Raises `RuntimeError` where it could not be asked."""
    finds = Finds()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder)) as service:
        known = list(_decisions(service))
        for role in roles:
            with _asked(service, role, known, count, seed, phases).open() as lines:
                finds.add(str(role or "nobody"), lines)
    return finds.told(seed)


def _decisions(service: Service) -> Iterator[str]:
    """Ids to be found by those who cannot ask: of every worked case a few times over."""
    with service.client(Role.agent) as client:
        for case in [case["proposal"] for name in catalog() for case in examples(name)] * DECIDED:
            told = {key: case[key] for key in ("domain", "state", "action")}
            yield client.post("/v1/evaluations", json=told).raise_for_status().json()["decision_id"]


def _asked(
    service: Service, role: Role | None, known: Sequence[str], count: int, seed: int, phases: Sequence[str]
) -> Path:
    """What schemathesis asked and what it was answered, a line for each thing that happened."""
    settings, report = service.data / "schemathesis.toml", service.data / f"{role}.ndjson"
    settings.write_text("\n".join(_settings(known)))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "--no-color", "run"]
    command += [f"{service.url}/openapi.json", "--url", service.url, "--phases", ",".join(phases)]
    command += ["--seed", str(seed), "--max-examples", str(count), "--exclude-checks", ",".join(NOT_OWED)]
    command += ["--continue-on-failure", "--no-shrink", "--suppress-health-check", "all", "--request-timeout", "30"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report)]
    if role:
        command += ["--header", f"Authorization: Bearer {service.keys[role]}"]
    ended = subprocess.run(command, cwd=service.data, env=dict(os.environ), capture_output=True, text=True)
    if ended.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"schemathesis: {ended.stdout[-2_000:]}{ended.stderr[-2_000:]}")
    return report


def _settings(decisions: Sequence[str]) -> Iterator[str]:
    """Nobody has half a minute for every long poll; and of what chance would not spell, the names are told."""
    outcomes = sorted({name for domain in catalog().values() for name in domain.outcomes.names})
    for name, values in {"domain": [*catalog()], "outcome": outcomes, "decision": decisions}.items():
        yield f"[dictionaries.{name}]\nvalues = {json.dumps(values)}"
    yield f"[checks.negative_data_rejection]\nexpected-statuses = {json.dumps(REFUSED)}"
    yield '[parameters]\n"query.timeout_s" = 0.02'
    for place, name in SPELT.items():
        yield f'"{place}" = {{ dictionary = "{name}", probability = 0.7 }}'


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.fuzz", description="schemathesis, as every role")
    parser.add_argument("--examples", type=int, default=100, help="of each kind, a route")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz.json"))
    arguments = parser.parse_args()
    told = run(arguments.examples, arguments.seed, (*Role, None))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps({name: told[name] for name in ("cases", "server_errors", "violations", "phases", "roles")}))
    raise SystemExit(bool(told["server_errors"] or told["violations"]))


if __name__ == "__main__":
    main()
