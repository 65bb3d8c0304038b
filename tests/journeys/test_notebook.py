"""A pipeline that stands in a module, run and looked at from a Jupyter notebook."""

import os
import warnings

import pytest

PIPELINE = """
from charkha import step, pipeline

@step
def numbers(n: int) -> list:
    return list(range(n))

@step
def total(xs: list) -> int:
    return sum(xs)

@pipeline
def main(n: int = 4):
    total(numbers(n))
"""
CELLS = [
    "import charkha, pipeline",
    "charkha.run(pipeline.main, params={'n': 5}, wait=False)",
    "_.output('total')",
    "charkha.run(pipeline.main, params={'n': 5}, wait=False).cached",
    "pipeline.total([1, 2])",
]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    with warnings.catch_warnings():  # jupyter_client announces a move of its folders when imported
        warnings.simplefilter("ignore")
        import nbformat
        from nbclient import NotebookClient
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "charkha.toml").write_text('[project]\nname = "notebook"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    client = NotebookClient(
        made, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with warnings.catch_warnings():  # the client's sockets and loops are its own
        warnings.simplefilter("ignore")
        client.execute(env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    return made


def shown(cell):
    (output,) = [o for o in cell.outputs if o.output_type == "execute_result"]
    return output.data["text/plain"]


@pytest.mark.filterwarnings("ignore")  # of zmq and jupyter_client, at their teardown
def test_a_notebook_runs_a_pipeline_and_shows_the_run(notebook):
    _, run, output, cached, plain = notebook.cells
    lines = shown(run).splitlines()
    assert "of pipeline:main: finished in" in lines[0]
    assert [line.split()[:2] for line in lines[1:]] == [["numbers", "ran"], ["total", "ran"]]
    assert shown(output) == "10"
    assert shown(cached) == "2"
    assert shown(plain) == "3"
