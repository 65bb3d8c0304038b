"""The rules that a reviewer would otherwise repeat; HOUSE.md of the maintainers gives their reasons."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import charkha
from charkha import errors, plugins
from charkha.cli.main import COMMANDS, overview

SRC = Path(charkha.__file__).parent
ROOT = SRC.parent.parent
MODULES = sorted(
    path.relative_to(SRC).as_posix()
    for path in SRC.rglob("*.py")
    if "templates" not in path.relative_to(SRC).parts
)
TREES = {module: ast.parse((SRC / module).read_text()) for module in MODULES}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef

HEAVY = [
    "boto3",
    "dvc",
    "duckdb",
    "fastapi",
    "kfp",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pandera",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "skl2onnx",
    "sklearn",
    "skops",
    "sqlalchemy",
    "uvicorn",
    "xgboost",
]

# What breaks a rule, and why it is better so.
IMPORTS_IN_FUNCTIONS = {
    "pipeline/inotify.py": "ctypes costs 4 ms that only a run with native readers pays",
}
LONG_FILES = {
    "project.py": "a table for the most part: every section of charkha.toml, as its reference has it",
}
_TABLE = "a table: alerts or panels, one after the other, and no step that could be taken out"
LONG_FUNCTIONS = {
    "monitoring/rendering/drift_board.py:drift": _TABLE,
    "monitoring/rendering/model_alerts.py:inputs": _TABLE,
    "monitoring/rendering/model_alerts.py:verdicts": _TABLE,
    "monitoring/rendering/model_alerts.py:versions": _TABLE,
    "monitoring/rendering/quality_board.py:_moves": _TABLE,
    "monitoring/rendering/quality_board.py:quality": _TABLE,
    "monitoring/rendering/service_alerts.py:_burns": _TABLE,
    "monitoring/rendering/service_alerts.py:records": _TABLE,
    "monitoring/rendering/service_alerts.py:service": _TABLE,
    "monitoring/rendering/service_board.py:machine": _TABLE,
    "monitoring/rendering/service_board.py:service": _TABLE,
    "serving/openapi_schemas.py:of_server": "a document, as OpenAPI has it",
}
CATCHES_ALL = {
    "cli/main.py": "the last place that can keep the cause",
    "models/following.py": "a process of its own, whose failure is a state that a run shows",
    "pipeline/engines/worker.py": "the worker's loop: what a step raises is its answer",
    "serving/app.py": "an HTTP handler: the caller is told that it failed, the log why",
    "serving/background.py": "a thread's end: what it raised is handed to who waits for it",
    "serving/control.py": "a worker's loop: what cannot be loaded is reported, and what is held stays",
    "serving/lanes.py": "a model's thread: told to those whose rows it was, and it goes on",
    "serving/lead.py": "the lead's loop: the next look at the registry may do better",
    "serving/remembering.py": "a worker's loop: what nobody can read is not shown anew",
    "serving/rest.py": "an HTTP handler: the caller is told that it failed, the log why",
    "serving/worker.py": "a worker's loop: the next look at what is open may do better",
}
TOUCHES_THE_ENVIRONMENT = {
    "project.py": "this is the place: CHARKHA_ENV, and secrets",
    "pipeline/hooks.py": "it sees which variables a step reads",
    "pipeline/observe.py": "it says what they hold now",
    "pipeline/run.py": "who runs it is a fact about the run, not a setting",
    "pipeline/units.py": "variables that a step declares are part of its key",
    "pipeline/submitting.py": "who stopped a run is a fact about it, not a setting",
    "pipeline/engines/contract.py": "steps of a test say through files where they are",
    "pipeline/engines/gpus.py": "the driver's variables say which GPUs the one who starts it may see",
    "pipeline/engines/processes.py": "its processes get ours",
    "pipeline/codecs/contract.py": "it encodes again in a process with another hash seed",
    "models/capture.py": "MLflow inside a step is redirected through its variables",
    "models/mlflow.py": "MLflow takes time-outs and endpoints from variables only",
    "models/mlflow_captured.py": "MLflow takes the leave to read a file store from a variable only",
    "models/tracker.py": "its process gets ours",
    "supervision/children.py": "its processes get ours",
}


def loaded_by(code):
    """Return the names of the heavy libraries that a new interpreter has loaded after `code`."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(set(HEAVY) & set(told.stderr.split()))


def in_git(*patterns):
    """Return the files that git keeps, or would with `git add --all`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_importing_us_loads_no_framework():
    assert loaded_by("import charkha; charkha.step; charkha.open_project") == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_no_framework(command):
    call = f"from charkha.cli.main import main\nassert main({[*command.split(), '--help']!r}) == 0"
    assert loaded_by(call) == []


def test_every_command_has_its_module_and_says_what_it_does(capsys):
    from_files = {p.stem for p in (SRC / "cli").glob("*.py") if "def main(" in p.read_text()}
    assert from_files - {"main"} == set(COMMANDS)
    assert all(f"  {name} " in overview() for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_the_same_as_the_overview_and_shows_an_example(command):
    told = subprocess.run(
        [sys.executable, "-m", "charkha", command, "--help"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert COMMANDS[command][1:] in " ".join(told.stdout.split())
    assert f"charkha {command}" in told.stdout.partition("example:")[2]


def test_the_map_and_the_reference_are_those_that_the_code_makes():
    told = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_map_names_every_module_and_nothing_else():
    page = (ROOT / "docs" / "map.md").read_text()
    mapped = re.findall(r"^\| `([\w/]+\.py)` \|", page, re.MULTILINE)
    rooms = [m for m in MODULES if m.endswith("__init__.py") and m.count("/") < 2]
    assert sorted([*mapped, *rooms]) == MODULES  # a room's own file is the head of its section


def _first_line(module):
    return (ast.get_docstring(TREES[module]) or "").partition("\n")[0]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_by_saying_what_it_is(module):
    first = _first_line(module)
    assert first, f"{module} has no docstring"
    assert len(first) <= 100
    assert first.endswith((".", "?", "…")), first


def test_there_are_no_bags():
    bags = {"utils", "util", "common", "core", "helpers", "misc", "base", "manager"}
    assert [m for m in MODULES if bags & set(Path(m).with_suffix("").parts)] == []


def test_every_port_has_its_contract():
    ports = {path.parent for path in SRC.rglob("port.py")}
    assert [p.relative_to(SRC) for p in ports if not (p / "contract.py").exists()] == []


def _port_methods():
    for module in MODULES:
        if module.endswith("/port.py"):
            for node in TREES[module].body:
                if (
                    isinstance(node, ast.ClassDef)
                    and "Protocol" in ast.unparse(node).split("\n")[0]
                ):
                    yield module, node.name, [n for n in node.body if isinstance(n, FUNCTIONS)]


def test_a_port_documents_every_method():
    bare = [
        f"{module} {port}.{method.name}"
        for module, port, methods in _port_methods()
        for method in methods
        if not ast.get_docstring(method)
    ]
    assert bare == []


def test_a_port_has_at_most_seven_methods():
    assert [(m, port) for m, port, methods in _port_methods() if len(methods) > 7] == []


def test_mypy_proves_that_every_shipped_backend_fits_its_port():
    unproved = []
    for backends in plugins.SHIPPED.values():
        for where, _ in backends.values():
            dotted, _, name = where.partition(":")
            module = f"{dotted.removeprefix('charkha.').replace('.', '/')}.py"
            guards = [
                ast.unparse(node)
                for node in TREES[module].body
                if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            ]
            if not any(re.search(rf"^ +_\w*: \w+ = {name}\(", g, re.MULTILINE) for g in guards):
                unproved.append(module)
    assert unproved == []


def test_the_tree_of_errors_is_the_one_drawn():
    ours = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.CharkhaError)
    ]
    drawn = re.findall(r"^[│├└─ ]*(\w+) {2,}", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(ours)


def _functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def test_imports_stand_at_the_top():
    found = {
        module
        for module, tree in TREES.items()
        for function in _functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert found == set(IMPORTS_IN_FUNCTIONS)


def test_only_the_last_place_catches_everything():
    found = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
        and not any(isinstance(n, ast.Raise) for n in ast.walk(node))  # it cleans up, and goes on
    }
    assert found == set(CATCHES_ALL)


def test_settings_come_from_the_project_and_not_from_the_environment():
    found = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert found == set(TOUCHES_THE_ENVIRONMENT)


def test_a_file_has_at_most_400_lines():
    long = {m for m in MODULES if len((SRC / m).read_text().splitlines()) > 400}
    assert long == set(LONG_FILES)


def test_a_function_has_about_40_lines_at_most():
    """Counted without the signature and the docstring, which are for reading, not for running."""
    long = {
        f"{module}:{function.name}"
        for module, tree in TREES.items()
        for function in _functions(tree)
        if _lines(function) > 44
    }
    assert long == set(LONG_FUNCTIONS)


def _lines(function):
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


# Written apart, so that this file does not contain them.
ELSEWHERE = [
    "pypi" + ".org", "python" + "hosted", "deb." + "debian", "npm" + "js", "registry." + "npm",
    "/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/",
]  # fmt: skip


def test_no_file_names_a_registry_or_a_path_of_this_machine():
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in in_git()
        for word in ELSEWHERE
        if word.encode() in path.read_bytes()
    ]
    assert found == []


FORBIDDEN = re.compile(r"\b(simply|just|easily|powerful|seamless(ly)?|blazing|robust)\b", re.I)


def test_we_do_without_words_that_say_nothing():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in in_git("*.md", "src/*.py", "src/*.toml")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


def test_tests_mock_nothing_of_ours():
    found = [
        path.relative_to(ROOT).as_posix()
        for path in in_git("tests/*.py")
        if re.search(r"^(import|from) unittest(\.mock)?\b", path.read_text(), re.MULTILINE)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-airflow.txt"])
def test_the_constraints_name_versions_and_no_places(name):
    lines = (ROOT / name).read_text().splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []
