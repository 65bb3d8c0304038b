"""Which dialect reads what, and how protocols word what is refused."""

import json
import subprocess
import sys

import pytest

from charkha.serving.dialects.choice import dialect_name, make_dialect
from charkha.serving.dialects.refusals import Refusal
from charkha.serving.problems import Problem


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (None, "named"),
        (b"application/json", "named"),
        (b"Application/JSON; charset=utf-8", "named"),
        (b"application/vnd.api+json", "named"),
        (b"application/x-www-form-urlencoded", "named"),
        (b"text/csv;header=present", "csv"),
        (b"application/vnd.apache.arrow.stream", "arrow"),
        (b"application/vnd.apache.parquet", "parquet"),
    ],
)
def test_the_content_type_says_which_dialect_reads_a_body(kind, name):
    assert dialect_name(kind) == name


@pytest.mark.parametrize("kind", [b"text/plain", b"application/xml", b"\xff"])
def test_another_content_type_is_told_which_are_read(kind):
    with pytest.raises(Problem, match=r"arrow\.stream.*parquet.*text/csv") as caught:
        dialect_name(kind)
    assert caught.value.status == 415


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_without_pyarrow_a_table_is_told_what_to_install(kit, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "charkha.serving.dialects.pyarrow", raising=False)
    with pytest.raises(Problem, match=r"pip install 'charkha\[") as caught:
        kit.dialect_of(name)
    assert (caught.value.status, caught.value.kind) == (415, "missing-extra")


def test_without_pyarrow_invocations_reads_all_but_parquet(kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "charkha.serving.dialects.pyarrow", raising=False)
    dialect = kit.dialect_of("invocations")
    assert len(dialect.read(b'{"inputs": {"area": 1, "rooms": 2}}', {}).rows) == 1
    found = kit.problem(dialect, b"PAR1", {b"content-type": b"application/vnd.apache.parquet"})
    assert (found.status, found.as_json()["error_code"]) == (415, "INVALID_PARAMETER_VALUE")


def test_a_fault_of_ours_is_no_missing_extra(kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "charkha.serving.dialects.csv", None)
    with pytest.raises(ModuleNotFoundError):
        make_dialect("csv", kit.model_of(), "blue")


def test_requests_in_json_and_csv_load_neither_pandas_nor_pyarrow_nor_mlflow():
    code = """
import sys
from types import SimpleNamespace
from charkha.serving.dialects.choice import make_dialect
from charkha.serving.schema import RowSchema
model = SimpleNamespace(name="m", version=1, schema=RowSchema([{"name": "a", "type": "double"}]),
                        described={"classes": None}, classes=None)
for name, body in (("named", b'{"a": 1}'), ("csv", b"a\\n1"), ("invocations", b'{"inputs": [1]}'),
                   ("inference_v2", b'{"inputs": [{"name": "a", "shape": [1], "datatype": "FP64",'
                                    b' "data": [1]}]}')):
    assert make_dialect(name, model, "v").read(body, {}).rows == [(1.0,)]
print(sorted({"pandas", "pyarrow", "mlflow", "sklearn", "fastapi"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_problem_has_the_members_that_a_protocols_clients_look_for():
    problem = Problem(422, "invalid-rows", "No", "wrong", [{"detail": "x", "pointer": "#/0"}])
    mlflow = Refusal.of(problem, "/invocations")
    assert (mlflow.status, mlflow.as_json()["message"]) == (400, "No: wrong (at #/0)")
    assert mlflow.as_json()["errors"] == problem.errors
    v2 = Refusal.of(problem, "/v2/models/m/infer")
    assert (v2.status, v2.as_json()["error"]) == (422, "No: wrong (at #/0)")
    assert Refusal.of(problem, "/predict") is problem
    assert Refusal.of(v2, "/v2/models/m/infer") is v2


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UNAUTHENTICATED"), (429, "RESOURCE_EXHAUSTED"), (503, "TEMPORARILY_UNAVAILABLE"), (500, "INTERNAL_ERROR")],
)  # fmt: skip
def test_mlflows_names_of_what_went_wrong(status, code):
    problem = Problem(status, "x", "No", "wrong", headers=[(b"retry-after", b"1")])
    told = Refusal.of(problem, "/invocations")
    assert (told.as_json()["error_code"], told.status) == (code, status)
    assert told.headers == problem.headers
    json.dumps(told.as_json())
