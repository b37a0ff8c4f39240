"""What a load test found, for a person to look at: every figure beside its budget."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from loadtest.answers import Figures
from loadtest.budgets import Profile

SIGNS = {"simulated": "≥"}


def show(found: Mapping[str, Figures], profile: Profile, title: str, lag_ms: float) -> None:
    console = Console(width=150)
    console.print(table(found, profile, title))
    console.print(f"latency counts from when a proposal was due; it was sent {lag_ms:.0f} ms after that at worst")
    for domain, figures in found.items():
        for why, times in figures.whys.items():
            console.print(f"{domain}: {times} x {why}", style="red", markup=False)
        for name in figures.broken(profile.owed(domain)):
            console.print(f"{domain}: {name} is beyond its budget", style="bold red")


def table(found: Mapping[str, Figures], profile: Profile, title: str) -> Table:
    made = Table("domain", "offered", "answered", title=title, title_justify="left")
    names = [*next(iter(found.values())).limits(profile.budget)]
    for name in names:
        made.add_column(f"{name}, ms" if name.startswith("p") else name, justify="right")
    for domain, figures in found.items():
        budget = profile.owed(domain)
        limits, broken = figures.limits(budget), figures.broken(budget)
        cells = [_cell(name, getattr(figures, name), limits[name], name in broken) for name in names]
        made.add_row(domain, str(figures.offered), str(figures.answered), *cells)
    return made


def _cell(name: str, value: float, limit: float, broken: bool) -> str:
    told, owed = (f"{each:.0f}" if name.startswith("p") else f"{each:.1%}" for each in (value, limit))
    text = f"{told} {SIGNS.get(name, '≤')} {owed}"
    return f"[bold red]{text}[/bold red]" if broken else text
