"""What a step takes from its surroundings without declaring it."""

import contextlib
import os
import sqlite3
import sys
import zipfile

import pytest

BODY = """
import json, os, pathlib, glob, time
from charkha import step, pipeline, File
{imports}

def read(path):
    with open(path) as file:
        return file.read()

@step
def s1():
    {code}

@pipeline
def main():
    s1()
"""


def project(workshop, code, imports=""):
    workshop.write("pipeline.py", BODY.format(code=code, imports=imports))
    workshop.write("data/x.csv", "a,b\n1,2\n")
    return workshop


def hints(run):
    return [text for text in run.notices if text.startswith("s1: ")]


READERS = {
    "open": ("return read('data/x.csv')", ""),
    "pathlib": ("return pathlib.Path('data/x.csv').read_text()", ""),
    "os.open": ("return os.read(os.open('data/x.csv', os.O_RDONLY), 99).decode()", ""),
    "pandas.read_csv": ("return pd.read_csv('data/x.csv').to_csv()", "import pandas as pd"),
    "pandas.read_parquet": (
        "return pd.read_parquet('data/x.parquet').to_csv()",
        "import pandas as pd",
    ),
    "pyarrow": (
        "return pq.read_table('data/x.parquet').to_pydict()",
        "import pyarrow.parquet as pq",
    ),
    "duckdb": (
        "return duckdb.sql(\"select * from 'data/x.parquet'\").fetchall()",
        "import duckdb",
    ),
}


def write_table(workshop, value):
    import pyarrow as pa
    import pyarrow.parquet as pq

    workshop.write("data/x.csv", f"a,b\n{value},2\n")
    pq.write_table(pa.table({"a": [value]}), workshop.root / "data/x.parquet")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_read_without_being_declared_counts(workshop, reader):
    if sys.platform != "linux" and reader in ("pandas.read_parquet", "pyarrow", "duckdb"):
        pytest.skip("native readers are seen through inotify, which only Linux has")
    project(workshop, *READERS[reader])
    write_table(workshop, 1)
    first = workshop.run()
    name = "data/x.parquet" if "parquet" in READERS[reader][0] else "data/x.csv"
    assert hints(first) == [
        f's1: reads {name} without declaring it; File("{name}") as an argument would say so'
    ]
    assert workshop.ran() == []
    write_table(workshop, 2)
    second = workshop.run()
    assert second.steps["s1"].because[0]["text"] == f"file {name} changed"
    assert hints(second) == []  # once is enough


def test_a_file_that_was_not_there_counts_by_its_absence(workshop):
    project(
        workshop,
        "try:\n        return read('late.txt')\n    except FileNotFoundError:\n        return ''",
    )
    workshop.run()
    assert workshop.ran() == []
    workshop.write("late.txt", "here")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "file late.txt is there now"
    assert run.output("s1") == "here"


def test_a_folder_that_is_listed_counts_by_its_names(workshop):
    project(workshop, "return sorted(glob.glob('data/*.csv'))")
    workshop.run()
    assert workshop.ran() == []
    workshop.write("data/y.csv", "")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "list of files in data changed"
    assert len(run.output("s1")) == 2


def test_a_variable_that_our_code_reads_counts(workshop, monkeypatch):
    project(workshop, "return os.getenv('COLOUR', 'none')")
    workshop.run()
    assert workshop.ran() == []
    monkeypatch.setenv("COLOUR", "red")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "environment variable COLOUR is there now"
    assert run.output("s1") == "red"


def test_a_copy_of_the_whole_environment_is_no_dependency_on_each_variable(workshop, monkeypatch):
    for i in range(40):
        monkeypatch.setenv(f"NOISE_{i}", "1")
    project(workshop, "return len(dict(os.environ)) > 0")
    workshop.run()
    monkeypatch.setenv("NOISE_7", "2")
    assert workshop.ran() == []


def test_a_file_that_the_step_wrote_is_its_product(workshop):
    project(
        workshop,
        "pathlib.Path('out.txt').write_text('x'); return pathlib.Path('out.txt').read_text()",
    )
    assert hints(workshop.run()) == []
    workshop.write("out.txt", "other")
    assert workshop.ran() == []


def test_a_module_that_is_found_while_the_step_runs_counts(workshop):
    project(workshop, "return getattr(__import__('importlib').import_module('late' + 'r'), 'X')")
    workshop.write("later.py", "X = 1\n")
    workshop.run()
    assert workshop.ran() == []
    workshop.write("later.py", "X = 2  # changed\n")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "module later changed"
    assert run.output("s1") == 2


def test_a_declared_file_counts_and_brings_no_hint(workshop):
    workshop.write("data/x.csv", "1")
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline, File\n\n@step\ndef s1(x: File):\n"
        "    return x.read_text()\n\n@pipeline\ndef main():\n    s1(File('data/x.csv'))\n",
    )
    assert workshop.run().notices == []
    assert workshop.ran() == []
    workshop.write("data/x.csv", "2")
    run = workshop.run()
    assert run.steps["s1"].because[0]["text"] == "file data/x.csv changed"


def test_a_declared_folder_counts_by_all_files_in_it(workshop):
    workshop.write("data/x.csv", "1")
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline, Dir\n\n@step\ndef s1(x: Dir):\n"
        "    return sorted(p.name for p in x.path.iterdir())\n\n"
        "@pipeline\ndef main():\n    s1(Dir('data'))\n",
    )
    assert workshop.run().notices == []
    workshop.write("data/z.csv", "2")
    assert workshop.run().output("s1") == ["x.csv", "z.csv"]


def test_a_file_that_changes_while_it_is_read_is_not_kept_for_reuse(workshop):
    project(
        workshop,
        "text = read('data/x.csv'); time.sleep(0.05); os.utime('data/x.csv'); return text",
    )
    run = workshop.run()
    assert any("changed while the step read it" in text for text in run.notices)
    assert workshop.ran() == ["s1"]


def test_settings_that_somebody_else_opens_meanwhile_are_no_dependency(workshop):
    project(
        workshop,
        "import subprocess; subprocess.run(['cat', 'charkha.toml', 'pipeline.py'], check=True)",
        "import numpy",
    )
    assert hints(workshop.run()) == []
    workshop.edit("charkha.toml", "[project]", "# a comment\n[project]")
    assert workshop.ran() == []


OPENERS = {
    "through a link to the project": "return open(pathlib.Path('{out}/link/data/x.txt')).read()",
    "a link to a file elsewhere, natively": "return subprocess.run(['cat', 'data/far.txt'], capture_output=True, text=True).stdout",
    "a link to a folder elsewhere, natively": "return subprocess.run(['cat', 'far/x.txt'], capture_output=True, text=True).stdout",
    "another process": "return subprocess.run(['cat', 'data/x.txt'], capture_output=True, text=True).stdout",
    "a shell": "os.system('cat data/x.txt >/dev/null'); return os.popen('cat data/x.txt').read()",
    "a forked child": "return multiprocessing.get_context('fork').Pool(1).map(read, ['data/x.txt'])",
    "a thread": "return list(ThreadPoolExecutor(2).map(read, ['data/x.txt']))",
    "numpy.memmap": "return str(np.memmap('data/x.txt', mode='r')[:].tobytes())",
    "chdir": "os.chdir('data'); text = read('x.txt'); os.chdir('..'); return text",
    "zipfile": "return zipfile.ZipFile('data/x.zip').read('a').decode()",
    "relative to the file": "return (pathlib.Path(__file__).parent / 'data' / 'x.txt').read_text()",
    "sqlite": "return sqlite3.connect('data/x.db').execute('select a from t').fetchall()",
    "sqlite by URI": "return sqlite3.connect('file:data/x.db?mode=ro', uri=True).execute('select a from t').fetchall()",
    "a module imported in the step": "import late; return late.TEXT.x",
}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_counts_however_it_is_opened(workshop, tmp_path_factory, opener):
    out = tmp_path_factory.mktemp("elsewhere")

    def fill(value):
        with zipfile.ZipFile(workshop.root / "data/x.zip", "w") as archive:
            archive.writestr("a", value)
        (workshop.root / "data/x.db").unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(workshop.root / "data/x.db")) as base, base:
            base.execute("create table t (a)")
            base.execute("insert into t values (?)", [value])
        (workshop.root / "data/x.txt").write_text(value)
        (out / "x.txt").write_text(value)

    workshop.write(
        "pipeline.py",
        "import contextlib, os, pathlib, subprocess, multiprocessing, sqlite3, zipfile\n"
        "from concurrent.futures import ThreadPoolExecutor\nimport numpy as np\n"
        "from charkha import step, pipeline\n\ndef read(path):\n    with open(path) as file:\n"
        f"        return file.read()\n\n@step\ndef s1():\n    {OPENERS[opener].format(out=out)}\n\n"
        "@pipeline\ndef main():\n    s1()\n",
    )
    if "numpy" not in opener:
        workshop.edit("pipeline.py", "import numpy as np\n", "")
    workshop.write(
        "late.py",
        "import types\nwith open('data/x.txt') as f:\n    TEXT = types.SimpleNamespace(x=f.read())\n",
    )
    (workshop.root / "data").mkdir()
    (out / "link").symlink_to(workshop.root)
    (workshop.root / "data/far.txt").symlink_to(out / "x.txt")
    (workshop.root / "far").symlink_to(out)
    fill("one")
    assert "one" in str(workshop.run().output("s1"))
    assert workshop.ran() == []
    fill("two")
    assert "two" in str(workshop.run().output("s1"))
    assert workshop.ran() == []


PRODUCTS = {
    "renamed": "pathlib.Path('part').write_text('x'); os.replace('part', 'out'); return read('out')",
    "a database": "base = sqlite3.connect('out.db'); base.execute('create table if not exists t (a)'); "
    "base.commit(); base.close(); return 1",
    "a database in memory": "sqlite3.connect(':memory:').close(); return 1",
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_what_a_step_makes_is_its_product_however_it_is_made(workshop, product):
    project(workshop, PRODUCTS[product], "import sqlite3")
    run = workshop.run()
    assert run.notices == []
    assert workshop.ran() == []


def test_a_copy_of_a_small_environment_is_no_dependency_on_each_variable(workshop, monkeypatch):
    for name in list(os.environ):
        if name not in ("PATH", "HOME"):
            monkeypatch.delenv(name)
    for i in range(10):
        monkeypatch.setenv(f"NOISE_{i}", "1")
    project(workshop, "return len(dict(os.environ)) > 0")
    workshop.run()
    monkeypatch.setenv("NOISE_7", "2")
    assert workshop.ran() == []


def test_a_variable_that_decides_at_import_counts_where_it_decides(workshop, monkeypatch):
    workshop.write(
        "h.py",
        "import os\nif os.environ.get('FAST'):\n    def f():\n        return 1\n"
        "else:\n    def f():\n        return 2\n",
    )
    project(workshop, "import h; return h.f()", "import h as _h")
    assert workshop.run().output("s1") == 2
    assert workshop.ran() == []
    monkeypatch.setenv("FAST", "1")
    run = workshop.run()
    assert run.output("s1") == 1
    assert "environment variable FAST (read at import) changed" in [
        r["text"] for r in run.steps["s1"].because
    ]


def test_a_file_read_at_import_counts_only_for_what_uses_it(workshop):
    workshop.write("conf.json", '{"a": 1}')
    project(workshop, "return 1", "with open('conf.json') as f:\n    CONF = json.load(f)")
    workshop.run()
    workshop.write("conf.json", '{"a": 2}')
    assert workshop.ran() == []


def test_a_module_that_another_step_imported_counts_with_what_it_read(workshop):
    workshop.write("conf.txt", "one")
    workshop.write(
        "late.py",
        "import types\nwith open('conf.txt') as f:\n    T = types.SimpleNamespace(x=f.read())\n",
    )
    workshop.write(
        "pipeline.py",
        "from charkha import step, pipeline\n@step\ndef s1():\n    import late\n    return late.T.x\n"
        "@step\ndef s2(a):\n    import late\n    return late.T.x\n"
        "@pipeline\ndef main():\n    s2(s1())\n",
    )
    workshop.run()
    assert workshop.ran() == []
    workshop.write("conf.txt", "two")
    run = workshop.run()
    assert [run.output("s1"), run.output("s2")] == ["two", "two"]


def test_more_files_than_the_kernel_notes_are_not_lost_in_silence(workshop):
    for i in range(10):
        workshop.write(f"data/{i}.csv", "1")
    code = (
        "subprocess.run(['sh', '-c', 'for i in $(seq 1800); do cat data/*.csv >/dev/null; done'])"
    )
    project(workshop, f"{code}; return 1", "import subprocess")
    run = workshop.run()
    assert any("more files at once than the kernel notes" in text for text in run.notices)
    assert workshop.ran() == ["s1"]


def test_many_files_that_python_opens_do_not_overflow_the_kernels_queue(workshop):
    workshop.write("data/y.csv", "1")
    project(
        workshop,
        "[read(f\"data/{'xy'[i % 2]}.csv\") for i in range(20_000)]; return 1",
        "import numpy as np",
    )
    workshop.edit("pipeline.py", "return 1", "return int(np.int64(1))")
    workshop.run()
    assert workshop.ran() == []


def test_watches_are_given_back_after_a_run(workshop):
    project(workshop, "return int(np.int64(1))", "import numpy as np")

    def watches():
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum("inotify" in os.readlink(link) for link in links if os.path.islink(link))

    before = watches()
    workshop.run()
    assert watches() == before
