"""The house's rules, each in a sentence."""

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
OURS = ("service", "models", "loadtest")
MAY_PRINT = ("service/__main__.py", "service/demo.py", "models/", "loadtest/")
MAY_TELL_TIME = ("service/app.py", "models/__main__.py")
HEAVY = {"torch", "transformers", "sentence_transformers"}
WEIGHTS = {".safetensors", ".onnx", ".pt", ".pth", ".bin", ".gguf", ".npz", ".npy"}
ANY_DOMAIN = {
    *("state", "outcomes", "forecast", "policy", "rules", "grounding", "explain", "domain", "reference"),
    *("consistency", "planted", "fairness"),
}


@cache
def sources() -> dict[str, str]:
    """Every module of ours, by its path."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for folder in OURS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@cache
def trees() -> dict[str, ast.Module]:
    return {path: ast.parse(text) for path, text in sources().items()}


def nodes(*kinds: type[ast.AST], but: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.AST]]:
    """Every node of these kinds, with where it stands; `but` names the places that are free of the rule."""
    for path, tree in trees().items():
        if not path.startswith(but):
            for node in ast.walk(tree):
                if isinstance(node, kinds):
                    yield f"{path}:{getattr(node, 'lineno', 0)}", node


def test_imports_flow_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    broken = lint_imports()
    assert broken == 0, capsys.readouterr().out


def test_nobody_prints_but_the_commands() -> None:
    """`say=print` in the composition root is no call: who starts the service decides where the keys are shown."""
    calls = nodes(ast.Call, but=MAY_PRINT)
    assert [at for at, call in calls if isinstance(call, ast.Call) and ast.unparse(call.func) == "print"] == []


def test_time_and_chance_are_handed_in() -> None:
    """Ids by name (uuid5) and generators with a seed are functions of their arguments, and free to all."""
    forbidden = re.compile(
        r"(datetime\.)?(datetime|date)\.(now|utcnow|today)|time\.(time|time_ns)|(uuid\.)?uuid[14]"
        r"|random\.[a-z_]+|(np|numpy)\.random\.(?!default_rng)[a-z_]+|(random\.)?(SystemRandom|Random)"
    )
    for at, call in nodes(ast.Call, but=MAY_TELL_TIME):
        assert isinstance(call, ast.Call)
        name = ast.unparse(call.func)
        seeded = name in ("Random", "random.Random") and call.args
        assert seeded or not forbidden.fullmatch(name), f"{at} {name}"
        assert call.args or not name.endswith("default_rng"), f"{at} draws without a seed"
    for at, node in nodes(ast.ImportFrom, but=MAY_TELL_TIME):
        assert isinstance(node, ast.ImportFrom)
        names = {each.name for each in node.names}
        assert not (node.module == "time" and names & {"time", "time_ns"}), at
        assert not (node.module == "random" and names - {"Random"}), at
        assert not (node.module == "uuid" and names & {"uuid1", "uuid4"}), at


def test_no_function_changes_a_global() -> None:
    assert [at for at, _ in nodes(ast.Global)] == []


def test_the_map_names_every_room_and_nothing_else() -> None:
    text = ast.get_docstring(trees()["service/__init__.py"]) or ""
    keys = [re.split(r"\s{2,}", line)[0] for line in text.splitlines() if re.search(r"\S\s{2,}\S", line)]
    mapped = [name.strip() for key in keys for name in key.split(",")]
    there = {path.stem for path in (ROOT / "service").glob("*.py")} - {"__init__"}
    there |= {f"{path.parent.name}/" for path in (ROOT / "service").glob("*/__init__.py")}
    assert sorted(mapped) == sorted(there)


def test_the_error_tree_is_drawn_as_it_is() -> None:
    from service import errors

    drawn = dict(re.findall(r"[├└]── (\w+)\s+(\d+)", errors.__doc__ or ""))
    made = {error.__name__: str(error.status) for error in errors.PremortemError.__subclasses__()}
    assert drawn == made


def test_every_function_says_what_it_returns() -> None:
    bare = [
        at
        for at, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is None
    ]
    assert bare == []


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = re.compile(r"(^|_)(utils?|commons?|helpers?|base|managers?|misc|core)(_|$)")
    assert [path for path in sources() if any(drawers.search(Path(part).stem) for part in Path(path).parts)] == []


def test_a_module_fits_on_a_page_or_three() -> None:
    lengths = {path: text.count("\n") for path, text in sources().items() if not path.endswith("__init__.py")}
    assert median(lengths.values()) <= 110
    long = {path: lines for path, lines in lengths.items() if lines > 250}
    assert len(long) <= len(lengths) / 6, long
    assert max(lengths.values()) <= 600, long


def test_comments_are_rare() -> None:
    lines = comments = 0
    for text in sources().values():
        lines += text.count("\n")
        comments += sum(each.type == tokenize.COMMENT for each in tokenize.generate_tokens(io.StringIO(text).readline))
    assert comments / lines <= 0.04, f"{comments} of {lines}"


def test_every_domain_is_built_of_the_same_files() -> None:
    folders = [path.parent for path in (ROOT / "service" / "domains").glob("*/__init__.py")]
    assert len(folders) >= 3
    for folder in folders:
        owed = {f"{name}.py" for name in ANY_DOMAIN} | {"examples.yaml"}
        missing = owed - {path.name for path in folder.iterdir()}
        assert not missing, f"{folder.name} lacks {missing}"


def test_the_service_runs_without_what_trained_its_model() -> None:
    found = []
    for at, node in nodes(ast.Import, ast.ImportFrom, but=("models/", "loadtest/")):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [at for name in names if name.split(".")[0] in HEAVY | {"models", "loadtest"}]
    assert found == []


def test_no_middleware_comes_between_a_request_and_its_disconnect() -> None:
    """BaseHTTPMiddleware hides `http.disconnect`: a caller who hangs up would be worked for all the same."""
    assert [path for path, text in sources().items() if "BaseHTTPMiddleware" in text] == []


def test_weights_live_in_one_place_and_are_small() -> None:
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()} | {".git"}
    strays, total = [], 0
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in ignored]
        for path in (Path(folder, name) for name in files):
            if path.suffix in WEIGHTS:
                total += path.stat().st_size
                strays += [] if path.is_relative_to(ROOT / "models" / "checkpoints") else [path]
    assert strays == []
    assert total < 40_000_000
