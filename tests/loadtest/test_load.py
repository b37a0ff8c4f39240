"""A fault in the service makes a load test fail: real sockets, the real Locust, and a service that does wrong on purpose."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from loadtest.answers import Answer, Figures, Kind
from loadtest.budgets import BUDGETS, Budget, Profile, profile
from loadtest.load import LOCUSTFILE
from loadtest.traffic import arrivals
from service.domains import catalog, examples
from service.vocabulary.proposal import Action

FINE = {"ruling": "escalate", "reason": "risk_above_threshold", "basis": "simulated"}
UNFOUNDED = {"ruling": "approve", "reason": "within_tolerance", "basis": "history_only"}
BUDGET = "{p50 = 0.25, p99 = 3.0, late = 0.2, simulated = 0.9}"
STALL_S, SHOWN_MS = 1.0, 300.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(
    told: dict[str, Any], *, first_ms: float = 0.0, every: int = 1, status: int = 200, **headers: str
) -> Handler:
    """`told` to every so many; what is fine to the others."""
    numbers = count(1)

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(first_ms / 1000)
        wrong = next(numbers) % every == 0
        return web.json_response(told, status=status, headers=headers) if wrong else web.json_response(FINE)

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def stalling() -> Handler:
    """All who come in the first second after the tenth wait until it is over; everybody else is answered at once."""
    numbers, over = count(1), asyncio.Event()
    over.set()

    async def answer(_: web.Request) -> web.StreamResponse:
        if next(numbers) == 10:
            over.clear()
            asyncio.get_running_loop().call_later(STALL_S, over.set)
        await over.wait()
        return web.json_response(FINE)

    return answer


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/evaluations", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def command(url: str, folder: Path, rate: float, seconds: float) -> tuple[str, ...]:
    folder.mkdir()
    (folder / "budgets.toml").write_text(
        f"[trial]\nrate = {rate}\nduration_s = {seconds}\nmix = {{helpdesk = 1}}\nbudget = {BUDGET}\n"
    )
    told = {"host": url, "budgets": folder / "budgets.toml", "profile": "trial", "json-file": folder / "locust"}
    told |= {"figures": folder / "figures.json", "html": folder / "report.html"}
    options = [f"--{name}={value}" for name, value in told.items()]
    return ("locust", "--headless", "--skip-log-setup", f"--locustfile={LOCUSTFILE}", *options)


async def begun(*module: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", *module, stdout=PIPE, stderr=STDOUT)


async def ended(process: Process) -> tuple[int | None, str]:
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, told.decode()


def slow_ones(folder: Path) -> int:
    """How many of Locust's own response times show that something stood still."""
    (told,) = json.loads((folder / "locust.json").read_text())
    return sum(times for ms, times in told["response_times"].items() if float(ms) > SHOWN_MS)


FAULTS = {
    "is slow": (answering(FINE, first_ms=350), "p50"),
    "answers 500 now and then": (answering({}, every=15, status=500), "errors"),
    "refuses without saying when to come again": (answering({}, every=15, status=503), "errors"),
    "refuses": (answering({}, every=15, status=503, **{"Retry-After": "1"}), "refused"),
    "approves without evidence now and then": (answering(UNFOUNDED, every=15), "errors"),
    "answers from history alone": (answering(FINE | {"basis": "history_only"}), "simulated"),
    "hangs up": (hang_up, "errors"),
}


async def test_every_fault_of_the_service_fails_the_run_and_is_named(tmp_path: Path) -> None:
    async def broken(number: int, handler: Handler) -> tuple[int | None, set[str]]:
        async with listening(handler) as url:
            status, told = await ended(await begun(*command(url, tmp_path / f"{number}", rate=25, seconds=2)))
        return status, {name for name in Budget.model_fields if f"{name} is beyond its budget" in told}

    found = await asyncio.gather(*(broken(number, handler) for number, (handler, _) in enumerate(FAULTS.values())))
    for (fault, (_, owed)), (status, names) in zip(FAULTS.items(), found, strict=True):
        assert status == 1 and owed in names, f"a service that {fault}: exit status {status}, {names}"


async def test_a_stall_shows_in_all_that_came_meanwhile_be_it_the_service_that_stood_still_or_the_generator(
    tmp_path: Path,
) -> None:
    """Callers who wait for their answer would meet it once each. Forty a second come in, and a second is lost in either run."""

    async def stopped(url: str) -> tuple[int | None, str]:
        process = await begun(*command(url, tmp_path / "generator", rate=40, seconds=3))
        await asked.wait()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_S)
        process.send_signal(signal.SIGCONT)
        return await ended(process)

    async def noting(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await answering(FINE)(request)

    asked = asyncio.Event()
    async with listening(stalling()) as stalls, listening(noting) as fine:
        ours = await begun(*command(stalls, tmp_path / "service", rate=40, seconds=3))
        (status, told), (_, other) = await asyncio.gather(ended(ours), stopped(fine))
    assert status == 0, told
    for name in ("service", "generator"):
        assert 15 <= slow_ones(tmp_path / name) <= 60, f"{name}: {told} {other}"
    offered = len([*arrivals(profile("trial", tmp_path / "service" / "budgets.toml"), 1)])
    figures = json.loads((tmp_path / "service" / "figures.json").read_text())["helpdesk"]
    assert figures["offered"] == figures["answered"] == offered
    assert "helpdesk" in (tmp_path / "service" / "report.html").read_text()


async def test_a_service_that_grows_too_much_fails_the_run_that_kept_every_other_budget(tmp_path: Path) -> None:
    """The whole command: the real service is started, asked, and looked at."""
    (tmp_path / "budgets.toml").write_text(
        "[tiny]\nrate = 5\nduration_s = 3\nmix = {helpdesk = 1, safety = 1, triage = 1}\nmemory_growth_mb = -1000\n"
        "budget = {p50 = 10, p99 = 10, late = 1, simulated = 0}\n"
    )
    options = ("--profile=tiny", f"--budgets={tmp_path / 'budgets.toml'}", "--world=scripted", "--history=0")
    status, told = await ended(await begun("loadtest.load", *options, f"--out={tmp_path}"))
    assert status == 1 and "MB more" in told and "beyond its budget" not in told, told
    assert (tmp_path / "load-tiny.html").exists()


# answers and figures


@pytest.mark.parametrize(
    ("told", "kind", "simulated"),
    [
        ({"ruling": "approve", "reason": "within_tolerance", "basis": "simulated"}, Kind.approve, True),
        ({"ruling": "approve", "reason": "not_high_impact", "basis": "none"}, Kind.approve, None),
        ({"ruling": "approve", "reason": "within_tolerance", "basis": "none"}, Kind.error, None),
        (UNFOUNDED, Kind.error, None),
        ({"ruling": "escalate", "reason": "hard_rule", "basis": "hard_rule"}, Kind.escalate, None),
        ({"ruling": "escalate", "reason": "world_model_unavailable", "basis": "none"}, Kind.escalate, False),
        ({"ruling": "perhaps", "reason": "", "basis": ""}, Kind.error, None),
        (["approve"], Kind.error, None),
    ],
)
def test_an_approval_without_evidence_is_an_error_and_so_is_what_is_no_decision(
    told: Any, kind: Kind, simulated: bool | None
) -> None:
    answer = Answer.read(200, {}, json.dumps(told).encode(), 1.0)
    assert (answer.kind, answer.simulated) == (kind, simulated)


def test_a_domain_that_nobody_answered_for_keeps_no_budget() -> None:
    lax = Budget(p50=100, p99=100, errors=1, refused=1, late=1, simulated=0.01)
    assert set(Figures.of([], 800).broken(lax)) == {"p50", "p99", "simulated"}
    refused = [Answer(Kind.refused, 1.0)] * 5
    assert {"p50", "p99"} <= set(Figures.of(refused, 800).broken(lax))


# traffic and budgets


def test_arrivals_come_at_the_profiles_rate_and_three_times_as_often_in_a_spike() -> None:
    burst = profile("burst")
    long = burst.model_copy(update={"duration_s": 100 * burst.spike_every_s})
    kinds = Counter(long.rate_at(arrival.second) for arrival in arrivals(long, 3))
    spiking, calm = 100 * burst.spike_s * burst.peak, 100 * (burst.spike_every_s - burst.spike_s) * burst.rate
    assert kinds[burst.peak] == pytest.approx(spiking, rel=0.1)
    assert kinds[burst.rate] == pytest.approx(calm, rel=0.1)


def test_traffic_is_the_same_for_a_seed_and_every_proposal_can_be_read() -> None:
    smoke = profile("smoke")
    drawn = [*arrivals(smoke, 1)]
    assert drawn == [*arrivals(smoke, 1)] != [*arrivals(smoke, 2)]
    worked = [case["proposal"] for name in catalog() for case in examples(name)]
    assert 0 < sum(each.body in worked for each in drawn) < len(drawn) / 2
    for each in drawn:
        catalog()[each.domain].state_type.model_validate(each.body["state"])
        Action.model_validate(each.body["action"])


@pytest.mark.parametrize("name", ["smoke", "steady", "burst", "soak"])
def test_every_profile_asks_of_every_domain_and_forgives_no_error(name: str) -> None:
    read = profile(name)
    assert {*read.mix} == {*catalog()}
    for domain in catalog():
        assert read.owed(domain).errors == 0 and read.owed(domain).late <= 0.1 and read.owed(domain).simulated >= 0.5


def test_a_profile_that_is_not_there_or_names_no_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rush"):
        profile("rush")
    strange = tmp_path / "budgets.toml"
    strange.write_text(BUDGETS.read_text().replace("triage =", "piloting ="))
    with pytest.raises(ValueError, match="piloting"):
        profile("smoke", strange)
    with pytest.raises(ValueError, match="p95"):
        Profile.model_validate({"rate": 1, "duration_s": 1, "mix": {"triage": 1}, "budget": {"p95": 1}})
