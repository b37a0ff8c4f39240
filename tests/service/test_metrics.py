"""What an operator sees of it: counts, logs, spans; and nothing in them that a caller wrote."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.anchors.edge import EdgeAnchorBank
from service.api.callers import Role
from service.api.health import FRESH_S, Readiness
from service.decisions.switches import Switches
from service.domains import catalog
from service.guardrail import Rooms
from service.log import JsonLines, correlation
from service.metrics import Metrics
from service.policies import Policies
from service.split import Contender, Split
from service.tracing import spans
from service.upkeep import Upkeep
from service.world.cases import CasesWorldModel
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, FINE, STORY, Premises, body, premises

Sample = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
async def house(tmp_path: Path, bank: EdgeAnchorBank) -> AsyncIterator[Premises]:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE, by_kind={"reset_mfa": [BAD]})) as found:
        yield found


def rooms(house: Premises) -> Rooms:
    return Rooms(Split(Contender(house.world, STORY)), CasesWorldModel(house.bank), house.bank, house.ledger)


async def scraped(house: Premises) -> dict[Sample, float]:
    answer = await house.client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum over all labels that are not named."""
    return sum(each for (found, has), each in samples.items() if found == name and set(labels.items()) <= has)


async def test_an_evaluation_is_counted_with_its_stages_futures_and_history(house: Premises) -> None:
    await house.ask()
    await house.ask(body(options={"settle": False}))
    samples = await scraped(house)
    approved = {"domain": "helpdesk", "ruling": "approve", "reason": "within_tolerance", "basis": "simulated"}
    assert value(samples, "premortem_evaluations_total", **approved, mode="normal") == 2
    for stage in ("anchors", "simulate", "judge", "record"):
        assert value(samples, "premortem_stage_seconds_count", stage=stage) == 2
    assert value(samples, "premortem_futures_total", domain="helpdesk") == 10
    assert value(samples, "premortem_futures_total", ending="terminal") >= 5
    assert value(samples, "premortem_anchor_recalls_total", result="hit") == 2
    assert value(samples, "premortem_anchor_age_days_sum") == pytest.approx(180, abs=1)
    assert value(samples, "premortem_adverse_probability_count") == 2
    assert value(samples, "premortem_admissions_total", effort="full") == 2
    assert value(samples, "premortem_evaluations_in_flight") == 0
    assert value(samples, "premortem_part_up", part="canary") == 1


async def test_rulings_are_counted_with_the_time_they_took_and_those_that_nobody_can_have_thought_about(
    house: Premises,
) -> None:
    for seconds, ruling in ((1, "approved"), (2, "denied"), (400, "approved")):
        id = (await house.ask(body(action={"kind": "reset_mfa"}))).json()["decision_id"]
        house.clock.now += timedelta(seconds=seconds)
        await house.overrule(id, ruling=ruling)
    samples = await scraped(house)
    assert value(samples, "premortem_overrides_total", ruling="approved", code="mitigated") == 2
    assert value(samples, "premortem_override_seconds_count") == 3
    assert value(samples, "premortem_rubber_stamps_total") == 1


async def test_an_edited_action_is_counted_as_a_ruling_on_the_first(house: Premises) -> None:
    id = (await house.ask(body(action={"kind": "reset_mfa"}))).json()["decision_id"]
    await house.overrule(id, action=body()["action"])
    assert value(await scraped(house), "premortem_overrides_total", ruling="superseded", code="edited") == 1


async def test_what_waits_and_what_ran_out_is_counted_without_anybody_asking(house: Premises) -> None:
    for _ in range(3):
        await house.ask(body(action={"kind": "reset_mfa"}))
    metrics = Metrics(lambda: 0.0)
    upkeep = Upkeep(house.ledger, Switches(house.ledger), lambda: house.clock.now, dict, metrics, Policies(catalog()))
    await upkeep.count()
    assert metrics.registry.get_sample_value("premortem_pending_escalations") == 3
    house.clock.now += timedelta(hours=2)
    await upkeep.expire()
    await upkeep.count()
    assert metrics.registry.get_sample_value("premortem_pending_escalations") == 0
    assert metrics.registry.get_sample_value("premortem_expired_escalations_total", {"domain": "helpdesk"}) == 3


async def test_harm_after_an_approval_is_counted_as_missed(house: Premises) -> None:
    house.key("desk", Role.outcome)
    for outcome in ("resolved", "access_lockout"):
        id = (await house.ask()).json()["decision_id"]
        path, told = f"/v1/decisions/{id}/outcome", {"outcome": outcome}
        assert (await house.client.post(path, json=told, headers=house.shown("desk"))).status_code == 204
    samples = await scraped(house)
    assert value(samples, "premortem_outcomes_total", ruling="approve") == 2
    assert value(samples, "premortem_missed_adverse_outcomes_total", domain="helpdesk") == 1


async def test_what_is_refused_is_counted_by_its_status(house: Premises) -> None:
    await house.ask(key="nobody")
    await house.ask(body(domain="astrology"))
    samples = await scraped(house)
    assert value(samples, "premortem_problems_total", status="401") == 1
    assert value(samples, "premortem_problems_total", status="404") == 1


async def test_no_label_holds_what_a_caller_wrote(house: Premises) -> None:
    told = body(
        action={"kind": "kanarie", "text": "kanarie"}, context={"agent_id": "kanarie", "correlation_id": "kanarie"}
    )
    await house.ask(told)
    await house.ask(body(domain="kanarie"))
    assert "kanarie" not in (await house.client.get("/metrics")).text


async def test_a_decision_is_one_line_of_json_with_its_ids(
    house: Premises, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("premortem"), "disabled", False)
    monkeypatch.setattr(logging.getLogger("premortem"), "handlers", [caplog.handler])
    caplog.set_level(logging.INFO, "premortem")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    decided = (await house.ask(body(context={"correlation_id": trace}))).json()
    line = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "premortem"][-1]
    assert (line["decision_id"], line["correlation"], line["ruling"]) == (decided["decision_id"], trace, "approve")
    assert "password" not in json.dumps(line)


def test_a_correlation_that_is_no_id_is_told_as_a_hash_and_an_error_without_its_text() -> None:
    for told in ("Ms Unmistakable, ward 7", "07700900123", "4111111111111111", "078-05-1120", "deadbeef"):
        assert correlation(told).startswith("sha256:")
    for told in ("", "4bf92f3577b34da6a3ce929d0e0e4736", "6F9619FF-8B86-D011-B42D-00CF4FC964FF"):
        assert correlation(told) == told
    try:
        raise ValueError("Ms Unmistakable")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__))
    told = json.loads(JsonLines().format(record))
    assert told["error"] == "ValueError" and "Unmistakable" not in json.dumps(told)


async def test_an_evaluation_is_a_span_with_one_for_each_stage(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    exporter = InMemorySpanExporter()
    metrics = Metrics(lambda: 0.0, spans(SimpleSpanProcessor(exporter)))
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE), metrics=metrics) as house:
        await house.ask()
    found = {span.name: span for span in exporter.get_finished_spans()}
    stages = {f"premortem.{name}" for name in ("anchors", "simulate", "judge", "record")}
    assert set(found) == stages | {"premortem.evaluation"}
    whole = found["premortem.evaluation"].get_span_context()
    for name in stages:
        parent = found[name].parent
        assert whole and parent and parent.span_id == whole.span_id and not found[name].attributes


def test_spans_reach_a_collector() -> None:
    """A real one, as far as HTTP goes: what is posted to it is what the protocol says."""
    posted: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        code = "from service.tracing import exporting; import sys\nwith exporting(sys.argv[1])('judge'): pass"
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        subprocess.run([sys.executable, "-c", code, url], check=True, timeout=60)
        server.shutdown()
    ((path, told),) = posted
    (scope,) = ExportTraceServiceRequest.FromString(told).resource_spans[0].scope_spans
    assert (path, [span.name for span in scope.spans]) == ("/v1/traces", ["premortem.judge"])


async def test_a_part_that_fails_in_a_way_nobody_foresaw_is_trouble_and_is_asked_again(
    house: Premises, bank: EdgeAnchorBank
) -> None:
    now, broken = [0.0], [True]

    async def canary() -> str:
        if broken[0]:
            raise KeyError("odd")
        return ""

    readiness = Readiness(rooms(house), {"canary": canary}, lambda: now[0])
    assert (await readiness.trouble())["canary"] == "it failed: KeyError"
    broken[0], now[0] = False, FRESH_S + 0.1
    assert not any((await readiness.trouble()).values())


async def test_however_often_it_is_asked_whether_it_is_ready_each_part_is_asked_once_in_two_seconds(
    house: Premises, bank: EdgeAnchorBank
) -> None:
    now, asked = [0.0], 0

    async def canary() -> str:
        nonlocal asked
        asked += 1
        return ""

    readiness = Readiness(rooms(house), {"canary": canary}, lambda: now[0])
    await asyncio.gather(*[readiness.trouble() for _ in range(50)])
    assert asked == 1
    now[0] = FRESH_S + 0.1
    await asyncio.gather(*[readiness.trouble() for _ in range(50)])
    await asyncio.sleep(0.2)
    assert asked == 2


async def test_a_known_case_that_cannot_be_read_makes_it_unready(house: Premises) -> None:
    assert (await house.client.get("/readyz")).status_code == 200
    house.world._latency = 10.0
    async with asyncio.timeout(20):
        while (answer := await house.client.get("/readyz")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert "known case" in answer.json()["trouble"]["canary"]
