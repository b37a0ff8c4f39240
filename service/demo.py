"""The worked cases of every domain, put to a running service over HTTP, and read out as a person would want to read them."""

import shutil
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from service.api.callers import Role
from service.api.keys import Key, Keys
from service.app import system_chance
from service.domains import catalog, examples
from service.server import running
from service.settings import Settings

SHOWN = 6
"""Cases a domain: the worked ones and their twins come first in `examples.yaml`."""
COLOURS = {"approve": "green", "escalate": "red"}


async def demo(work: Path) -> int:
    """Keeps its anchors from one run to the next, so that only the first has to index them; the rest starts afresh."""
    console = Console(width=min(118, shutil.get_terminal_size((118, 40)).columns))
    for name in ("keys.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (work / name).unlink(missing_ok=True)
    shown: list[str] = []
    console.print("Starting the service on embedded defaults (no server, no GPU) ...")
    async with (
        running(Settings(data=work, port=0), shown.append) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        keys = {line.split()[0]: line.split()[-1] for line in shown}
        second = Key(name="second-supervisor", role=Role.supervisor)
        keys["second supervisor"] = Keys(work / "keys.json", system_chance().now).make(second)
        console.print(f"It listens on {url}; agents and supervisors have keys of their own.\n")
        wrong = 0
        escalated: dict[str, Any] | None = None
        for domain in catalog():
            console.rule(f"[bold]{domain}")
            for case in [case for case in examples(domain) if "bundled" in case][:SHOWN]:
                decision, took = await _ask(client, keys["agent"], case["proposal"])
                console.print(_panel(case, decision, took))
                wrong += decision["ruling"] != case["bundled"]["ruling"]
                escalated = (
                    decision if decision["basis"] == "simulated" and decision["ruling"] == "escalate" else escalated
                )
        if escalated is not None:
            await _override(client, keys, escalated, console)
    console.print(
        "\nGo on: [bold]make serve[/bold], then open http://127.0.0.1:8000/docs (OpenAPI, with these cases as examples)."
    )
    if wrong:
        console.print(f"[red]{wrong} ruling(s) are not the ones owed in examples.yaml.[/red]")
    return 1 if wrong else 0


async def _ask(client: httpx.AsyncClient, key: str, proposal: dict[str, Any]) -> tuple[dict[str, Any], float]:
    body = {name: proposal[name] for name in ("domain", "state", "action")}
    started = time.perf_counter()
    answer = await client.post("/v1/evaluations", json=body, headers={"Authorization": f"Bearer {key}"})
    answer.raise_for_status()
    decision: dict[str, Any] = answer.json()
    return decision, (time.perf_counter() - started) * 1000


def _panel(case: dict[str, Any], decision: dict[str, Any], took: float) -> Panel:
    action = case["proposal"]["action"]
    colour = COLOURS[decision["ruling"]]
    told = decision["explanation"]
    lines = [f"[dim]{escape(action['kind'])}:[/dim] {escape(action.get('text', ''))}", ""]
    lines += [escape(told["summary"])]
    for factor in told["risk_factors"]:
        seen = f", in {factor['seen_in']} of the bad futures" if factor["seen_in"] else ""
        mark = "over" if factor["exceeded"] else "near"
        value = f"{factor['value']} {factor['unit']}".strip()
        lines.append(escape(f"  - {factor['name']}: {value} ({mark} {factor['threshold']}{seen}; {factor['source']})"))
    lines += [
        escape(f"  = {one['when'][:10]} ({one['similarity']:.2f} alike): {one['summary']}")
        for one in told["precedents"]
    ]
    if told["questions"] and decision["ruling"] == "escalate":
        lines.append(escape("  ? " + " ".join(told["questions"][:3])))
    title = f"[bold {colour}]{decision['ruling'].upper()}[/] - {decision['reason']} ({decision['basis']})"
    return Panel(
        "\n".join(lines),
        title=title,
        subtitle=f"{_risk(decision)}{took:.0f} ms",
        title_align="left",
        border_style=colour,
    )


def _risk(decision: dict[str, Any]) -> str:
    risk = decision["risk"]
    if risk is None:
        return ""
    low, high = risk["interval"]
    return f"risk {risk['adverse_probability']:.2f} ({low:.2f} to {high:.2f}), limit {risk['threshold']:.2f}; "


async def _override(
    client: httpx.AsyncClient, keys: dict[str, str], decision: dict[str, Any], console: Console
) -> None:
    """The same override, tried with the agent's key, then with one supervisor's, then with another's."""
    console.rule("[bold]an override")
    required = decision["override"]["approvals_required"]
    path = f"/v1/decisions/{decision['decision_id']}/override"
    body = {"ruling": "approved", "code": "mitigated", "reason": "Seen in person; the missing measure is in place now."}
    for who in ("agent", "supervisor", "second supervisor")[: required + 1]:
        answer = await client.post(path, json=body, headers={"Authorization": f"Bearer {keys[who]}"})
        told = answer.json()
        given = f"{len(told.get('approvals', ()))} of {required} approvals"
        said = told["detail"] if answer.is_error else given + (", and a permit" if told["permit"] else "")
        console.print(f"  with the {who}'s key: {answer.status_code} {escape(said)}")
