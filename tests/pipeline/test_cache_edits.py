"""The edit matrix: what each edit re-runs, and what the reason says."""

import pytest

PIPELINE = '''
import helpers
from bases import Scaler
from charkha import step, pipeline, File

@step
def load(n: int) -> int:
    """Start."""
    # a comment
    return n + 1

@step
def scale(n: int) -> float:
    return helpers.scaled(n) + Scaler().shift(n)

@step
def report(x: float) -> str:
    return f"{x:.3f}"

@pipeline
def main(n: int = 1):
    report(scale(load(n)))
'''
HELPERS = '''
from deeper import rate

RATE = 2.0
UNUSED = 1

def scaled(n):
    """Scale."""
    return n * RATE * rate()

def other():
    return 1
'''
DEEPER = "def rate():\n    return 1.5\n"
BASES = """
class Base:
    def shift(self, n):
        return 1

class Scaler(Base):
    pass
"""


@pytest.fixture
def project(workshop):
    workshop.write("pipeline.py", PIPELINE)
    workshop.write("helpers.py", HELPERS)
    workshop.write("deeper.py", DEEPER)
    workshop.write("bases.py", BASES)
    assert workshop.ran() == ["load", "scale", "report"]
    return workshop


def test_nothing_changed_runs_nothing(project):
    assert project.ran() == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pipeline.py", "# a comment", "# another comment"),
        ("pipeline.py", '"""Start."""', '"""Begin."""'),
        ("pipeline.py", '    """Start."""\n', ""),
        ("pipeline.py", "n + 1", "(n\n     + 1)"),
        ("helpers.py", '"""Scale."""', '"""Scale it."""'),
        ("helpers.py", "UNUSED = 1", "UNUSED = 2"),
        ("helpers.py", "def other():\n    return 1", "def other():\n    return 2"),
        ("helpers.py", "RATE = 2.0", "RATE = 4.0 / 2"),
        ("pipeline.py", "@step\ndef load", "@step(retries=3, timeout_s=None)\ndef load"),
    ],
    ids=["comment", "docstring", "no docstring", "formatting", "helper's docstring",
         "unused constant", "unused helper", "constant of the same value", "how a step is run"],
)  # fmt: skip
def test_an_edit_without_meaning_runs_nothing(project, file, old, new):
    project.edit(file, old, new)
    assert project.ran() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("helpers.py", "n * RATE", "n + RATE", "function helpers.scaled changed"),
        ("deeper.py", "1.5", "2.5", "function deeper.rate changed"),
        ("helpers.py", "RATE = 2.0", "RATE = 3.0", "constant helpers.RATE changed: 2.0 → 3.0"),
        ("bases.py", "return 1", "return 2", "class bases.Base changed"),
        ("pipeline.py", "Scaler().shift(n)", "Scaler().shift(n + 1)", "function pipeline.scale"),
    ],
    ids=["helper", "helper of a helper", "constant of a helper", "base class", "the step itself"],
)
def test_an_edit_that_a_step_reaches_runs_it_and_says_what_changed(project, file, old, new, reason):
    project.edit(file, old, new)
    steps = project.run().steps
    assert steps["load"].how == "reused"
    assert steps["scale"].how == "ran"
    assert any(r["text"].startswith(reason) for r in steps["scale"].because)


def test_a_parameter_runs_what_takes_it_and_what_follows(project):
    run = project.run(n=5)
    assert [s.how for s in run.steps.values()] == ["ran", "ran", "ran"]
    assert run.steps["load"].because[0]["text"] == "parameter n changed: 1 → 5"
    assert run.steps["scale"].because[0]["text"] == "input n changed"


def test_an_edit_with_the_same_output_stops_the_wave(project):
    project.edit("pipeline.py", "return n + 1", "return 1 + n")
    assert project.ran() == ["load"]


def test_a_later_step_alone_runs_alone(project):
    project.edit("pipeline.py", ".3f", ".4f")
    assert project.ran() == ["report"]


def test_an_edit_taken_back_is_reused_again(project):
    project.edit("deeper.py", "1.5", "2.5")
    project.run()
    project.edit("deeper.py", "2.5", "1.5")
    assert project.ran() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from helpers import scaled as s\n", "s(n)"),
        ("import helpers as h\n", "h.scaled(n)"),
        ("", "__import_inside__"),
        ("import functools, helpers\nscaled2 = functools.partial(helpers.scaled)\n", "scaled2(n)"),
        ("from helpers import *\n", "scaled(n)"),
        ("from package import scaled\n", "scaled(n)"),
        ("import package.inner\n", "package.inner.scaled(n)"),
    ],
    ids=["from as", "import as", "inside", "partial", "star", "re-export", "submodule"],
)
def test_a_helper_is_followed_however_it_is_imported(workshop, before, after):
    body = (
        "    from helpers import scaled\n    return scaled(n)"
        if "inside" in after
        else (f"    return {after}")
    )
    workshop.write(
        "pipeline.py",
        f"from charkha import step, pipeline\n{before}\n@step\ndef s1(n: int):\n{body}\n\n"
        "@pipeline\ndef main():\n    s1(2)\n",
    )
    workshop.write("helpers.py", HELPERS)
    workshop.write("deeper.py", DEEPER)
    workshop.write("package/__init__.py", "from .inner import scaled\n")
    workshop.write("package/inner.py", "from helpers import scaled\n")
    workshop.run()
    assert workshop.ran() == []
    workshop.edit("deeper.py", "1.5", "2.5")
    assert workshop.ran() == ["s1"]


def test_a_decorator_of_a_helper_is_part_of_it(workshop):
    workshop.write("deco.py", "def twice(f):\n    return lambda n: f(n) * 2\n")
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline\nfrom deco import twice\n\n"
        "@twice\ndef helper(n):\n    return n\n\n@step\ndef s1(n: int):\n    return helper(n)\n\n"
        "@pipeline\ndef main():\n    s1(2)\n",
    )
    workshop.run()
    workshop.edit("deco.py", "* 2", "* 3")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "function deco.twice changed"
    assert run.output("s1") == 6


def test_a_local_variable_is_not_taken_for_the_constant_of_its_name(workshop):
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline\nrate = 1\n\n"
        "@step\ndef s1(n: int):\n    rate = 2\n    return n * rate\n\n"
        "@pipeline\ndef main():\n    s1(2)\n",
    )
    workshop.run()
    workshop.edit("pipeline.py", "rate = 1\n", "rate = 5\n")
    assert workshop.ran() == []


def test_a_registry_that_is_filled_after_it_was_made_counts_with_its_filling(workshop):
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline\nclass Box:\n    def __init__(self):\n"
        "        self.x = 1\nBOX = Box()\nBOX.x = 2\n\n"
        "@step\ndef s1():\n    return BOX.x\n\n@pipeline\ndef main():\n    s1()\n",
    )
    workshop.run()
    workshop.edit("pipeline.py", "BOX.x = 2", "BOX.x = 3")
    run = workshop.run()
    assert run.steps["s1"].how == "ran"
    assert run.output("s1") == 3


def test_a_declared_variable_counts(workshop, monkeypatch):
    workshop.write(
        "pipeline.py",
        "import os\nfrom charkha import step, pipeline\n\n@step(env=('MODE',))\ndef s1():\n"
        "    return os.environ.get('MODE')\n\n@pipeline\ndef main():\n    s1()\n",
    )
    monkeypatch.setenv("MODE", "a")
    workshop.run()
    assert workshop.ran() == []
    monkeypatch.setenv("MODE", "b")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "environment variable MODE changed"


def test_the_version_of_an_imported_distribution_counts(workshop, tmp_path):
    site = tmp_path / ".venv/site-packages"
    (site / "thing-1.0.dist-info").mkdir(parents=True)
    (site / "thing.py").write_text("VALUE = 1\n")
    workshop.write(
        "pipeline.py",
        f"import sys\nsys.path.insert(0, {str(site)!r})\nimport thing\n"
        "from charkha import step, pipeline\n\n@step\ndef s1():\n    return thing.VALUE\n\n"
        "@pipeline\ndef main():\n    s1()\n",
    )
    workshop.run()
    assert workshop.ran() == []
    (site / "thing-1.0.dist-info").rename(site / "thing-1.1.dist-info")
    run = workshop.run()
    text = run.steps["s1"].because[0]["text"]
    assert text == "installed version of thing changed: 1.0 → 1.1"
