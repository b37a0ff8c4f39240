"""What watches the service: rules, dashboards and runbook ask for what there is, and say the same."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from service.admission import Effort
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.api.callers import Role
from service.metrics import Metrics
from service.vocabulary.decision import Mode, OverrideCode, OverrideRuling
from service.vocabulary.rollout import Ending
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Basis, Reason, Ruling
from service.world.scripted import ScriptedWorldModel
from tests.service.house import BAD, FINE, body, premises, stocked

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS, GRAFANA, RUNBOOK = DEPLOY / "prometheus", DEPLOY / "grafana", DEPLOY / "runbook.md"
ALERTS = PROMETHEUS / "alerts.yml"
SEVERITIES, TEAMS = {"page", "ticket", "info"}, {"platform", "model", "supervisors"}
SCRAPED = {"job", "instance"}
PROMETHEUS_OWN = {"up": SCRAPED, "ALERTS": {"alertname", "alertstate", "severity", "team"}}
VALUES: Mapping[str, set[str]] = {
    "ruling": {*Ruling, *OverrideRuling},
    "reason": {*Reason},
    "basis": {*Basis},
    "mode": {*Mode},
    "ending": {*Ending},
    "code": {*OverrideCode},
    "severity": {each.name for each in Severity},
    "effort": {*Effort, "refused"},
    "part": {"world", "candidate", "anchors", "ledger", "canary", "candidate_canary"},
    "result": {"hit", "miss", "unavailable", "answered", "late", "lost"},
    "status": {"500", "503"},
}
"""What a label may say: an alert on a word that nobody says would never fire."""
NAME = re.compile(r"(?<![\w:])((?:domain:)?premortem_[a-z_0-9]+(?::\w+)?|up|ALERTS)(?![\w:])\s*(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*[=!]~?\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
INLINE, INDENTED = re.compile(r"`([^`]+)`"), re.compile(r"^ {4,}(?!\s*[-\\])(\S.*)$", re.M)


@pytest.fixture(scope="module")
def bank(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeAnchorBank]:
    made = stocked(tmp_path_factory.mktemp("anchors"), encoder)
    yield made
    asyncio.run(made.aclose())


def promtool(*told: str, cwd: Path = ROOT) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool here: apt-get install prometheus")
    ended = subprocess.run(["promtool", *told], cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@cache
def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}


@cache
def sections() -> dict[str, str]:
    """Of the runbook, by their titles."""
    parts = re.split(r"^#{2,3} (.+)$", RUNBOOK.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, dashboard in dashboards().items():
        yield from ((f"{name}: {panel['title']}", panel) for panel in dashboard["panels"])


def plain(expression: str) -> str:
    """As Grafana would send it."""
    return expression.replace("$__rate_interval", "1m").replace("$domain", ".*")


def runbook_queries() -> Iterator[str]:
    """What is written as code there and names a metric, but for the lines that call a program."""
    text = RUNBOOK.read_text()
    for told in (*INLINE.findall(text), *INDENTED.findall(text)):
        if "premortem_" in told and not re.search(r"\b(curl|docker|kubectl|export)\b", told):
            yield told


def queries() -> dict[str, str]:
    """Everything that is asked of Prometheus, by where it stands."""
    asked = {f"alerts.yml {rule.get('alert') or rule['record']}": rule["expr"] for rule in rules()}
    for where, panel in panels():
        asked |= {f"{where} {each['refId']}": plain(each["expr"]) for each in panel["targets"]}
    return asked | {f"runbook.md {told}": told for told in runbook_queries()}


def fed() -> Metrics:
    """Every instrument, with one child for each."""
    metrics = Metrics(lambda: 0.0, CollectorRegistry())
    for instrument in vars(metrics).values():
        if names := getattr(instrument, "_labelnames", ()):
            instrument.labels(*("some",) * len(names))
    metrics.build.labels("world").info({"engine": "", "checkpoint": "", "codec": "", "anchors": ""})
    metrics.policy.labels("some").info({"policy": ""})
    return metrics


def families(exposition: str) -> list[Metric]:
    return list((open_metrics if exposition.endswith("# EOF\n") else plain_text)(exposition))


def labels_of(exposition: str) -> dict[str, set[str]]:
    """Of every series there is."""
    told: dict[str, set[str]] = {}
    for family in families(exposition):
        for sample in family.samples:
            told.setdefault(sample.name, set()).update(sample.labels)
    return told


def known() -> dict[str, set[str]]:
    exposed = {name: labels | SCRAPED for name, labels in labels_of(fed().exposed().decode()).items()}
    recorded = {rule["record"]: {"domain"} for rule in rules() if "record" in rule}
    return exposed | recorded | PROMETHEUS_OWN


def missing(asked: Mapping[str, str], there: Mapping[str, set[str]]) -> list[str]:
    """Which names, labels and values are asked for that there are not."""
    wrong = []
    for where, expression in asked.items():
        metrics = NAME.findall(expression)
        labels = set().union(*(there.get(name, set()) for name, _ in metrics))
        wrong += [f"{where}: no metric {name}" for name, _ in metrics if name not in there]
        grouped = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
        wrong += [f"{where}: no label {label} to group by" for label in grouped - labels - {""} if metrics]
        for name, matchers in metrics:
            for label, value in MATCHER.findall(matchers):
                if label not in there.get(name, {label}):
                    wrong.append(f"{where}: {name} has no label {label}")
                if label in VALUES and name not in PROMETHEUS_OWN:
                    wrong += [f"{where}: {label} is never {word}" for word in set(value.split("|")) - VALUES[label]]
    return wrong


# Prometheus


def test_prometheus_takes_the_configuration_and_every_rule() -> None:
    told = promtool("check", "config", "deploy/prometheus/prometheus.yml")
    assert f"{len(rules())} rules found" in told


def test_every_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    promtool("test", "rules", "alerts.test.yml", cwd=PROMETHEUS)


def test_every_alert_is_tested_both_ways() -> None:
    names = [each["name"] for each in yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]]
    for alert in alerts():
        said = {word for name in names for word in ("fires", "is silent") if name.startswith(f"{alert} {word} ")}
        assert said == {"fires", "is silent"}, alert


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in SEVERITIES and alert["labels"]["team"] in TEAMS, name
        told = alert["annotations"]
        assert set(told) == {"summary", "description", "runbook_url"}, name
        assert len(told["summary"]) < 90 and len(told["description"]) > 40, name
        page, anchor = told["runbook_url"].split("#")
        assert (ROOT / page) == RUNBOOK and anchor == name.lower(), name


# names


def test_whatever_is_asked_for_is_counted() -> None:
    assert missing(queries(), known()) == []


def test_the_check_would_see_a_slip() -> None:
    slips = {
        "name": "rate(premortem_evaluation_total[5m])",
        "label": 'premortem_part_up{parts="ledger"}',
        "value": 'premortem_part_up{part="ledgers"}',
        "group": "sum by (domains) (premortem_missed_adverse_outcomes_total)",
    }
    assert len(missing(slips, known())) == len(slips)


def test_everything_that_is_counted_is_looked_at_somewhere() -> None:
    asked = " ".join(queries().values())
    counted = {
        re.sub(r"_(total|bucket|count|sum|created|info)$", "", name) for name in labels_of(fed().exposed().decode())
    }
    assert {name for name in counted if name not in asked} == set()


async def test_a_real_run_exposes_what_is_asked_for(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE, BAD)) as house:
        await house.ask()
        escalated = (await house.ask(body(action={"text": "Rotate the password of the whole department now."}))).json()
        await house.overrule(escalated["decision_id"])
        house.key("reporter", Role.outcome)
        place = f"/v1/decisions/{escalated['decision_id']}/outcome"
        await house.client.post(place, json={"outcome": "resolved"}, headers=house.shown("reporter"))
        await house.client.get("/readyz")
        answer = await house.client.get("/metrics")
    assert answer.status_code == 200
    every = fed().exposed().decode()
    assert {each.name for each in families(every)} <= {each.name for each in families(answer.text)}
    for name, labels in labels_of(answer.text).items():
        if name.startswith("premortem_"):
            assert labels == labels_of(every)[name], name


# runbook


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert {title for title in sections() if title.startswith("Premortem")} == set(alerts())


def test_every_section_says_what_it_means_what_to_do_and_whom_to_wake() -> None:
    for name in alerts():
        said = re.findall(r"^- \*\*([^*]+)\.\*\*", sections()[name], re.M)
        assert ", ".join(said) in ("Means, See, Do, Wake", "Means, see, Do, Wake"), name
        assert len(sections()[name].split()) < 180, f"{name}: too long for 2 a.m."


def test_whatever_the_runbook_links_to_is_there() -> None:
    text = RUNBOOK.read_text()
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in sections()}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        there = link[1:] in anchors if link.startswith("#") else (DEPLOY / link).exists()
        assert there, link
    for path in re.findall(r"\bdeploy/[\w./-]+\w", re.sub(r"\S*deploy/premortem|undo deploy/\w+", "", text)):
        assert (ROOT / path).exists(), path


def test_the_panels_and_programs_that_the_runbook_names_exist() -> None:
    text = RUNBOOK.read_text()
    titles = {panel["title"] for _, panel in panels()}
    assert {asked for asked in re.findall(r"\*([A-Z][^*\n]+\?)\*", text)} <= titles
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    for line in re.findall(r"docker compose --profile gpu (?:logs|ps|restart)([^`\n#]*)", text):
        assert {word for word in line.split() if re.fullmatch(r"[a-z]+", word)} <= services, line
    for words in set(re.findall(r"\bpremortem ((?:keys|audit|permit|policies) \w+)", text)):
        command = [sys.executable, "-m", "service", *words.split(), "--help"]
        assert subprocess.run(command, capture_output=True, cwd=ROOT, check=False).returncode == 0, words


async def test_the_endpoints_that_the_runbook_names_exist(tmp_path: Path, bank: EdgeAnchorBank) -> None:
    async with premises(tmp_path, bank, ScriptedWorldModel(FINE)) as house:
        paths = set(house.app.openapi()["paths"]) | {"/metrics"}
    patterns = [re.compile(re.sub(r"\\{[^}]*\\}", r"[^/]+", re.escape(path))) for path in paths]
    for named in re.findall(r"(?:\$PREMORTEM|GET |POST |`)(/[\w/{}.-]+)", RUNBOOK.read_text()):
        assert any(pattern.fullmatch(named) for pattern in patterns), named


# dashboards


def test_the_dashboards_are_what_their_source_writes(tmp_path: Path) -> None:
    for name in ("dashboards.py", "panels.py"):
        shutil.copy(GRAFANA / name, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "dashboards.py")], check=True)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.json")} == {
        path.name: path.read_text() for path in GRAFANA.glob("*.json")
    }, "python deploy/grafana/dashboards.py"


def test_every_panel_asks_a_question_and_asks_it_of_the_chosen_source() -> None:
    assert len(dashboards()) == 4
    for where, panel in panels():
        assert panel["title"].endswith("?"), where
        assert panel["fieldConfig"]["defaults"]["unit"] and panel["fieldConfig"]["defaults"]["thresholds"]["steps"], (
            where
        )
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), where
    for name, dashboard in dashboards().items():
        assert dashboard["uid"] == f"premortem-{name}" and dashboard["schemaVersion"] == 39
        titles = [panel["title"] for panel in dashboard["panels"]]
        assert len(set(titles)) == len(titles) and len({panel["id"] for panel in dashboard["panels"]}) == len(titles)
        names = [variable["name"] for variable in dashboard["templating"]["list"]]
        used = set(re.findall(r"\$\{?(domain|datasource)\b", json.dumps(dashboard["panels"])))
        assert set(names) == used, name


def test_the_legends_name_labels_that_their_queries_leave() -> None:
    there = known()
    for where, panel in panels():
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            groups = [set(re.split(r",\s*", group)) for group in GROUPED.findall(target["expr"])]
            left = groups[0] if groups else set().union(*(there[name] for name, _ in NAME.findall(target["expr"])))
            assert named <= left, where


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    """`promtool` reads no query offline, but rules: so each becomes one."""
    wrapped = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(queries().values())]
    wrapped = [{"record": each["record"].replace(":", ":n"), "expr": each["expr"]} for each in wrapped]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "every", "rules": wrapped}]}))
    assert f"{len(wrapped)} rules found" in promtool("check", "rules", str(tmp_path / "queries.yml"))


def test_grafana_finds_the_dashboards_and_its_source() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "premortem.yml").read_text())["providers"][0]
    assert provider["type"] == "file" and provider["options"]["path"] == "/var/lib/grafana/dashboards"
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus" and source["isDefault"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert source["url"].strip("${}") in grafana["environment"]
    assert f"./deploy/grafana:{provider['options']['path']}:ro" in grafana["volumes"]
