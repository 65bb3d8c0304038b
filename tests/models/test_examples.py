import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.examples import MOST, pick
from charkha.models.package import DESCRIPTION, read_package


def homes(rows=300):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "area": rng.uniform(50, 300, rows),
            "place": rng.choice(["North", "South"], rows).astype(object),
            "sold": pd.to_datetime("2008-01-01") + pd.to_timedelta(rng.integers(0, 99, rows), "D"),
            "garden": rng.uniform(0, 900, rows).astype(np.float32),
        }
    )
    table.loc[211, "place"] = "Island"
    table.loc[57, "place"] = None
    table["price"] = 900 * table["area"] + 1
    return table


def packaged(folder, model, table, columns, **wish):
    folder.mkdir()
    rows = table[[*columns, "price"]]
    wished = Wish(name="homes", target="price", **wish)
    build_package(model, test=rows, train=rows, wish=wished, folder=folder)
    package = read_package(folder)
    return package, json.loads((folder / package.about.examples).read_text())


def linear(table, columns):
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["place"]), remainder="passthrough"
    )
    return make_pipeline(encode, LinearRegression()).fit(table[columns], table["price"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    table, columns = homes(), ["area", "place", "garden"]
    folder = tmp_path_factory.mktemp("examples") / "package"
    return packaged(folder, linear(table, columns), table, columns)


def test_the_model_answers_its_examples_as_they_say(kept):
    package, told = kept
    rows = pd.DataFrame(told["rows"], columns=["area", "place", "garden"], dtype=object)
    assert package.predict(rows).tolist() == told["values"]
    assert told["probabilities"] is None


def test_the_twin_answers_them_within_the_tolerance(kept):
    package, told = kept
    rows = pd.DataFrame(told["rows"], columns=["area", "place", "garden"], dtype=object)
    gap = np.abs(package.predict_onnx(rows) - told["values"]).max()
    assert 0 < gap <= told["tolerance"]
    assert told["tolerance"] == pytest.approx(package.about.onnx.tolerance, rel=0.01)


def test_a_row_that_went_through_json_is_the_row_it_was(kept):
    table = homes()
    rows = {tuple(row) for row in kept[1]["rows"]}
    for area, place, garden in rows:
        same = table[table["area"] == area]
        assert len(same) == 1
        assert same["garden"].iloc[0] == np.float32(garden)
        assert same["place"].iloc[0] == place


def test_missing_values_rare_texts_and_extremes_are_among_them():
    table = homes()
    picked = pick(table.drop(columns="price"))
    assert {57, 211} <= set(picked)
    assert {int(table["area"].argmin()), int(table["garden"].argmax())} <= set(picked)


def test_there_are_at_most_32_and_they_come_from_everywhere():
    many = pd.DataFrame({f"c{i}": np.random.default_rng(i).normal(size=5000) for i in range(90)})
    picked = pick(many)
    assert len(picked) <= MOST
    assert (picked[0], picked[-1]) == (0, 4999)
    assert pick(many.head(1)) == [0]


def test_a_column_of_different_texts_leaves_room_for_the_others():
    table = pd.DataFrame(
        {"id": [f"c{i}" for i in range(500)], "area": np.arange(500.0), "kind": ["a"] * 499 + ["b"]}
    )
    assert {0, 499} <= set(pick(table))
    assert len(pick(table)) < MOST


def test_a_column_without_any_value_is_no_error():
    assert pick(pd.DataFrame({"a": [None, None], "b": [1.0, 2.0]})) == [0, 1]


def test_labels_come_with_their_probabilities(tmp_path):
    table = homes()
    table["price"] = np.where(table["area"] > 200, "dear", "cheap")
    model = RandomForestClassifier(5, random_state=0).fit(table[["area"]], table["price"])
    package, told = packaged(tmp_path / "package", model, table, ["area"])
    said = package.answer(pd.DataFrame(told["rows"], columns=["area"]))
    assert said.values.tolist() == told["values"]
    assert said.probabilities.tolist() == told["probabilities"]


class Weekday:
    def predict(self, rows):
        return rows["sold"].dt.dayofweek.to_numpy(dtype=float)


def test_dates_are_written_as_a_request_writes_them(tmp_path, monkeypatch):
    table = homes()
    package, told = packaged(tmp_path / "package", Weekday(), table, ["sold"], task="regression")
    assert told["rows"][0][0].startswith("2008-")
    assert package.predict(pd.DataFrame(told["rows"], columns=["sold"])).tolist() == told["values"]


def test_a_package_of_the_first_format_is_read_and_has_no_examples(kept, tmp_path):
    described = json.loads((kept[0].folder / DESCRIPTION).read_text())
    assert described.pop("examples") == "examples.json"
    (tmp_path / DESCRIPTION).write_text(json.dumps(described | {"format": 1}))
    assert read_package(tmp_path).about.examples is None
