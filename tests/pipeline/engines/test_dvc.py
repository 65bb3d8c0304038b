"""The contract of engines on DVC itself, and what a clone makes of the files that DVC keeps."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from charkha.errors import UserError
from charkha.pipeline.engines.contract import EngineContract, planned
from charkha.pipeline.engines.dvc import DvcEngine
from charkha.pipeline.runs import list_runs, read_run
from charkha.pipeline.submitting import follow, submit
from charkha.project import open_project
from charkha.stamps import stamped

GOLDEN = Path(__file__).parent / "golden" / "dvc"
HOUSES = '''
"""Prices from a file, in few lines: every kind of thing that a stage of DVC's can have."""

from charkha import File, pipeline, step
from houses_{name}_words import CURRENCY


@step
def read(prices: File, least: int) -> list[int]:
    """Read the prices that are not too low."""
    with open("ran.txt", "a") as ran:
        ran.write("read ")
    return [price for line in prices.read_text().split() if (price := int(line)) >= least]


@step
def scaled(price: int, by: float) -> float:
    return price * by


@step(group="end")
def total(prices: list) -> float:
    with open("ran.txt", "a") as ran:
        ran.write("total ")
    return float(sum(prices))


@step(group="end", outputs=("metrics", "text"))
def report(amount: float) -> tuple[dict, str]:
    return {{"total": amount}}, f"{{amount}} {{CURRENCY}}"


@step(cache=False)
def tell(text: str) -> str:
    return text.upper()


@pipeline
def houses(least: int = 100, by: float = 2.0, loud: bool = True) -> None:
    metrics, text = report(total(scaled.each(price=read(File("prices.txt"), least))(by=by)))
    if loud:
        tell(text)
'''


class TestDvc(EngineContract):
    name = "dvc"

    @pytest.fixture
    def tables(self, tables):
        return tables

    @pytest.fixture(autouse=True)
    def repository(self, project, monkeypatch):
        for name, value in at_home(project.root).items():
            monkeypatch.setenv(name, value)
        dvc(project.root, "init", "--quiet", "--no-scm")


def at_home(folder):
    """Return variables that keep what DVC keeps for a user out of the user's way."""
    return {
        "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"),
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def dvc(folder, *words, fails=False):
    """Type a command of DVC's; return what it said."""
    return typed(folder, [sys.executable, "-m", "dvc", *words], fails=fails)


def git(folder, *words):
    own = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    return typed(folder, ["git", *own, *words])


def typed(folder, command, *, fails=False):
    env = {**os.environ, **at_home(folder)}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, start_new_session=True
    )
    assert (done.returncode != 0) == fails, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def started(said):
    """Return the stages that DVC has started."""
    return re.findall(r"^Running stage '([^']+)':$", said, re.MULTILINE)


def begun(folder, *lines):
    """Return a project in git, with a remote of DVC's."""
    name = f"{abs(hash(folder)) % 10**8}"  # a module is imported once
    root = folder / "houses"
    root.mkdir()
    (root / "charkha.toml").write_text(
        "\n".join(
            ['[project]\nname = "houses"\n[pipeline]', f'entry = "houses_{name}.py"', *lines, ""]
        )
    )
    (root / f"houses_{name}.py").write_text(HOUSES.format(name=name))
    (root / f"houses_{name}_words.py").write_text('CURRENCY = "dollars"\n')
    (root / "prices.txt").write_text("100\n200\n300\n")
    (root / ".gitignore").write_text(".charkha\n__pycache__\nran.txt\n")
    git(root, "init", "--quiet")
    dvc(root, "init", "--quiet")
    dvc(root, "remote", "add", "--quiet", "--default", "far", "../far")
    return open_project(root)


@pytest.fixture
def houses(tmp_path, monkeypatch):
    """Return a project that has never been run."""
    project = begun(tmp_path, "[pipeline.params]", "least = 200")
    for name, value in at_home(project.root).items():
        monkeypatch.setenv(name, value)
    return project


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """Return a project that DVC has run: nothing in it runs every time."""
    folder = tmp_path_factory.mktemp("reproduced")
    project = begun(folder, "[pipeline.params]", "least = 200", "loud = false")
    render(project)
    assert started(dvc(project.root, "repro")) == ["read", "scaled", "end", "finish"]
    assert ran(project.root) == ["read", "total"]
    dvc(project.root, "push", "--quiet")
    git(project.root, "add", "--all")
    git(project.root, "commit", "--quiet", "-m", "Run")
    return folder


@pytest.fixture
def quiet(reproduced, tmp_path):
    """Return that project, to be changed."""
    shutil.copytree(reproduced, tmp_path / "there", symlinks=True)
    return open_project(tmp_path / "there" / "houses")


def render(project):
    typed(project.root, [sys.executable, "-m", "charkha", "render", "dvc", "--force"])


def outputs(root):
    """Return the digests of all that steps returned, by file."""
    return {
        f"{file.parent.name}/{path}": digest
        for file in (root / "outputs").glob("*/outputs.json")
        for path, digest in json.loads(file.read_text())["files"].items()
    }


def ran(root):
    """Return the steps that ran since the last time."""
    file = root / "ran.txt"
    told = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return told


def edit(file, old, new):
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_what_it_compiles_is_what_is_kept_and_dvc_reads_it(houses):
    name = planned(houses).entry.removesuffix(".py")
    texts = DvcEngine(houses).compile(planned(houses))
    plain = {file: text.replace(name, "houses") for file, text in texts.items()}
    kept = {file.name: file.read_text() for file in GOLDEN.iterdir()}
    # Where this differs and is right: write the texts of `plain` into the folder golden/dvc.
    assert plain == kept
    for file, text in texts.items():
        (houses.root / file).write_text(stamped(text))
    with Repo(str(houses.root)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
    assert set(stages) == {"read", "scaled", "end", "tell", "finish"}
    assert [str(out) for out in stages["end"].metrics] == ["outputs/report.metrics.json"]


def test_five_hundred_steps_are_compiled_in_one_pass(tmp_path):
    name = f"many_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / "charkha.toml").write_text(f'[pipeline]\nentry = "{name}.py"\n')
    (tmp_path / f"{name}.py").write_text(
        "from charkha import pipeline, step\n\n\n"
        "@step\ndef grow(number: int, by: int) -> int:\n    return number + by\n\n\n"
        "@pipeline\ndef many(by: int = 1) -> None:\n    number = grow(0, by)\n"
        "    for _ in range(499):\n        number = grow(number, by)\n"
    )
    project = open_project(tmp_path)
    stages = yaml.safe_load(DvcEngine(project).compile(planned(project))["dvc.yaml"])["stages"]
    assert len(stages) == 501
    assert stages["grow-500"]["deps"] == [f"{name}.py", "outputs/grow-499"]
    assert stages["grow-500"]["params"] == ["by"]


@pytest.mark.timeout(900)
def test_a_clone_runs_nothing_again_and_then_only_what_has_changed(quiet):
    root, clone = quiet.root, quiet.root.parent / "clone"
    git(root.parent, "clone", "--quiet", str(root), str(clone))
    dvc(clone, "pull", "--quiet")
    assert started(dvc(clone, "repro")) == []
    assert "up to date" in dvc(clone, "status")
    assert not (clone / ".charkha").exists()
    assert outputs(clone) == outputs(root) != {}

    edit(clone / "params.yaml", "by: 2.0", "by: 3.0")
    assert started(dvc(clone, "repro")) == ["scaled", "end", "finish"]
    assert ran(clone) == ["total"]
    [done] = list_runs(open_project(clone))
    assert (done.status, done.steps["read"].how) == ("finished", "reused")
    assert done.output("report.text") == "1500.0 dollars"
    [reason] = done.steps["scaled[0]"].because
    assert (reason["name"], reason["was"], reason["now"]) == ("by", "2.0", "3.0")
    difference = json.loads(dvc(clone, "metrics", "diff", "--json"))
    assert difference["outputs/report.metrics.json"] == {
        "total": {"old": 1000.0, "new": 1500.0, "diff": 500.0}
    }


def test_what_dvc_starts_for_nothing_runs_nothing_and_is_no_run(quiet):
    shutil.rmtree(quiet.root / ".charkha")  # as in a clone
    file = quiet.root / quiet.pipeline.entry
    edit(file, "@step\ndef scaled", "# A comment.\n@step\ndef scaled")
    assert started(dvc(quiet.root, "repro")) == ["read", "scaled", "end"]
    assert ran(quiet.root) == []
    assert list_runs(quiet) == []


def test_an_output_that_comes_out_the_same_stops_the_wave(quiet):
    (quiet.root / "prices.txt").write_text("99\n200\n300\n")
    assert started(dvc(quiet.root, "repro")) == ["read", "finish"]
    assert ran(quiet.root) == ["read"]
    newest = list_runs(quiet)[0]
    assert {name: step.how for name, step in newest.steps.items()} == {
        "read": "ran",
        "scaled[0]": "reused",
        "scaled[1]": "reused",
        "total": "reused",
        "report": "reused",
    }


def test_a_stage_that_fails_ends_the_run_and_the_next_begins_another(quiet):
    (quiet.root / "prices.txt").write_text("200\nmany\n")
    dvc(quiet.root, "repro", fails=True)
    (quiet.root / "prices.txt").write_text("200\n300\n")
    dvc(quiet.root, "repro")
    last, first, _ = list_runs(quiet)
    assert (first.status, first.steps["read"].how) == ("failed", "failed")
    assert "many" in str(first.error)
    assert last.status == "finished"


def test_some_of_the_stages_are_an_interrupted_run_and_the_next_one_tells_of_all(quiet):
    edit(quiet.root / "params.yaml", "by: 2.0", "by: 3.0")
    assert started(dvc(quiet.root, "repro", "scaled")) == ["scaled"]
    part = list_runs(quiet)[0]
    assert (part.status, part.steps["scaled[0]"].how) == ("interrupted", "ran")
    dvc(quiet.root, "repro")
    done = list_runs(quiet)[0]
    assert (done.status, done.steps["scaled[0]"].how) == ("finished", "reused")
    assert done.output("total") == 1500.0


def test_a_run_sees_what_dvc_cannot(houses, monkeypatch):
    edit(
        houses.root / houses.pipeline.entry, '@step(group="end")', '@step(group="end", env=("Z",))'
    )
    monkeypatch.setenv("Z", "1")
    assert follow(houses, submit(houses, "dvc")).status == "finished"
    assert ran(houses.root) == ["read", "total"]
    monkeypatch.setenv("Z", "2")
    done = follow(houses, submit(houses, "dvc"))
    assert ran(houses.root) == ["total"]
    assert [r["text"] for r in done.steps["total"].because] == ["environment variable Z changed"]
    assert {name for name, step in done.steps.items() if step.how == "ran"} == {"total", "tell"}


def test_a_changed_file_is_not_taken_for_what_a_step_returned(quiet):
    before = outputs(quiet.root)
    (quiet.root / "outputs" / "read" / "result.json").write_text("[1,2]")
    assert "outputs/read" in dvc(quiet.root, "status")
    dvc(quiet.root, "repro")
    assert ran(quiet.root) == []
    assert outputs(quiet.root) == before
    assert json.loads((quiet.root / "outputs" / "read" / "result.json").read_text()) == [200, 300]


def test_parameters_that_a_person_has_changed_are_not_written_over(quiet):
    edit(quiet.root / "params.yaml", "by: 2.0", "by: 7.0")
    with pytest.raises(UserError, match=r"somebody has changed params\.yaml") as refused:
        submit(quiet, "dvc")
    assert "dvc repro" in str(refused.value.fix)
    last = read_run("last", quiet)
    assert (last.status, "somebody has changed" in str(last.error)) == ("failed", True)


def test_a_project_without_dvc_is_told_what_to_type(tmp_path):
    (tmp_path / "charkha.toml").write_text("")
    project = open_project(tmp_path)
    with pytest.raises(UserError, match="has no DVC repository") as refused:
        DvcEngine(project)._check_repository()
    assert "dvc init" in str(refused.value.fix)
