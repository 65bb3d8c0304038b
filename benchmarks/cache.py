"""What each edit re-runs: Charkha, and where they are installed joblib and DVC, beside what is right.

One small project, written three times from the same functions. Each edit is applied, the project is
run, the steps that really ran are read from a log that the functions write themselves, and the edit
is taken back. Each edit makes values of its own, so nothing is reused from another one. `stale` means that a step which had to run did not: a wrong result, in silence.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from measure import ENVIRONMENT, options, report

HELPERS = """
from deeper import offset

RATE = 2.0

def scaled(n):
    return n * RATE + offset()
"""
DEEPER = "def offset():\n    return 1\n"
BASES = """
class Base:
    def shift(self, n):
        return n + 1

class Shifter(Base):
    pass
"""
STEPS = '''
import os

import duckdb
import helpers
import pandas as pd
import thing
from bases import Shifter

LOG = {log!r}


def note(step):
    with open(LOG, "a") as log:
        log.write(step + "\\n")


{decorator}
def read(source{file_type}):
    note("read")
    with open(source) as file:
        return sum(int(line) for line in file)


{decorator}
def scale(total, alpha):
    """Scale the total."""
    # a comment
    note("scale")
    mode = len(os.environ.get("SCALE_MODE", ""))
    return Shifter().shift(helpers.scaled(total)) * alpha + mode + thing.VALUE


{decorator}
def tell(value):
    note("tell")
    return f"{{value:.2f}}"


{decorator}
def by_open():
    note("by_open")
    with open("data/open.csv") as file:
        return file.read()


{decorator}
def by_read_csv():
    note("by_read_csv")
    return pd.read_csv("data/pandas.csv").to_csv()


{decorator}
def by_read_parquet():
    note("by_read_parquet")
    return pd.read_parquet("data/pandas.parquet").to_csv()


{decorator}
def by_duckdb():
    note("by_duckdb")
    return str(duckdb.sql("select * from 'data/duckdb.parquet'").fetchall())
'''
CHAIN = ("read", "scale", "tell")
READERS = ("by_open", "by_read_csv", "by_read_parquet", "by_duckdb")


class Edit(NamedTuple):
    """One change to the project, and the steps that have to run after it."""

    name: str
    right: tuple[str, ...]
    file: str = ""  # "" with `old` and `new` for an environment variable or the parameter
    old: str = ""
    new: str = ""


EDITS = (
    Edit("nothing", ()),
    Edit("a comment", (), "steps.py", "# a comment", "# another one"),
    Edit("a docstring", (), "steps.py", '"""Scale the total."""', '"""Scale."""'),
    Edit("formatting", (), "steps.py", "def scale(total, alpha):", "def scale(\n    total, alpha\n):"),
    Edit("a helper in another module", CHAIN[1:], "helpers.py", "n * RATE +", "n * RATE + 10 +"),
    Edit("a helper of a helper", CHAIN[1:], "deeper.py", "return 1", "return 200"),
    Edit("a constant that a helper uses", CHAIN[1:], "helpers.py", "RATE = 2.0", "RATE = 3.0"),
    Edit("a base class's method", CHAIN[1:], "bases.py", "n + 1", "n + 5000"),
    Edit("a declared file", CHAIN, "data/declared.txt", "1\n2", "1\n3"),
    Edit("an undeclared file: open", ("by_open",), "data/open.csv", "1", "2"),
    Edit("an undeclared file: read_csv", ("by_read_csv",), "data/pandas.csv", "1", "2"),
    Edit("… read_parquet", ("by_read_parquet",), "data/pandas.parquet"),
    Edit("… DuckDB", ("by_duckdb",), "data/duckdb.parquet"),
    Edit("an environment variable", CHAIN[1:], "", "SCALE_MODE", "fast"),
    Edit("a parameter", CHAIN[1:], "params.yaml", "alpha: 1.5", "alpha: 2.5"),
    Edit("a dependency's version", CHAIN[1:], "site-packages/thing-1.0.dist-info"),
    Edit("a step, same output", ("scale",), "steps.py", "* alpha + mode", "* alpha + 0 + mode"),
    Edit("a later step only", ("tell",), "steps.py", ":.2f", ":.3f"),
)  # fmt: skip


class Contender(NamedTuple):
    """A tool, how its project is laid out, and how it is run."""

    name: str
    write: Callable[[Path], None]
    command: list[str]
    needs_another_run: bool  # after an edit is taken back, to be where it was


CHARKHA = """
from charkha import File, pipeline, step
{steps}

@pipeline
def main(alpha: float = 1.5):
    tell(scale(read(File("data/declared.txt")), alpha))
    by_open(), by_read_csv(), by_read_parquet(), by_duckdb()
"""
CHARKHA_RUN = """
from pathlib import Path
from charkha.pipeline.run import run
run(params={"alpha": Path("params.yaml").read_text().split(": ")[1].strip()})
"""
JOBLIB = """
import warnings
from pathlib import Path
from joblib import Memory
warnings.simplefilter("ignore")
import steps
memory = Memory(".joblib", verbose=0)
cached = {name: memory.cache(getattr(steps, name)) for name in %r}
alpha = float(Path("params.yaml").read_text().split(": ")[1])
cached["tell"](cached["scale"](cached["read"]("data/declared.txt"), alpha))
for name in %r:
    cached[name]()
"""
DVC_STAGE = """
import json, sys
from importlib import import_module
from pathlib import Path
name, *inputs = sys.argv[1:]
Path("out").mkdir(exist_ok=True)
given = [json.loads(Path(f"out/{i}.json").read_text()) for i in inputs if i in %r]
given += [i for i in inputs if i.startswith("data/")]
given += [float(Path("params.yaml").read_text().split(": ")[1])] if "alpha" in inputs else []
Path(f"out/{name}.json").write_text(json.dumps(getattr(import_module(f"step_{name}"), name)(*given)))
"""
DVC_YAML = """
stages:
  read: {cmd: python stage.py read data/declared.txt, deps: [step_read.py, data/declared.txt], outs: [out/read.json]}
  scale: {cmd: python stage.py scale read alpha, deps: [step_scale.py, out/read.json], params: [alpha], outs: [out/scale.json]}
  tell: {cmd: python stage.py tell scale, deps: [step_tell.py, out/scale.json], outs: [out/tell.json]}
""" + "".join(
    f"  {name}: {{cmd: python stage.py {name}, deps: [step_{name}.py], outs: [out/{name}.json]}}\n"
    for name in READERS
)


def write_common(folder: Path, steps: str) -> None:
    """Write what all projects have: modules, data, and a distribution to depend on."""
    for name, text in (("helpers.py", HELPERS), ("deeper.py", DEEPER), ("bases.py", BASES)):
        (folder / name).write_text(text)
    (folder / "steps.py").write_text(steps)
    (folder / "params.yaml").write_text("alpha: 1.5\n")
    (folder / "data").mkdir()
    (folder / "data/declared.txt").write_text("1\n2\n")
    for name in ("open", "pandas"):
        (folder / f"data/{name}.csv").write_text("a\n1\n")
    for name in ("pandas", "duckdb"):
        write_parquet(folder / f"data/{name}.parquet", 1)
    site = folder / "site-packages"
    (site / "thing-1.0.dist-info").mkdir(parents=True)
    (site / "thing.py").write_text("VALUE = 0\n")


def write_parquet(path: Path, value: int) -> None:
    """Write a table of one row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [value]}), path)


def formatted(folder: Path, decorator: str = "", file_type: str = "") -> str:
    """Return the steps' source; the log lies outside of the project."""
    log = str(folder.with_suffix(".log"))
    return STEPS.format(log=log, decorator=decorator, file_type=file_type)


def write_charkha(folder: Path) -> None:
    """Write the project for Charkha: the steps and the pipeline in one file."""
    write_common(folder, CHARKHA.format(steps=formatted(folder, "@step", ": File")))
    (folder / "charkha.toml").write_text(
        '[project]\nname = "cache"\n[pipeline]\nentry = "steps.py"\n'
    )


def write_joblib(folder: Path) -> None:
    """Write the project for joblib.Memory."""
    write_common(folder, formatted(folder))
    (folder / "main.py").write_text(JOBLIB % (CHAIN + READERS, READERS))


def write_dvc(folder: Path) -> None:
    """Write the project for DVC: a stage for each step, which declares its own file and the data."""
    head, note, *functions = formatted(folder).split("\n\n\n")
    write_common(folder, head)
    for name, function in zip((*CHAIN, *READERS), functions, strict=True):
        (folder / f"step_{name}.py").write_text(f"{head}\n{note}\n\n{function}\n")
    (folder / "stage.py").write_text(DVC_STAGE % (CHAIN,))
    (folder / "dvc.yaml").write_text(DVC_YAML)
    for words in (["init", "-q", "--no-scm"], ["config", "core.analytics", "false"]):
        subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=folder, env=ENVIRONMENT, check=True
        )


def contenders(*, quick: bool) -> list[Contender]:
    """Return who is installed; who is left out is said."""
    python = sys.executable
    found = [Contender("Charkha", write_charkha, [python, "-c", CHARKHA_RUN], False)]
    if find_spec("joblib"):
        found.append(Contender("joblib", write_joblib, [python, "main.py"], True))
    else:
        print("joblib: skipped, it is not installed")
    if find_spec("dvc") and not quick:
        command = [python, "-m", "dvc", "repro", "-q"]
        found.append(Contender("DVC", write_dvc, command, True))
    else:
        why = "it takes two minutes (run without --quick)" if quick else "it is not installed"
        print(f"DVC: skipped, {why}")
    return found


def run(contender: Contender, folder: Path, variables: dict[str, str]) -> tuple[str, ...]:
    """Run the project, and return the steps that ran."""
    log = folder.with_suffix(".log")
    log.write_text("")
    environment = {**ENVIRONMENT, **variables, "PYTHONPATH": str(folder / "site-packages")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # an edit within one second is an edit
    done = subprocess.run(
        contender.command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{contender.name} failed:\n{textwrap.indent(done.stderr, '  ')}")
    ran = log.read_text().split()
    return tuple(name for name in (*CHAIN, *READERS) if name in ran)


def apply(edit: Edit, folder: Path, *, back: bool = False) -> dict[str, str]:
    """Make an edit, or take it back; return the environment variables to run with."""
    old, new = (edit.new, edit.old) if back else (edit.old, edit.new)
    if edit.name == "nothing":
        return {}
    if not edit.file:
        return {} if back else {edit.old: edit.new}
    path = folder / edit.file
    if edit.file.endswith(".parquet"):
        write_parquet(path, 1 if back else 2)
    elif edit.file.endswith(".dist-info"):
        other = path.with_name("thing-1.1.dist-info")
        (other if back else path).rename(path if back else other)
        (path.parent / "thing.py").write_text(f"VALUE = {0 if back else 70_000}\n")
    else:
        if old not in path.read_text():  # DVC has each step in a file of its own
            path = next(p for p in folder.glob("step_*.py") if old in p.read_text())
        text = path.read_text()
        path.write_text(text.replace(old, new))
    return {}


def judged(edit: Edit, ran: tuple[str, ...]) -> str:
    """Say whether what ran is what had to run."""
    if set(edit.right) - set(ran):
        return "stale"
    return "right" if set(ran) == set(edit.right) else "re-runs"


def main() -> None:
    """Walk the matrix and print it."""
    given = options(__doc__ or "")
    table: dict[str, list[str]] = {edit.name: [] for edit in EDITS}
    figures: dict[str, float] = {}
    playing = contenders(quick=given.quick)
    for contender in playing:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place).resolve() / "project"
            folder.mkdir()
            contender.write(folder)
            run(contender, folder, {})
            for edit in EDITS:
                verdict = judged(edit, run(contender, folder, apply(edit, folder)))
                apply(edit, folder, back=True)
                if contender.needs_another_run:
                    run(contender, folder, {})
                table[edit.name].append(verdict)
    print(f"{'edit':34}{'has to run':18}" + "".join(f"{c.name:10}" for c in playing))
    for edit in EDITS:
        right = " ".join(edit.right) or "nothing"
        print(f"{edit.name:34}{right:18}" + "".join(f"{v:10}" for v in table[edit.name]))
    for i, contender in enumerate(playing):
        count = sum(verdicts[i] == "right" for verdicts in table.values())
        figures[f"{contender.name.lower()}_right"] = count
        figures[f"{contender.name.lower()}_stale"] = sum(v[i] == "stale" for v in table.values())
        print(f"{contender.name}: right in {count} of {len(EDITS)}")
    report({**figures, "rows": len(EDITS)}, given.json)


if __name__ == "__main__":
    main()
