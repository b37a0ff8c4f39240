"""The four dashboards without a Grafana: a real service under a little load, a real Prometheus, and the panels' own queries drawn.

    python -m loadtest.screens --seconds 180        # writes deploy/grafana/screens/*.png

What is asked is drawn from the reference history, and what is reported is what followed there. Supervisors rule at once, in
time, or not at all; for some seconds in the middle more is asked than can be answered.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from loadtest.process import Service, started
from loadtest.prometheus import Prometheus, Told, installed, watching
from service.anchors.history import draw
from service.api.callers import Role
from service.domains import catalog, reference

ROOT = Path(__file__).parents[1]
DASHBOARDS, SCREENS = ROOT / "deploy" / "grafana", ROOT / "deploy" / "grafana" / "screens"
ACROSS, LETTERS, COLOURS, DPI = 3, 68, 128, 76
CALLERS, SUPERVISORS, BURST, BURST_S, PAUSE_S = 2, 24, 16, 8.0, 0.5
UNREAD, RULED = 0.1, 0.7
"""Of escalations this share is approved unread, and up to this one a person rules at all."""
READING_S = (3.5, 20.0)
CODES = ("mitigated", "risk_accepted", "evidence_wrong", "emergency")
RATE = "15s"
DOMAINS = tuple(catalog())


# load


@dataclass(frozen=True)
class Load:
    """Callers, supervisors and reporters, each with a key of their own."""

    service: Service
    desk: ThreadPoolExecutor
    until: float

    def call(self, seed: int) -> None:
        """One caller: asks, and of what was ruled some is ruled on again, and all is reported on."""
        chance, agent, reporter = Random(seed), self.service.client(Role.agent), self.service.client(Role.outcome)
        for number in count(seed * 10_000):
            if time.monotonic() > self.until:
                return
            body, followed = drawn(chance.choice(DOMAINS), number)
            answer = agent.post("/v1/evaluations", json=body)
            if answer.status_code != httpx.codes.OK:
                continue
            place, luck = f"/v1/decisions/{answer.json()['decision_id']}", chance.random()
            if answer.json()["ruling"] == "escalate" and luck < RULED:
                reading_s = 0.0 if luck < UNREAD else chance.uniform(*READING_S)
                ruling = "approved" if luck < (UNREAD + RULED) / 2 else "denied"
                self.desk.submit(self._rule, f"{place}/override", ruling, reading_s)
            reporter.post(f"{place}/outcome", json={"outcome": followed})

    def burst(self, seed: int) -> None:
        """One of many at once."""
        agent, until = self.service.client(Role.agent), time.monotonic() + BURST_S
        for number in count(seed * 10_000):
            if time.monotonic() > until:
                return
            agent.post("/v1/evaluations", json=drawn(DOMAINS[number % len(DOMAINS)], number)[0])
            time.sleep(PAUSE_S)

    def _rule(self, place: str, ruling: str, reading_s: float) -> None:
        time.sleep(reading_s)
        code = "unsafe" if ruling == "denied" else CODES[int(reading_s) % len(CODES)]
        told = {"ruling": ruling, "code": code, "reason": "Looked at in a load test."}
        with self.service.client(Role.supervisor) as client:
            client.post(place, json=told)


def drawn(domain: str, number: int) -> tuple[Told, str]:
    """A proposal of the reference history, and the worst that followed it there."""
    field = catalog()[domain]
    scenario, trajectory = draw(reference(domain), field, "screens", number)
    worst = max((step.outcome for step in trajectory.transitions), key=field.outcomes.names.index)
    asked = {"state": scenario.state.model_dump(mode="json"), "action": scenario.action.model_dump(mode="json")}
    return {"domain": domain, **asked}, worst


def load(service: Service, seconds: float) -> None:
    with ThreadPoolExecutor(SUPERVISORS) as desk, ThreadPoolExecutor(CALLERS + BURST) as pool:
        crowd = Load(service, desk, time.monotonic() + seconds)
        callers = [pool.submit(crowd.call, seed) for seed in range(CALLERS)]
        time.sleep(seconds * 0.6)
        bursts = [pool.submit(crowd.burst, seed) for seed in range(CALLERS, CALLERS + BURST)]
        for each in (*callers, *bursts):
            each.result()


# drawing


def picture(dashboard: Told, prometheus: Prometheus, start: float, end: float, out: Path) -> None:
    panels = dashboard["panels"]
    rows = -(-len(panels) // ACROSS)
    figure = Figure(figsize=(17, 3.7 * rows), dpi=DPI, layout="constrained")
    figure.suptitle(dashboard["title"], fontsize=16)
    places = list(figure.subplots(rows, ACROSS, squeeze=False).flat)
    for place, panel in zip(places, panels, strict=False):
        place.set_title(panel["title"], fontsize=10.5, loc="left", fontweight="bold")
        KINDS[panel["type"]](place, panel, prometheus, start, end)
    for place in places[len(panels) :]:
        place.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    Image.open(out).convert("RGB").quantize(COLOURS).save(out, optimize=True)


def _series(
    panel: Told, prometheus: Prometheus, start: float, end: float
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Legend, seconds since the start, values."""
    for target in panel["targets"]:
        for each in prometheus.range(plain(target["expr"]), start, end):
            values = [(at - start, float(value)) for at, value in each["values"]]
            yield legend(target, each["metric"]), [at for at, _ in values], [value for _, value in values]


def plain(expression: str) -> str:
    """As Grafana would send it, with every domain chosen."""
    return expression.replace("$__rate_interval", RATE).replace("$domain", ".*")


def legend(target: Told, labels: Told) -> str:
    text: str = target["legendFormat"]
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def _lines(place: Axes, panel: Told, prometheus: Prometheus, start: float, end: float) -> None:
    told = panel["fieldConfig"]["defaults"]
    series = [each for each in _series(panel, prometheus, start, end) if any(value == value for value in each[2])]
    if not series:
        _say(place, "nothing: it did not happen")
    elif told["custom"]["stacking"]["mode"] == "normal":
        every = sorted({at for _, seconds, _ in series for at in seconds})
        heights = [
            [dict(zip(seconds, values, strict=True)).get(at, 0.0) for at in every] for _, seconds, values in series
        ]
        place.stackplot(every, heights, labels=[name for name, _, _ in series], alpha=0.7)
    else:
        for name, seconds, values in series:
            place.plot(seconds, values, label=name, linewidth=1.6)
    top = told.get("max") or place.get_ylim()[1]
    place.set_ylim(-0.03 * top, top)
    place.set_xlim(0, end - start)
    place.grid(alpha=0.3)
    if told["unit"] == "percentunit":
        place.yaxis.set_major_formatter(PercentFormatter(1.0))
    for step in told["thresholds"]["steps"][1:]:
        if step["value"] <= top:
            place.axhline(step["value"], color="goldenrod" if step["color"] == "yellow" else "firebrick", linestyle=":")
    if series:
        longest = max(len(name) for name, _, _ in series)
        ncols = max(1, min(3, LETTERS // (longest + 6)))
        place.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=ncols, frameon=False)


def _say(place: Axes, text: str, size: int = 10) -> None:
    place.text(0.5, 0.5, text, ha="center", va="center", fontsize=size, transform=place.transAxes)


def _stat(place: Axes, panel: Told, prometheus: Prometheus, start: float, end: float) -> None:
    words = {"0": "down", "1": "up"} if panel["fieldConfig"]["defaults"]["mappings"] else {}
    lines = []
    for target in panel["targets"]:
        for each in prometheus.query(plain(target["expr"])):
            lines.append(f"{legend(target, each['metric'])}: {words.get(each['value'][1], each['value'][1])}")
    place.set_axis_off()
    _say(place, "\n".join(lines), 15)


def _table(place: Axes, panel: Told, prometheus: Prometheus, start: float, end: float) -> None:
    found = prometheus.query(plain(panel["targets"][0]["expr"]))
    hidden = ("__name__", "job", "instance")
    rows = [f"{name}: {value}" for each in found for name, value in each["metric"].items() if name not in hidden]
    place.set_axis_off()
    _say(place, "\n".join(rows), 12)


def _heatmap(place: Axes, panel: Told, prometheus: Prometheus, start: float, end: float) -> None:
    told = sorted(_series(panel, prometheus, start, end), key=lambda each: float(each[0]))
    told = [each for each in told if each[0] != "+Inf"]
    heights = [values for _, _, values in told]
    columns = list(zip(*heights, strict=True))
    steps = [[max(0.0, high - low) for low, high in zip((0.0, *column), column, strict=False)] for column in columns]
    place.pcolormesh(told[0][1], range(len(told)), list(zip(*steps, strict=True)), cmap="Oranges", shading="nearest")
    place.set_yticks(range(len(told)), [f"≤ {name}" for name, _, _ in told], fontsize=7)


KINDS = {"timeseries": _lines, "stat": _stat, "table": _table, "heatmap": _heatmap}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m loadtest.screens", description="The four dashboards, drawn from a real run"
    )
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--history", type=int, default=150, help="recorded trajectories a domain")
    parser.add_argument("--out", type=Path, default=SCREENS)
    arguments = parser.parse_args()
    if not installed():
        raise SystemExit("there is no Prometheus here: apt-get install prometheus")
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder) / "service", world="local", bundled_history=arguments.history) as service,
        watching(Path(folder) / "prometheus", service.url.removeprefix("http://")) as prometheus,
    ):
        start = prometheus.now()
        load(service, arguments.seconds)
        for path in sorted(DASHBOARDS.glob("*.json")):
            out = arguments.out / f"{path.stem}.png"
            picture(json.loads(path.read_text()), prometheus, start, prometheus.now(), out)
            print(f"{out} {out.stat().st_size // 1_000} kB")


if __name__ == "__main__":
    main()
