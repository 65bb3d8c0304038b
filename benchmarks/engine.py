"""What the engine costs: 20 no-op steps that pass a value, whole processes, beside bounds and DVC.

The floor is what any engine that remembers has to do: for each step a sha-256, a file that is
fsync'd, and a commit to SQLite. Every process is started afresh; contenders take turns.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import chain
from measure import ENVIRONMENT, Took, in_turn, options, process, report

STEPS = 20
CHARKHA = str(Path(sys.executable).with_name("charkha"))

BARE = """
value = 0
for _ in range({steps}):
    value = value + 1
"""
FLOOR = """
import hashlib, os, sqlite3, tempfile
folder = tempfile.mkdtemp(dir=".")
connection = sqlite3.connect(folder + "/floor.db")
connection.execute("create table steps (digest, number)")
connection.commit()
value = 0
for number in range({steps}):
    value = value + 1
    data = str(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(folder + "/" + digest, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    connection.execute("insert into steps values (?, ?)", (digest, number))
    connection.commit()
"""
DVC_STAGE = "  s{i}:\n    cmd: cp v{before} v{i}\n    deps: [v{before}]\n    outs: [v{i}]\n"


def main() -> None:
    """Measure, print, write."""
    given = options(__doc__ or "")
    rounds = 5 if given.quick else 15
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), rounds, quick=given.quick)
    report(figures, given.json)


def measure(folder: Path, rounds: int, *, quick: bool) -> dict[str, float]:
    """Return every figure by name, after printing it."""
    (folder / "bare.py").write_text(BARE.format(steps=STEPS))
    (folder / "floor.py").write_text(FLOOR.format(steps=STEPS))
    small, large = project(folder / "small", STEPS), project(folder / "large", 10 * STEPS)
    python = sys.executable
    took = in_turn(
        rounds,
        {
            "python -c pass": lambda: process([python, "-c", "pass"], folder),
            "charkha --help": lambda: process([CHARKHA, "--help"], folder),
            "bare Python": lambda: process([python, "bare.py"], folder),
            "floor": lambda: process([python, "floor.py"], folder),
            "engine first": lambda: first(small, engine(python)),
            "engine cached": lambda: process(engine(python), small),
            "engine first, 200 steps": lambda: first(large, engine(python)),
            "engine cached, 200 steps": lambda: process(engine(python), large),
        },
    )
    tracked, filled_s = with_tracking(small, 2 if quick else 5)
    took |= tracked
    took["charkha run, cached"] = in_turn(
        rounds, {"": lambda: process([CHARKHA, "run", "--no-wait"], small)}
    )[""]
    took |= dvc(folder / "dvc", 1 if quick else 3)
    return told(took, filled_s)


def engine(python: str) -> list[str]:
    """Return the command of the engine without the command line and without MLflow."""
    return [python, "-c", "from charkha.pipeline.run import run; run()"]


def project(folder: Path, steps: int) -> Path:
    """Write a project and run it once, so that byte code is compiled for all."""
    chain.project(folder, steps)
    process(engine(sys.executable), folder)
    return folder


def first(folder: Path, command: list[str]) -> Took:
    """Run a project that remembers nothing."""
    shutil.rmtree(folder / ".charkha", ignore_errors=True)
    return process(command, folder)


def with_tracking(folder: Path, rounds: int) -> tuple[dict[str, Took], float]:
    """Time first runs from the command line with MLflow on, and how long until it has everything."""
    filled: list[float] = []

    def once() -> Took:
        began = time.perf_counter()
        took = first(folder, [CHARKHA, "run", "--no-wait"])
        wait_for_mlflow(folder)
        filled.append(time.perf_counter() - began)
        return took

    return in_turn(rounds, {"charkha run, first": once}), sorted(filled)[len(filled) // 2]


def wait_for_mlflow(folder: Path) -> None:
    """Wait until the tracker that a run started has ended, so that it disturbs nobody."""
    while any((folder / ".charkha" / "tracking").glob("*")):
        time.sleep(0.05)


def dvc(folder: Path, rounds: int) -> dict[str, Took]:
    """Time the same chain as 20 DVC stages, each of which copies a file."""
    if find_spec("dvc") is None:
        print("DVC: skipped, it is not installed (pip install 'charkha[dvc]')")
        return {}
    folder.mkdir()
    command = [sys.executable, "-m", "dvc"]
    for words in (["init", "-q", "--no-scm"], ["config", "core.analytics", "false"]):
        subprocess.run([*command, *words], cwd=folder, env=ENVIRONMENT, check=True)
    (folder / "v0").write_text("0")
    stages = "".join(DVC_STAGE.format(before=i, i=i + 1) for i in range(STEPS))
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}")

    def from_nothing() -> Took:
        shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)
        shutil.rmtree(folder / ".dvc" / "tmp", ignore_errors=True)
        for path in (folder / "dvc.lock", *folder.glob("v[1-9]*")):
            path.unlink(missing_ok=True)
        return process([*command, "repro", "-q"], folder)

    return in_turn(
        rounds,
        {
            "DVC repro, first": from_nothing,
            "DVC repro, nothing changed": lambda: process([*command, "repro", "-q"], folder),
        },
    )


def told(took: dict[str, Took], filled_s: float) -> dict[str, float]:
    """Print the table, and return it as figures."""
    floor = took["floor"].wall_s
    print(f"{'':28}{'wall ms':>9}{'CPU ms':>9}{'× floor':>9}")
    for name, one in took.items():
        ratio = one.wall_s / floor
        print(f"{name:28}{one.wall_s * 1e3:9.0f}{one.cpu_s * 1e3:9.0f}{ratio:9.2f}")
    figures = {f"{slug(name)}_wall_s": round(one.wall_s, 4) for name, one in took.items()}
    ratios = {
        "first_to_floor": took["charkha run, first"].wall_s / floor,
        "cached_to_floor": took["charkha run, cached"].wall_s / floor,
        "help_to_pass": took["charkha --help"].wall_s / took["python -c pass"].wall_s,
        "first_200_to_20_per_step": per_step(took, "engine first"),
        "cached_200_to_20_per_step": per_step(took, "engine cached"),
    }
    if "DVC repro, first" in took:
        dvc_first, dvc_cached = took["DVC repro, first"], took["DVC repro, nothing changed"]
        ratios["dvc_first_to_charkha"] = dvc_first.wall_s / took["charkha run, first"].wall_s
        ratios["dvc_cached_to_charkha"] = dvc_cached.wall_s / took["charkha run, cached"].wall_s
    print()
    for name, ratio in ratios.items():
        print(f"{name:28}{ratio:9.2f}")
    print(f"{'MLflow has everything after':28}{filled_s:9.1f} s")
    return {**figures, **{k: round(v, 3) for k, v in ratios.items()}, "mlflow_s": filled_s}


def per_step(took: dict[str, Took], name: str) -> float:
    """Return what a step costs among 200, as a multiple of what it costs among 20 (1 is linear)."""
    start = took["bare Python"].wall_s
    few = (took[name].wall_s - start) / STEPS
    many = (took[f"{name}, 200 steps"].wall_s - start) / (10 * STEPS)
    return many / few


def slug(name: str) -> str:
    """Return the name as an identifier."""
    return "".join(letter if letter.isalnum() else "_" for letter in name).lower()


if __name__ == "__main__":
    main()
