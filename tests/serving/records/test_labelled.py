"""Rows that were predicted live and whose truth has come, as a source of a pipeline."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest

import charkha
from charkha.data.blobs import open_blobs
from charkha.errors import DataError, UserError
from charkha.serving.labelled import NONE, Labelled, may_have_truths
from charkha.serving.records import open_feedback
from charkha.serving.records.feedback import Feedback

NOW = datetime.now(UTC)


def ago(**span):
    return int((NOW - timedelta(**span)).timestamp() * 1_000_000)


@pytest.fixture
def answer(kept, record, source):
    """Return `answer(truth, …)`: keep a prediction, and what turned out to be true of it."""

    def answer(truth=None, *, row=(42.5, 3, "North", True, "2008-06-01"), source_=None, **how):
        made = record(row=row, **{"at_us": ago(minutes=1), **how})
        kept.record(made, source=source_ or source())
        if truth is not None:
            tell(kept, made[0], truth)
        return made[0]

    return answer


def tell(kept, id, truth):
    log = open_feedback(kept.project)
    log.append([Feedback(id=id, truth=truth)])
    log.close()


def rows(kept, **given):
    return Labelled("prices", project=kept.project, **{"target": "price", **given})


def test_rows_have_the_inputs_the_truth_and_the_moment_oldest_first(kept, answer):
    answer(3.0, at_us=ago(days=1))
    answer(1.0, at_us=ago(days=3))
    answer(None)
    answer(2.0, at_us=ago(days=2))
    table = rows(kept).load(pa.Table)
    inputs = ["area", "rooms", "district", "garden", "built"]
    assert table.column_names == [*inputs, "price", "predicted_at"]
    assert table["price"].to_pylist() == [1.0, 2.0, 3.0]
    kinds = {name: str(table.schema.field(name).type) for name in ("area", "rooms", "district")}
    assert kinds == {"area": "double", "rooms": "int64", "district": "string"}
    assert str(table.schema.field("predicted_at").type) == "timestamp[us, tz=UTC]"
    frame = rows(kept).load()
    assert isinstance(frame, pd.DataFrame)
    assert frame["district"].tolist() == ["North"] * 3


def test_the_truths_column_is_called_as_the_project_or_the_caller_says(kept, answer):
    answer(1.0)
    assert "ground_truth" in rows(kept, target=None).load().columns
    (kept.project.root / "charkha.toml").write_text('[model]\nname = "prices"\ntarget = "paid"\n')
    own = Labelled(None, project=charkha.open_project(kept.project.root))
    assert (own.name, list(own.load().columns)[-2:]) == ("prices.records", ["paid", "predicted_at"])


def test_without_a_truth_there_are_no_rows_and_nothing_is_read_or_kept(kept, answer):
    for _ in range(2):
        made = rows(kept)
        assert made.fingerprint({}) == NONE
        frame = made.load()
        assert (len(frame), list(frame.columns)) == (0, ["price", "predicted_at"])
        assert rows(kept).load(pa.Table).num_rows == 0
        answer(None)
    assert not may_have_truths(kept.project)
    assert not list(kept.project.state.glob("blobs/*/*"))


def test_a_truth_of_another_model_is_none_of_these_rows(kept, answer, source):
    answer(1.0, source_=source(model="rents"))
    assert may_have_truths(kept.project)
    assert rows(kept).fingerprint({}) == NONE


def test_shadows_are_left_out(kept, answer, source):
    answer(1.0)
    answer(2.0, source_=source(version=2, variant="next", role="shadow"))
    assert rows(kept).load()["price"].tolist() == [1.0]


def test_since_and_until_are_moments_of_the_prediction(kept, answer):
    for day in (1, 3, 5):
        answer(float(day), at_us=ago(days=day))
    two, four = (NOW - timedelta(days=d) for d in (2, 4))
    assert rows(kept, since=two).load()["price"].tolist() == [1.0]
    assert rows(kept, since="4d", until=two.isoformat()).load()["price"].tolist() == [3.0]
    assert rows(kept, until=four).load()["price"].tolist() == [5.0]
    with pytest.raises(UserError, match="is no moment"):
        rows(kept, since="last week").fingerprint({})


def test_an_empty_first_moment_is_everything():
    assert charkha.labelled("prices", since="").describe()["since"] is None


def test_versions_with_different_inputs_have_their_columns_and_nulls(kept, answer, source):
    answer(1.0)
    later = source(
        version=2, inputs=({"name": "area", "type": "double"}, {"name": "pool", "type": "boolean"})
    )
    answer(2.0, row=(50.0, True), source_=later, at_us=ago(seconds=30))
    frame = rows(kept).load()
    assert frame["area"].tolist() == [42.5, 50.0]
    assert frame["rooms"].isna().tolist() == [False, True]
    assert frame["pool"].isna().tolist() == [True, False]


def test_a_later_truth_of_the_same_prediction_takes_the_place_of_the_first(kept, answer):
    id = answer(1.0)
    before = rows(kept).fingerprint({})
    tell(kept, id, 7.0)
    assert rows(kept).load()["price"].tolist() == [7.0]
    assert rows(kept).fingerprint({}) != before


def test_the_same_rows_have_the_same_fingerprint_before_and_after_they_are_sealed(kept, answer):
    for number in range(5):
        answer(
            float(number),
            at_us=ago(days=number % 2, seconds=1),
            row=(number, 1, f"d{number}", None, None),
        )
    first = rows(kept).fingerprint({})
    assert rows(kept).fingerprint({}) == first
    kept.seal()
    assert rows(kept).fingerprint({}) == first
    answer(None)
    assert rows(kept).fingerprint({}) == first
    answer(9.0)
    assert rows(kept).fingerprint({}) != first


def test_another_process_has_the_same_fingerprint(kept, answer):
    answer(1.0)
    answer(2.0)
    code = (
        "from charkha.serving.labelled import Labelled\n"
        "from charkha.project import default_project\nfrom pathlib import Path\n"
        f"project = default_project(Path({str(kept.project.root)!r}))\n"
        "print(Labelled('prices', target='price', project=project).fingerprint({}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == rows(kept).fingerprint({})


def test_a_truth_that_comes_between_the_fingerprint_and_the_load_changes_nothing(kept, answer):
    answer(1.0)
    made = rows(kept)
    counted = made.fingerprint({})
    answer(2.0)
    worker = Labelled.revive(json.loads(json.dumps(made.describe())), kept.project)
    assert worker.load()["price"].tolist() == [1.0]
    assert worker.fingerprint({}) == made.fingerprint({}) == counted
    assert made.bind(kept.project).load()["price"].tolist() == [1.0, 2.0]


def test_what_was_counted_as_nothing_stays_nothing(kept, answer):
    made = rows(kept)
    made.fingerprint({})
    answer(2.0)
    assert len(Labelled.revive(made.describe(), kept.project).load()) == 0


def test_rows_stay_in_the_blobs_under_their_fingerprint(kept, answer):
    answer(1.0)
    digest = rows(kept).fingerprint({}).removeprefix("sha256:")
    assert open_blobs(kept.project).size(digest) > 0


@pytest.mark.parametrize("wanted", [pd.Series, dict, pa.Array])
def test_what_a_step_cannot_get_says_what_it_can_get(kept, answer, wanted):
    answer(1.0)
    with pytest.raises(DataError, match=f"cannot be loaded as {wanted.__name__}") as refused:
        rows(kept).load(wanted)
    assert "pandas.DataFrame or pyarrow.Table" in refused.value.fix


@pytest.mark.parametrize("name", ["price", "predicted_at"])
def test_an_input_whose_name_is_taken_is_refused_and_not_lost(kept, answer, source, name):
    answer(1.0, row=(1.0,), source_=source(inputs=({"name": name, "type": "double"},)))
    with pytest.raises(DataError, match=f"has an input '{name}'"):
        rows(kept).fingerprint({})


PIPELINE = """
from charkha import labelled, pipeline, step

@step
def count(live: object, again: object) -> int:
    return len(live)

@step
def double(number: int) -> int:
    return 2 * number

@step
def compare(live: object, number: int) -> list[int]:
    return [len(live), number]

@pipeline
def learn() -> None:
    live = labelled("prices", target="price")
    compare(live, double(count(live, labelled("prices", target="price"))))
"""
RUN = """
import json
from charkha.pipeline.run import run
done = run()
steps = {s.name: [s.how, *(r["text"] for r in s.because)] for s in done.steps.values()}
print(json.dumps({"steps": steps, "data": done.started.datasets, "said": done.output("compare")}))
"""


def test_a_step_is_reused_when_nothing_came_and_runs_when_a_truth_did(kept, answer):
    root = kept.project.root
    (root / "charkha.toml").write_text('[project]\nname = "prices"\n')
    (root / "pipeline.py").write_text(PIPELINE)

    def run():
        command = [sys.executable, "-c", RUN]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    first = run()
    assert (first["data"], first["said"]) == ({}, [0, 0])
    answer(None)
    assert {how[0] for how in run()["steps"].values()} == {"reused"}
    answer(1.0)
    second = run()
    assert second["said"] == [1, 2]
    assert second["steps"]["count"][0] == "ran"
    assert "prices.records" in second["steps"]["count"][1]
    assert second["data"] == {"prices.records": rows(kept).fingerprint({})}
    kept.seal()
    assert {how[0] for how in run()["steps"].values()} == {"reused"}
