"""Keys: equal for equal code in every process, and never the wrong step's."""

import os
import subprocess
import sys

import pytest

from charkha.errors import CharkhaError

HEAD = "from charkha import step, pipeline\n"


def step(body, before):
    """Return a pipeline.py with one step of this body."""
    return f"{HEAD}{before}\n@step\ndef s1():\n    {body}\n\n@pipeline\ndef main():\n    s1()\n"


RICH = step(
    "return [str(x) for x in (h.REG, h.SET, h.BOX, h.PAT, h.E.A, h.obj, h.both)]",
    "import h",
)
H = """
import datetime, decimal, enum, functools, pathlib, re, types
SET = {"a", "b", "c", ("d", 1)}
BOX = types.SimpleNamespace(a={"x", "y"}, b=object)
PAT = re.compile("a|b")
HERE = pathlib.Path(__file__).parent
class E(enum.Enum):
    A = 1
class Plain:
    def __init__(self):
        self.when = datetime.date(2026, 1, 1)
        self.price = decimal.Decimal("1.5")
        self.here = HERE
obj = Plain()
REG = {"a": functools.partial(Plain), "b": lambda: SET, "c": len}
a, b, c = {1}, object(), [E.A]
a.add(2)
c.append(3)
b = c = [object(), a]
def both():
    return a, b, c, {k for k in SET}
"""
SHOW = """
import json, sys
from charkha.pipeline.run import run
made = run()
print(json.dumps([(s.name, s.how, s.key) for s in made.steps.values()]))
"""


def keys_in_a_process(folder, seed):
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_key_is_the_same_in_every_process_and_in_every_place(workshop, tmp_path_factory):
    other = tmp_path_factory.mktemp("clone")
    for name, text in {"pipeline.py": RICH, "h.py": H}.items():
        workshop.write(name, text)
        (other / name).write_text(text)
    (other / "charkha.toml").write_text('[project]\nname = "workshop"\n')
    made = [keys_in_a_process(workshop.root, seed) for seed in (1, 2, 3)]
    elsewhere = keys_in_a_process(other, 4)
    assert made[0].replace("ran", "reused") == made[1] == made[2]
    assert elsewhere == made[0]


LEGAL = {
    "a list that holds itself": "L = [1]\nL.append(L)\nVALUE = len(L)\ndef f():\n    return len(L)\n",
    "a huge number": "N = 10 ** 6000\ndef f():\n    return N % 7\n",
    "a deep list": "D = []\nfor _ in range(2000):\n    D = [D]\ndef f():\n    return len(D)\n",
    "a long sum": "def f():\n    return " + " + ".join(["1"] * 900) + "\n",
    "a long chain of elif": "def f(x=3):\n    if x == -1:\n        return 0\n"
    + "".join(f"    elif x == {i}:\n        return {i}\n" for i in range(300)),
    "not a number": "N = float('nan')\ndef f():\n    return str(N)\n",
    "a lone surrogate": "N = '\\udc80'\ndef f():\n    return len(N)\n",
    "modules that import each other": "import k\nONE = 1\ndef f():\n    return k.g()\n",
    "a module that was forbidden": "import sys\nsys.modules['forbidden'] = None\ndef f():\n    return 1\n",
    "an object with __getattr__": "class A:\n    def __getattr__(self, n):\n        return self\n"
    "X = A()\ndef f():\n    X.y\n    return 1\n",
    "a class with odd attributes": "class M(type):\n    def __getattr__(cls, n):\n        raise KeyError(n)\n"
    "class A(metaclass=M):\n    pass\ndef f():\n    A()\n    return 1\n",
    "numpy": "import numpy as np\nA = np.arange(3)\nB = np.float64(2)\ndef f():\n    return int(A.sum() + B)\n",
}


@pytest.mark.parametrize("case", LEGAL)
def test_legal_code_is_followed_and_reused(workshop, case):
    workshop.write("pipeline.py", step("return h.f()", "import h"))
    workshop.write("h.py", LEGAL[case])
    workshop.write("k.py", "import h\ndef g():\n    return h.ONE\n")
    workshop.run()
    sys.modules.pop("forbidden", None)
    assert workshop.ran() == []


UNUSED = {
    "an import for the type checker": (
        step("return h.f(1)", "import h"),
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from k import K\n"
        "def f(x: 'K'):\n    return 1\n",
    ),
    "another constant made of the same path": (
        step("return h.HERE.name != ''", "import h"),
        "import pathlib\nimport k\nHERE = pathlib.Path(__file__).parent\nDATA = HERE.joinpath(k.K)\n",
    ),
    "what runs only as a script": (
        step("return h.f()", "import h"),
        "import k\ndef f():\n    return 1\nif __name__ == '__main__':\n    print(k.K)\n",
    ),
    "a registry's unused neighbour": (
        step("return h.f()", "import h"),
        "import k\nREG = {'a': k.f}\ndef f():\n    return 1\n",
    ),
}


@pytest.mark.parametrize("case", UNUSED)
def test_what_a_step_does_not_use_does_not_count(workshop, case):
    pipeline, h = UNUSED[case]
    workshop.write("pipeline.py", pipeline)
    workshop.write("h.py", h)
    workshop.write("k.py", "K = 'one'\ndef f():\n    return 1\n")
    workshop.run()
    workshop.write("k.py", "K = 'two'\ndef f():\n    return 2\n")
    assert workshop.ran() == []


@pytest.mark.parametrize(
    "definition",
    [
        "def make(n):\n    @step(name=f's{n}')\n    def s():\n        return n\n    return s\n"
        "a, b = make(1), make(2)\n",
        "@step\ndef s():\n    return 1\na = s\n@step(name='s2')\ndef s():\n    return 2\nb = s\n",
    ],
    ids=["made by one function", "defined again"],
)
def test_two_steps_that_cannot_be_told_apart_are_refused(workshop, definition):
    workshop.write(
        "pipeline.py", f"{HEAD}\n{definition}\n@pipeline\ndef main():\n    a()\n    b()\n"
    )
    with pytest.raises(CharkhaError, match="another step"):
        workshop.run()


def test_dictionaries_of_inputs_with_dots_in_their_names_differ(workshop):
    text = HEAD + (
        "@step\ndef one():\n    return 1\n@step\ndef show(x: dict):\n    return str(x)\n"
        "@pipeline\ndef main():\n    show({'a': {'b': one()}})\n"
    )
    workshop.write("pipeline.py", text)
    workshop.run()
    workshop.write("pipeline.py", text.replace("{'a': {'b': one()}}", "{'a.b': one()}"))
    assert workshop.run().output("show") == "{'a.b': 1}"


def test_the_code_of_an_inputs_class_counts(workshop):
    workshop.write("charkha.toml", '[project]\nname = "w"\nallow_pickle = true\n')
    workshop.write("m.py", "class Model:\n    def predict(self):\n        return 1\n")
    workshop.write(
        "pipeline.py",
        HEAD + "import m\n@step\ndef fit():\n    return m.Model()\n@step\ndef score(model):\n"
        "    return model.predict()\n@pipeline\ndef main():\n    score(fit())\n",
    )
    assert workshop.run().output("score") == 1
    assert workshop.ran() == []
    workshop.edit("m.py", "return 1", "return 2")
    run = workshop.run()
    assert run.output("score") == 2
    assert [r["text"] for r in run.steps["score"].because] == ["class m.Model changed"]


def test_the_version_of_an_inputs_library_counts(workshop):
    workshop.write(
        "pipeline.py",
        HEAD + "import pandas as pd\n@step\ndef make():\n    return pd.DataFrame({'a': [1]})\n"
        "@step\ndef count(rows):\n    return len(rows)\n@pipeline\ndef main():\n    count(make())\n",
    )
    run = workshop.run()
    parts = run.steps["count"]
    assert parts.how == "ran"
    last = next((workshop.root / ".charkha/last").glob("*.json")).read_text()
    assert '"distributions": {"pandas"' in last.partition('"count"')[2]


def test_a_module_that_is_touched_is_not_said_to_be_old(workshop):
    from charkha.pipeline.run import load_pipeline
    from charkha.pipeline.run import run as engine_run
    from charkha.project import open_project

    workshop.write("h.py", "def f():\n    return 1\n")
    workshop.write("pipeline.py", step("return h.f()", "import h"))
    project = open_project(workshop.root)
    pipeline = load_pipeline(project)
    os.utime(workshop.root / "h.py", (1, 1))
    assert engine_run(pipeline, project=project).output("s1") == 1


def test_a_helper_that_was_reloaded_with_its_pipeline_is_not_said_to_be_old(workshop):
    import importlib

    from charkha.pipeline.run import load_pipeline
    from charkha.pipeline.run import run as engine_run
    from charkha.project import open_project

    workshop.write("h.py", "def f():\n    return 1\n")
    workshop.write("pipeline.py", step("return h.f()", "import h"))
    project = open_project(workshop.root)
    load_pipeline(project)
    workshop.edit("h.py", "return 1", "return 23")
    for name in ("h", "pipeline"):
        importlib.reload(sys.modules[name])
    pipeline = load_pipeline(project)
    assert engine_run(pipeline, project=project).output("s1") == 23
