"""Writes the pages that follow from the code: `make docs`; with `--check` says which are old."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, Field
from pathlib import Path

from charkha.definition import settings_of
from charkha.project import LISTS, SECTIONS
from charkha.serving.endpoints import ADMINISTRATION, BESIDE, HEADERS, PREDICT, Route
from charkha.serving.families import FAMILIES

DOCS = Path(__file__).parent
SRC = DOCS.parent / "src" / "charkha"

MAP = """\
# The map

One line for every module, which is the first line of its docstring; written by `make docs`, compared by a test.

Rooms stand in the order in which data flows. A room may import what stands above it and never what stands below it; import-linter holds
that. In a folder with a `port.py`, that file says how a capability looks, `contract.py` what every backend of it has to do, and each other
file is named after the tool that it talks to.
"""
REFERENCE = """\
# charkha.toml

Written from `src/charkha/project.py` and `engine_settings.py` by `make docs`, compared by a test.

The file lies at the root of a project, and may be empty. A relative path starts at that root. An unknown key is an error, with its
line and the key that was probably meant.

Sections can stand again under `[env.NAME]`, where they override key by key: `[env.prod.tracking]`. The environment is chosen by
`--env NAME`, else by the variable `CHARKHA_ENV`, else it is `local`, which needs no sections of its own. A list of tables
(`[[env.prod.gate]]`) replaces the whole list.

A **secret** is never written here. It is a reference, `env:NAME` for an environment variable or `file:PATH` for a file, and read
when it is needed.
"""
ENDPOINTS = """\
# Endpoints

Written from `src/charkha/serving/endpoints.py` by `make docs`, compared by a test. How to use them: [operate a server](../how-to/operate-a-server.md).

A key is needed where `[serving] auth` says so: by default on every address but loopback.
"""
PROBLEMS = """\
## Problems

An error is answered as `application/problem+json` (RFC 9457): `type` is `urn:charkha:problem:` and the kind below, `detail` says what is wrong
and what to do, `errors` has a JSON pointer to each field that is wrong. Nothing in it comes from another request.
"""
METRICS = """\
# Metrics

Written from `src/charkha/serving/families.py` by `make docs`, compared by a test. How to have Prometheus read them: [operate a server](../how-to/operate-a-server.md).

`GET /metrics` shows all workers of a server together, in Prometheus's text format, or in OpenMetrics 1.0 where that is asked for. Counters do not fall while the server
lives, also when a worker dies. `role` is `live` or `shadow`.
"""
DECISIONS = """\
# Decisions

One file for each decision: what was decided, why, what it costs, and what was rejected. A decision is not rewritten; a later one says that it
replaces it. This index is written by `make docs`.
"""
ENGINES = """\
# Engines

Written from `src/charkha/pipeline/engines/` by `make docs`, compared by a test. What an engine is: [engines](../explanation/engines.md).

«By the engine» is what the engine itself sees to, as its own page shows it; «in the task» is what Charkha sees to in the task that the engine starts.
What an engine cannot do is refused before anything is compiled, with the step, the reason and a way round.
`charkha run` without `--on` is none of these: it sees to retries, timeouts, `each()`, parameters and [GPUs](../how-to/pipelines.md#gpus) itself, and does nothing with `cpu=`, `memory=` and a schedule.
"""
ASKED = {
    "retries": "`retries=`",
    "timeout": "`timeout_s=`",
    "fan_out": "`each()`",
    "cpu": "`cpu=`",
    "memory": "`memory=`",
    "gpu": "`gpu=`",
    "schedule": "`[pipeline] schedule`",
    "params": "other parameters",
}
TYPES = {
    "str": "text",
    "Path": "path",
    "int": "whole number",
    "float": "number",
    "bool": "`true` or `false`",
    "dict[str, object]": "section",
    "tuple[str, ...]": "list of texts",
}


def map_page() -> str:
    """Return docs/map.md."""
    return "\n".join([MAP, *(room(name) for name in rooms())])


def rooms() -> list[str]:
    """Return the names of rooms and of the hall's modules as import-linter's layers order them."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    flow = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["id"] == "flow")
    layers = [name.strip() for layer in reversed(flow["layers"]) for name in layer.split("|")]
    return ["", *(name for name in layers if (SRC / name).is_dir())]


def room(name: str) -> str:
    """Return the section of one room; the hall has no name."""
    folder = SRC / name
    if not name:
        head = "## The hall\n\nWhat every room may use."
        modules = [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    else:
        head = f"## {name}/\n\n{first_line(folder / '__init__.py')}"
        modules = list(modules_of(folder))
    rows = "\n".join(f"| `{m.relative_to(SRC).as_posix()}` | {first_line(m)} |" for m in modules)
    return f"{head}\n\n| module | |\n|---|---|\n{rows}\n"


def modules_of(folder: Path) -> Iterator[Path]:
    """Yield a folder's modules, then those of the folders in it, each after its own `__init__`."""
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield path
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield inner / "__init__.py"
        yield from modules_of(inner)


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text())) or "").partition("\n")[0]


def reference_page() -> str:
    """Return docs/reference/charkha-toml.md."""
    return "\n".join([REFERENCE, *(section(name, kind) for name, kind in SECTIONS.items())])


def section(name: str, kind: type) -> str:
    """Return a heading, what the section is for, and a table of its keys."""
    brackets = f"[[{name}]]" if name in LISTS else f"[{name}]"
    rows = "\n".join(
        f"| `{setting.name}` | {type_of(setting)} | {default_of(setting)} | {help_of(setting)} |"
        for setting in settings_of(kind)
    )
    return (
        f"## `{brackets}`\n\n{kind.__doc__}\n\n"
        f"| key | type | default | what it is |\n|---|---|---|---|\n{rows}\n"
    )


def type_of(setting: Field[object]) -> str:
    """Return the type in words."""
    if setting.metadata.get("secret"):
        return "secret"
    if "choices" in setting.metadata:
        return " or ".join(f'`"{choice}"`' for choice in setting.metadata["choices"])
    if setting.metadata.get("path"):
        return TYPES["Path"]
    return TYPES[str(setting.type).removesuffix(" | None")]


def default_of(setting: Field[object]) -> str:
    """Return the default as it would be written."""
    if setting.metadata.get("project_name"):
        return "the project's name"
    if setting.metadata.get("folder_name"):
        return "the folder's name"
    if setting.default_factory is not MISSING or setting.default == ():
        return "empty"
    if setting.default is MISSING:
        return "has to be given"
    if setting.default is None:
        return "–"
    if isinstance(setting.default, tuple):
        return f"`{list(setting.default)}`".replace("'", '"')
    if isinstance(setting.default, bool):
        return f"`{str(setting.default).lower()}`"
    if isinstance(setting.default, int | float):
        return f"`{setting.default:g}`"
    return f'`"{setting.default}"`'


def help_of(setting: Field[object]) -> str:
    """Return what the setting says about itself, as a cell of a table."""
    return str(setting.metadata["help"]).replace("|", "\\|")


def endpoints_page() -> str:
    """Return docs/reference/endpoints.md."""
    headers = "\n".join(f"| `{name}` | {of} | {text} |" for name, of, text in HEADERS)
    return "\n".join(
        [
            ENDPOINTS,
            routes("Predict", PREDICT, "key's scope"),
            f"### Headers\n\n| header | of the | what it is |\n|---|---|---|\n{headers}\n",
            routes("Beside", BESIDE, "key's scope"),
            "## Administration\n\nOn a port of its own, with `[serving] admin_port` or `--admin-port`; the token is"
            " that of `[serving] admin_token`.\n",
            routes("", ADMINISTRATION, None),
            f"{PROBLEMS}\n| status | kind | |\n|---|---|---|\n{problems()}",
        ]
    )


def routes(title: str, given: tuple[Route, ...], scope: str | None) -> str:
    """Return a table of what can be asked."""
    head = f"## {title}\n\n" if title else ""
    columns = ["method", "path", *([scope] if scope else []), ""]
    rows = [
        [
            r.method,
            f"`{r.path}`",
            *([f"`{r.scope}`" if r.scope else "none"] if scope else []),
            r.text,
        ]
        for r in given
    ]
    lines = [columns, ["---"] * len(columns), *rows]
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def problems() -> str:
    """Return a row for each kind of problem that the server's code makes."""
    made: dict[tuple[int, str], set[str]] = {}
    for module in sorted((SRC / "serving").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem":
                match node.args:
                    case [
                        ast.Constant(int(status)),
                        ast.Constant(str(kind)),
                        ast.Constant(str(title)),
                        *_,
                    ]:
                        made.setdefault((status, kind), set()).add(title)
    return "".join(
        f"| {status} | `{kind}` | {'; '.join(sorted(titles))} |\n"
        for (status, kind), titles in sorted(made.items())
    )


def metrics_page() -> str:
    """Return docs/reference/metrics.md."""
    rows = "\n".join(
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} | {family.text} |"
        for family in FAMILIES.values()
    )
    bounds = "\n".join(
        f"- `{family.name}`: {', '.join(f'{bound:g}' for bound in family.bounds)}"
        for family in FAMILIES.values()
        if family.bounds
    )
    return (
        f"{METRICS}\n| metric | kind | labels | what it is |\n|---|---|---|---|\n{rows}\n\n"
        f"Upper bounds of the histograms' buckets:\n\n{bounds}\n"
    )


def decisions_page() -> str:
    """Return docs/decisions/README.md: the titles of the decisions in the order of their numbers."""
    files = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    titles = ((file.name, file.read_text().partition("\n")[0].lstrip("# ")) for file in files)
    rows = "".join(f"- [{title}]({name})\n" for name, title in titles)
    return f"{DECISIONS}\n{rows}" if rows else DECISIONS


def engines_page() -> str:
    """Return docs/reference/engines.md: what each engine says of itself, without its library."""
    words = {"engine": "by the engine", "task": "in the task"}
    found = dict(filter(None, map(abilities, sorted((SRC / "pipeline" / "engines").glob("*.py")))))
    head = f"| | {' | '.join(f'`{name}`' for name in found)} |\n|---|{'---|' * len(found)}\n"
    rows = "".join(
        f"| {text} | {' | '.join(words.get(str(e[asked]), 'refused') for e in found.values())} |\n"
        for asked, text in ASKED.items()
    )
    refused = "".join(
        f"- {ASKED[asked]}: `{name}` {given['because']}; {given['instead']}\n"
        for name, engine in found.items()
        for asked, given in engine.items()
        if isinstance(given, dict)
    )
    return f"{ENGINES}\n{head}{rows}\n## What is refused, and the way round\n\n{refused}"


def abilities(module: Path) -> tuple[str, dict[str, object]] | None:
    """Return an engine's name and its abilities, read from the text; None for what is no engine."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Assign([ast.Name("abilities")], ast.Call(ast.Name("Abilities"), [], given)):
                return module.stem, {str(k.arg): ability(k.value) for k in given}
    return None


def ability(node: ast.expr) -> object:
    """Return "engine", "task", or why an engine cannot and what to do instead."""
    if isinstance(node, ast.Call):
        return {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    return ast.literal_eval(node)


def main() -> int:
    """Write the pages, or compare them and print the lines that differ."""
    old = 0
    pages = {
        "map.md": map_page(),
        "reference/charkha-toml.md": reference_page(),
        "reference/endpoints.md": endpoints_page(),
        "reference/engines.md": engines_page(),
        "reference/metrics.md": metrics_page(),
        "decisions/README.md": decisions_page(),
    }
    for name, page in pages.items():
        file = DOCS / name
        if "--check" not in sys.argv:
            file.write_text(page)
        elif (written := file.read_text()) != page:
            old = 1
            here, there = written.splitlines(), page.splitlines()
            lacking = [f"  lacks: {line}" for line in there if line not in here]
            excess = [f"  has still: {line}" for line in here if line not in there]
            print("\n".join([f"docs/{name} is old, run `make docs`:", *lacking, *excess]))
    return old


if __name__ == "__main__":
    sys.exit(main())
