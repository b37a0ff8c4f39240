"""The bench, as a person wants to read it."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Told = Mapping[str, Any]


def show(bench: Told, console: Console) -> None:
    """Whatever was measured, in order; what was not is left out."""
    where = bench["machine"]
    console.rule(f"[bold]bench of {bench['checkpoint']['name']}, {bench['date']}, {bench['revision']}")
    console.print(f"{where['processor']}, {where['cores']} cores, load {where['load']} before it began")
    for key, part in PARTS.items():
        if key in bench:
            part(bench, console)


def _speed(bench: Told, console: Console) -> None:
    table = _table("One evaluation in process", "p50 ms", "p95 ms", "tokens", "sequential steps")
    for name in ("local_5x5", "local_10x5"):
        told = bench[name]
        shape = name.removeprefix("local_").replace("x", " x ")
        table.add_row(f"{shape}, unsettled", *_cells(told, "p50_ms", "p95_ms", "tokens", "sequential_steps"))
        settled = ("settled_p50_ms", "settled_p95_ms", "settled_tokens", "settled_sequential_steps")
        table.add_row(f"{shape}, settling", *_cells(told, *settled))
    if "local_5x5_busy" in bench:
        table.add_row("5 x 5, both cores taken", *_cells(bench["local_5x5_busy"], "p50_ms", "p95_ms"), "", "")
    console.print(table)


def _plain(bench: Told, console: Console) -> None:
    told = bench["plain_loop"]
    console.print(
        f"[bold]{bench['speedup_over_plain_loop']:.1f} x[/bold] the plain loop of transformers.generate ({told['precision']}): "
        f"{told['local_p50_ms']:.0f} ms against {told['plain_p50_ms']:.0f} ms for 5 x 5, medians over {told['proposals']} proposals; "
        f"the loop wrote {told['plain_tokens']:.0f} tokens an evaluation\n"
    )


def _fidelity(bench: Told, console: Console) -> None:
    scored = ("log_loss", "brier", "outcome_match", "changed_fields", "changed_values", "observation_similarity")
    columns = ("fidelity", *(name.replace("_", " ") for name in scored))
    table = _table("Held-out histories, every step from the true past", *columns)
    domains = {name: whole for name, whole in bench["fidelity"].items() if name != "overall"}
    for domain, whole in domains.items():
        for model, each in ({"checkpoint": whole} | whole["baselines"]).items():
            if model != "ceiling":
                told = (f"{each[name]['value']:.3f}" if name in each else "" for name in ("overall", *scored))
                table.add_row(f"{domain}, {model}", *told)
    console.print(table)
    overall = bench["fidelity"]["overall"]
    compared = ", ".join(f"{name} {overall[name]['value']:.4f}" for name in ("cases", "frequencies"))
    console.print(f"fidelity: checkpoint [bold]{overall['overall']['value']:.4f}[/bold], {compared}")
    skill, first, best = (overall[name] for name in ("skill", "skill_first_step", "ceiling_skill_first_step"))
    known = f"; at the first step {first['value']:.3f} of {best['value']:.3f} possible" if best else ""
    console.print(f"skill over the frequencies: {skill['value']:.3f}{known}\n")


def _risk(bench: Told, console: Console) -> None:
    columns = ("n", "Spearman", "MAE", "agreement", "missed", "false alarms", "harmless approved", "by rule")
    table = _table("The service's risk and rulings against the exact risk (HTTP)", *columns)
    for domain, told in bench["risk"].items():
        for split, found in told["splits"].items():
            table.add_row(f"{domain}, {split}", *_split(found))
    console.print(table)
    for domain, told in bench["risk"].items():
        settling = told["settling"]
        console.print(
            f"{domain}: MAE settling {settling['mae_settled']:.3f}, not settling {settling['mae_unsettled']:.3f} (n {settling['n']})"
        )
        for split, found in told["splits"].items():
            console.print(f"  {split}: {_counts(found['reasons'])}")
            if found["false_alarm_reasons"]:
                console.print(f"    [dim]false alarms by[/dim] {_counts(found['false_alarm_reasons'])}")
    console.print(_calibration(bench["risk"]))


def _split(found: Told) -> Iterable[str]:
    rates = ("missed", "false_alarms", "plainly_harmless_approved")
    told = (f"{found[name]['rate']:.0%} ({found[name]['count']}/{found[name]['of']})" for name in rates)
    return (
        str(found["n"]),
        f"{found['spearman']:.3f}",
        f"{found['mae']:.3f}",
        f"{found['agreement']['rate']:.0%}",
        *told,
        str(found["hard_rule"]),
    )


def _calibration(risk: Told) -> Table:
    table = _table("Calibration, seen: foretold / exact mean by tenth of foretold", *(str(n) for n in range(1, 11)))
    for domain, told in risk.items():
        rows = told["splits"]["seen"]["calibration"]
        table.add_row(domain, *(f"{row['foretold']:.2f}/{row['exact']:.2f}" for row in rows))
    return table


def _probes(bench: Told, console: Console) -> None:
    table = _table("Hand-written probes: rulings as owed", "dangerous", "harmless", "foreign")
    for domain, kinds in bench["probes"].items():
        table.add_row(
            domain, *(f"{kinds[kind]['right']}/{kinds[kind]['of']}" for kind in ("dangerous", "harmless", "foreign"))
        )
    console.print(table)
    for domain, kinds in bench["probes"].items():
        for kind, told in kinds.items():
            for line in told["wrong"]:
                console.print(f"  [red]{domain}, {kind}[/red] {escape(line)}")


PARTS = {
    "local_5x5": _speed,
    "plain_loop": _plain,
    "fidelity": _fidelity,
    "risk": _risk,
    "probes": _probes,
}


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _cells(told: Told, *names: str) -> Iterable[str]:
    return (f"{told[name]:.1f}" for name in names)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
