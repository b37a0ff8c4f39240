"""The command `premortem`: it starts and answers, or says in one sentence why not."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.__main__ import main
from service.api.keys import Keys
from service.domains import catalog
from service.server import NotStarted, running
from service.server import _bound as bound
from service.settings import Settings
from service.world.checkpoint import BadCheckpoint
from tests.service.house import NOON

ROOT = Path(__file__).parents[2]


Told = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """Runs the command in this process with these settings; the one line it ends with."""

    def told(*words: str, **settings: object) -> str:
        for name, value in ({"data": tmp_path / "data"} | settings).items():
            monkeypatch.setenv(f"PREMORTEM_{name.upper()}", str(value))
        monkeypatch.setattr(sys, "argv", ["premortem", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert capsys.readouterr().out == ""
        line = str(ended.value.code)
        assert line.startswith("premortem: ") and "\n" not in line
        return line

    return told


def test_serve_without_a_checkpoint_fails_at_start_with_one_sentence(tmp_path: Path) -> None:
    told = {"PREMORTEM_DATA": str(tmp_path), "PREMORTEM_CHECKPOINT": str(tmp_path / "nowhere"), "PREMORTEM_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "service", "serve"], cwd=ROOT, env=os.environ | told, capture_output=True, text=True
    )
    assert ended.returncode == 1 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("premortem: ") and str(tmp_path / "nowhere") in line and "No such file" in line


@pytest.mark.parametrize("manifest", ["", "{}", '{"name": 1}'])
def test_serve_with_a_bad_checkpoint_says_that_it_is_bad(refused: Told, tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert f"{tmp_path}: " in refused("serve", checkpoint=tmp_path, port=0)
    assert not (tmp_path / "data" / "keys.json").exists(), "keys would be shown for a service that never was"


def test_serve_with_a_port_that_cannot_be_names_the_setting(refused: Told) -> None:
    assert "PREMORTEM_PORT" in refused("serve", port=99_999)


def test_serve_with_limits_that_contradict_each_other_says_so(refused: Told) -> None:
    assert "in_flight <= max_in_flight" in refused("serve", in_flight=9, max_in_flight=3)


def test_serve_without_authentication_beyond_the_loopback_is_refused(refused: Told) -> None:
    assert "loopback" in refused("serve", authentication=False, host="0.0.0.0")


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's delay off only for sockets that name their protocol; with it on an answer takes 40 ms longer."""
    with bound(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_serve_on_a_port_that_is_taken_says_so_before_it_furnishes_anything(refused: Told, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "in use" in refused("serve", port=taken.getsockname()[1])
    assert not (tmp_path / "data").exists()


def test_a_key_is_made_shown_once_and_its_name_taken(
    refused: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PREMORTEM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "argv", ["premortem", "keys", "make", "maria", "supervisor"])
    with pytest.raises(SystemExit, match="0"):
        main()
    key = capsys.readouterr().out.strip()
    assert re.fullmatch(r"pm_supervisor_[\w-]{43}", key)
    (kept,) = Keys(tmp_path / "data" / "keys.json", lambda: NOON).all()
    assert kept.name == "maria" and key.startswith(kept.prefix)
    assert "maria" in refused("keys", "make", "maria", "agent")
    assert "nobody" in refused("keys", "rotate", "nobody") and "nobody" in refused("keys", "revoke", "nobody")


def test_serve_with_a_bad_policy_file_names_it_before_anything_is_made(refused: Told, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "safety.yaml").write_text("version: a\nthreshold: yes\n")
    assert "safety.yaml: threshold: " in refused("serve", policies=tmp_path / "policies", port=0)
    assert not (tmp_path / "data").exists()


def test_policies_are_checked_before_they_are_put_in_place(
    refused: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["premortem", "policies", "check", str(tmp_path)])
    (tmp_path / "triage.yaml").write_text("version: spring\nhorizon: 4\n")
    with pytest.raises(SystemExit, match="0"):
        main()
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(told) == set(catalog()) and re.fullmatch(r"spring:[0-9a-f]{12}", told["triage"])
    assert told["safety"] == catalog()["safety"].policy.name
    (tmp_path / "triage.yaml").write_text("version: spring\nhorizon: 40\n")
    assert "triage.yaml: horizon: " in refused("policies", "check", str(tmp_path))


def embedded(data: Path, **changed: object) -> Settings:
    """A service without a language model or any history, whose sentence encoder is built already."""
    data.mkdir(exist_ok=True)
    (data / "cache").symlink_to(ROOT / "build" / "cache")
    return Settings.model_validate({"data": data, "port": 0, "world": "scripted", "bundled_history": 0} | changed)


@pytest.mark.usefixtures("encoder")
async def test_a_service_that_runs_tells_its_address_answers_and_lets_go_of_what_it_held(tmp_path: Path) -> None:
    said: list[str] = []
    settings = embedded(tmp_path / "data")
    for start in range(2):
        async with running(settings, lambda line: said.append(str(line))) as url, httpx.AsyncClient() as client:
            answer = await client.get(f"{url}/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "ready"), start
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0))
    assert [line.split()[0] for line in said] == ["agent", "supervisor"], "keys are shown at the first start alone"


async def test_a_start_that_fails_raises_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="nowhere"):
        async with running(Settings(data=tmp_path, port=0, checkpoint=tmp_path / "nowhere"), print):
            raise AssertionError("it runs")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NotStarted, match="in use"):
        async with running(Settings(data=tmp_path, port=taken.getsockname()[1]), print):
            raise AssertionError("it runs")
