"""How a run goes: fan-out, workers, retries, timeouts, damage, and everything that is said."""

import json
import re
import sys

import pytest

from charkha.errors import CharkhaError, ProjectError, StepFailed, UserError
from charkha.pipeline.parameters import typed
from charkha.pipeline.runs import list_runs, read_run
from charkha.project import open_project

HEAD = "import os, time, pathlib\nfrom charkha import step, pipeline, File, Dir\n"


def project(workshop, text):
    workshop.write("pipeline.py", HEAD + text)
    return workshop


def test_several_outputs_are_unpacked_or_taken_by_name(workshop):
    project(workshop, """
@step(outputs=("low", "high"))
def split(n: int):
    return n - 1, n + 1

@step
def add(a: int, b: int) -> int:
    return a * 10 + b

@pipeline
def main():
    low, high = split(5)
    add(low, high)
    add(split(7).high, 1)
""")  # fmt: skip
    run = workshop.run()
    assert run.output("add") == 46
    assert run.output("split-2.low") == 6
    assert run.output("add-2") == 81


def test_a_named_tuple_names_the_outputs(workshop):
    project(workshop, """
from typing import NamedTuple
class Halves(NamedTuple):
    left: int
    right: int

@step
def halve(n: int) -> Halves:
    return Halves(n // 2, n - n // 2)

@step
def keep(n: int) -> int:
    return n

@pipeline
def main():
    keep(halve(5).right)
""")  # fmt: skip
    assert workshop.run().output("keep") == 3


FAN = """
@step
def numbers(n: int) -> list:
    return [i * 1.0 for i in range(n)]

@step
def square(x: float, plus: float = 0.0) -> float:
    return x * x + plus

@step
def total(xs: list) -> float:
    return sum(xs)

@pipeline
def main(n: int = 3):
    total(square.each(x=numbers(n))(plus=1.0))
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_a_list_is_fanned_out_and_in(workshop, workers):
    project(workshop, FAN)
    run = workshop.run(workers=workers)
    assert run.output("total") == 0 + 1 + 4 + 3
    assert {"square[0]", "square[1]", "square[2]"} <= set(run.steps)
    assert workshop.ran(n=4) == ["numbers", "square[3]", "total"]


def test_a_fan_out_over_literals_keeps_their_types(workshop):
    project(workshop, """
@step
def told(x: object) -> str:
    return repr(x)

@step
def together(xs: list) -> list:
    return xs

@pipeline
def main():
    together(told.each(x=((1, 2), float("inf"), None))())
""")  # fmt: skip
    assert workshop.run().output("together") == ["(1, 2)", "inf", "None"]


def test_a_fan_out_over_what_is_no_list_is_refused(workshop):
    project(
        workshop, FAN.replace("[i * 1.0 for i in range(n)]", "n").replace("-> list:", "-> int:")
    )
    with pytest.raises(StepFailed, match="a fan-out needs a list, this is a int"):
        workshop.run()


def test_a_step_with_each_is_a_plain_function_outside_of_a_pipeline(workshop):
    from charkha import step

    @step
    def double(x: int, times: int = 2) -> int:
        return x * times

    assert double(4) == 8
    assert double.each(x=[1, 2])(times=3) == [3, 6]


def test_workers_give_the_same_artifacts_as_one_process(workshop):
    project(workshop, FAN)
    alone = {n: s.outputs for n, s in workshop.run().steps.items()}
    for folder in ("blobs", "last"):
        import shutil

        shutil.rmtree(workshop.root / ".charkha" / folder)
    together = workshop.run(workers=3).steps
    assert {n: s.outputs for n, s in together.items()} == alone
    assert all(s.how == "ran" for s in together.values())


def test_parallel_branches_run_at_the_same_time(workshop):
    project(workshop, """
@step
def wait_for_the_other(me: str, other: str) -> bool:
    pathlib.Path(f"/tmp/{os.environ['MEET']}-{me}").touch()
    for _ in range(1000):
        if pathlib.Path(f"/tmp/{os.environ['MEET']}-{other}").exists():
            return True
        time.sleep(0.01)
    return False

@step
def both(xs: list) -> bool:
    return all(xs)

@pipeline
def main():
    both([wait_for_the_other("a", "b"), wait_for_the_other("b", "a")])
""")  # fmt: skip
    import os

    os.environ["MEET"] = f"charkha-{os.getpid()}"
    assert workshop.run(workers=2).output("both") is True


def test_a_step_that_fails_is_retried_as_often_as_it_says(workshop):
    project(workshop, """
@step(retries=2)
def flaky() -> int:
    mark = pathlib.Path(".charkha/count")
    n = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(n + 1))
    if n < 2:
        raise ConnectionError(f"attempt {n}")
    return n

@pipeline
def main():
    flaky()
""")  # fmt: skip
    run = workshop.run()
    assert run.output("flaky") == 2
    assert run.steps["flaky"].attempts == 3


def test_a_failure_names_step_place_and_cause_and_keeps_what_was_done(workshop):
    project(workshop, """
@step
def one() -> int:
    return 1

@step
def bad(n: int) -> int:
    return {}["missing"]

@pipeline
def main():
    bad(one())
""")  # fmt: skip
    with pytest.raises(StepFailed, match=r"step 'bad' failed at pipeline.py:10: KeyError") as e:
        workshop.run()
    assert (workshop.root / e.value.log).read_text().startswith("Traceback")
    told = read_run("last", open_project(workshop.root))
    assert told.status == "failed"
    assert told.steps["one"].how == "ran"
    workshop.edit("pipeline.py", '{}["missing"]', "n")
    assert workshop.ran() == ["bad"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_over_its_timeout_is_stopped(workshop, workers):
    project(workshop, """
@step(timeout_s=0.5)
def slow() -> int:
    time.sleep(60)

@pipeline
def main():
    slow()
""")  # fmt: skip
    with pytest.raises(StepFailed, match="longer than its timeout of 0.5 s"):
        workshop.run(workers=workers)


def test_a_worker_that_is_killed_fails_the_step_and_says_how(workshop):
    project(workshop, """
@step
def suicide() -> int:
    os.kill(os.getpid(), 9)

@pipeline
def main():
    suicide()
""")  # fmt: skip
    with pytest.raises(StepFailed, match="killed by signal 9"):
        workshop.run(workers=2)


CHAIN = """
@step
def one() -> list:
    return [1, 2, 3]

@step
def two(xs: list) -> int:
    return sum(xs)

@step
def three(n: int, plus: int) -> int:
    return n + plus

@pipeline
def main(plus: int = 1):
    three(two(one()), plus)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_input_is_made_again_and_reported(workshop, workers):
    project(workshop, CHAIN)
    first = workshop.run()
    digest = first.steps["two"].outputs["result"].digest
    blob = workshop.root / ".charkha/blobs" / digest[:2] / digest
    blob.write_bytes(b"7")  # of the same length
    run = workshop.run(plus=2, workers=workers)
    assert run.output("three") == 8
    assert run.steps["two"].how == "ran"
    assert any("holds other bytes" in text for text in run.notices)


def test_a_missing_output_is_made_again_and_reported(workshop):
    project(workshop, CHAIN)
    digest = workshop.run().steps["two"].outputs["result"].digest
    (workshop.root / ".charkha/blobs" / digest[:2] / digest).unlink()
    run = workshop.run()
    assert [s.how for s in run.steps.values()] == ["reused", "ran", "reused"]
    assert run.notices == ["two: its stored output 'result' is gone or cut short"]


def test_a_damaged_entry_is_made_again_and_reported(workshop):
    project(workshop, CHAIN)
    key = workshop.run().steps["two"].key
    (entry,) = (workshop.root / ".charkha/blobs/notes" / key).iterdir()
    entry.write_bytes(entry.read_bytes()[:40])
    run = workshop.run()
    assert run.steps["two"].how == "ran"
    assert run.notices == ["two: its entry in the cache was damaged"]
    assert workshop.ran() == []


def test_an_uncached_step_runs_each_time_and_stops_the_wave_where_it_makes_the_same(workshop):
    project(workshop, CHAIN.replace("@step\ndef one", "@step(cache=False)\ndef one"))
    workshop.run()
    assert workshop.ran() == ["one"]


def test_files_and_folders_are_artifacts(workshop):
    project(workshop, """
@step
def write() -> File:
    pathlib.Path(".charkha/made.csv").write_text("a\\n1\\n")
    return File(".charkha/made.csv")

@step
def folder(made: File) -> Dir:
    pathlib.Path(".charkha/out/deep").mkdir(parents=True, exist_ok=True)
    pathlib.Path(".charkha/out/deep/copy.csv").write_text(made.read_text())
    return Dir(".charkha/out")

@step
def read(out: Dir) -> str:
    return (out.path / "deep/copy.csv").read_text()

@pipeline
def main():
    read(folder(write()))
""")  # fmt: skip
    assert workshop.run().output("read") == "a\n1\n"
    assert workshop.ran() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@pipeline\ndef main():\n    pass\n", "calls no step"),
        ("@step\ndef a(n: int):\n    return n\n@pipeline\ndef main():\n    a(1, 2)\n",
         "too many positional arguments"),
        ("@step\ndef a():\n    return 1\n@pipeline\ndef main():\n    if a():\n        a()\n",
         "looks into"),
        ("@step\ndef a(x):\n    return 1\n@pipeline\ndef main():\n    a(object())\n",
         "object is not a value that a graph can hold"),
        ("@step\ndef a():\n    return 1\nb = step(name='a')(lambda: 2)\n"
         "@pipeline\ndef main():\n    a()\n    b()\n", "two steps are called 'a'"),
        ("@step\ndef a(*xs):\n    return 1\n@pipeline\ndef main():\n    a(1)\n", "no names"),
        ("import nowhere_to_be_found\n", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:\n", "pipeline.py:3: cannot be imported: SyntaxError"),
        ("", "has 0 pipelines"),
    ],
    ids=["empty", "arguments", "looking into", "no JSON", "one name", "star", "import", "syntax",
         "none"],
)  # fmt: skip
def test_a_wrong_definition_is_said_with_its_place(workshop, text, message):
    project(workshop, text)
    with pytest.raises(ProjectError) as e:
        workshop.run()
    assert message in str(e.value)
    assert e.value.fix
    assert list_runs(open_project(workshop.root)) == []


@pytest.mark.parametrize(
    ("module", "fix"),
    [
        ("sklearn", "pip install 'charkha[local]'"),
        ("xgboost", "pip install 'charkha[xgboost]'"),
        ("boto3", "pip install 'charkha[s3]'"),
        ("cv2", "pip install opencv-python-headless; if it is yours: put cv2.py in {root}"),
        ("nowhere", "pip install nowhere; if it is yours: put nowhere.py in {root}"),
        ("json.nowhere", "mend the file; `python pipeline.py` shows the traceback"),
    ],
)
def test_a_module_that_is_missing_comes_with_the_line_that_brings_it(
    workshop, monkeypatch, module, fix
):
    if "." not in module:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    project(workshop, f"import {module}\n")
    with pytest.raises(ProjectError, match="cannot be imported") as e:
        workshop.run()
    assert e.value.fix == fix.format(root=workshop.root)


def test_a_module_of_the_projects_own_package_is_not_to_be_installed(workshop):
    workshop.write("features/__init__.py", "")
    project(workshop, "import features.build\n")
    with pytest.raises(ProjectError, match="features.build") as e:
        workshop.run()
    assert "mend the file" in e.value.fix


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plsu": 1}, "did you mean 'plus'"),
        ({"plsu": 1}, "pipeline 'main': no parameter is called 'plsu'"),
        ({"plus": "many"}, "parameter 'plus': 'many' is not a whole number"),
        ({"plus": 1.5}, "1.5 is not a whole number"),
        ({"plus": True}, "True is not a whole number"),
    ],
)
def test_a_wrong_parameter_is_said_before_anything_runs(workshop, given, message):
    project(workshop, CHAIN)
    with pytest.raises(ProjectError) as e:
        workshop.run(**given)
    assert message in str(e.value)


@pytest.mark.parametrize(
    ("value", "declared", "says"),
    [
        ("abc", float, "'abc' is not a number"),
        ("abc", bool, "'abc' is not true or false"),
        ("[1", list, "'[1' is not a list"),
        ("[1]", dict, "'[1]' is not an object of JSON"),
        (5, str, "5 is not text"),
    ],
)
def test_a_type_is_told_in_words(value, declared, says):
    with pytest.raises(ProjectError, match=re.escape(says)):
        typed(value, declared, "here")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("-> int:\n    return 'text'", "it returned a str, declared is int"),
        (":\n    return lambda: 1", "no codec keeps a builtins.function"),
        ("-> File:\n    return File('nowhere')", "does not exist"),
    ],
    ids=["type", "codec", "file"],
)
def test_a_wrong_return_value_fails_the_step_and_says_why(workshop, code, message):
    project(workshop, f"@step\ndef a(){code}\n\n@pipeline\ndef main():\n    a()\n")
    with pytest.raises(StepFailed) as e:
        workshop.run()
    assert message in str(e.value)
    assert e.value.exit_code == 1


def test_a_declared_file_that_is_not_there_is_the_users_to_mend(workshop):
    project(
        workshop,
        "@step\ndef a(x: File):\n    return 1\n\n@pipeline\ndef main():\n    a(File('x'))\n",
    )
    with pytest.raises(StepFailed, match="does not exist") as e:
        workshop.run()
    assert e.value.exit_code == 1


def test_a_state_folder_that_cannot_be_made_is_the_users_to_mend(workshop):
    project(workshop, CHAIN)
    (workshop.root / ".charkha").write_text("in the way")
    with pytest.raises(CharkhaError, match="cannot be written"):
        workshop.run()


def test_pickle_is_used_only_where_the_project_says_so(workshop):
    project(workshop, """
class Thing:
    pass

@step
def a():
    return Thing()

@step
def b(x) -> str:
    return type(x).__name__

@pipeline
def main():
    b(a())
""")  # fmt: skip
    with pytest.raises(UserError, match="register_codec"):
        workshop.run()
    workshop.write("charkha.toml", '[project]\nname = "w"\nallow_pickle = true\n')
    assert workshop.run().output("b") == "Thing"


def test_a_run_can_be_read_again_and_shows_itself(workshop):
    project(workshop, CHAIN)
    done = workshop.run()
    again = read_run(done.id, open_project(workshop.root))
    assert again.status == "finished"
    assert again.output("three") == 7
    assert repr(again).splitlines()[1].split()[:2] == ["one", "ran"]


def test_code_saved_after_it_was_imported_is_not_run_under_the_new_codes_name(workshop):
    import sys

    from charkha.pipeline.run import load_pipeline
    from charkha.pipeline.run import run as engine_run

    project(workshop, CHAIN)
    opened = open_project(workshop.root)
    loaded = load_pipeline(opened)
    workshop.edit("pipeline.py", "n + plus", "n + plus + 1000")
    with pytest.raises(ProjectError, match="saved after it had been imported"):
        engine_run(loaded, project=opened)
    assert "pipeline" in sys.modules


def test_the_journal_is_json_lines(workshop):
    project(workshop, CHAIN)
    run = workshop.run()
    lines = (run.folder / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[:2]] == ["RunStarted", "StepStarted"]


def test_a_declared_file_that_is_written_after_it_was_counted_is_not_kept_for_reuse(workshop):
    workshop.write("x.csv", "1")
    project(
        workshop,
        "@step\ndef a(x: File) -> str:\n    x.path.write_text('2')\n    return x.read_text()\n\n"
        "@pipeline\ndef main():\n    a(File('x.csv'))\n",
    )
    run = workshop.run()
    assert any("x.csv changed while the step read it" in text for text in run.notices)
    workshop.write("x.csv", "1")
    assert workshop.ran() == ["a"]


def test_a_file_whose_name_is_taken_by_another_module_is_not_mistaken_for_it(workshop, monkeypatch):
    from types import ModuleType

    project(workshop, CHAIN)
    other = ModuleType("pipeline")
    other.__file__ = str(workshop.write("elsewhere/pipeline.py", ""))
    monkeypatch.setitem(sys.modules, "pipeline", other)
    with pytest.raises(ProjectError, match="the name 'pipeline' is taken by .*elsewhere"):
        workshop.run()
