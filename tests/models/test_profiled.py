"""The profile in a package, and packages that have none."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from charkha.errors import Damaged, UserError
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.package import read_package
from charkha.models.profiled import profile_of

CHANCE = np.random.default_rng(0)
ROWS = pd.DataFrame({"area": CHANCE.normal(100, 20, 300), "rooms": CHANCE.integers(1, 9, 300)})
ROWS["price"] = ROWS["area"] * 900 + CHANCE.normal(0, 9_000, 300)
TRAIN, TEST = ROWS[:200], ROWS[200:]


def build(folder, model, train=TRAIN, test=TEST):
    folder.mkdir()
    fitted = model.fit(train[["area", "rooms"]], train["price"])
    wish = Wish(name="houses", target="price", learning_curve=False)
    build_package(fitted, test=test, train=train, wish=wish, folder=folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return build(tmp_path / "package", LinearRegression())


def test_it_has_inputs_prediction_and_truth_under_the_names_of_records(folder):
    columns = profile_of(folder, "houses@1").columns
    assert {name: column.kind for name, column in columns.items()} == {
        "input.area": "numbers",
        "input.rooms": "numbers",
        "prediction": "numbers",
        "ground_truth": "numbers",
    }
    assert columns["input.area"].rows == columns["ground_truth"].rows == 200


def test_predictions_are_those_of_rows_that_the_model_has_not_learned(folder):
    said = read_package(folder).predict(TEST)
    column = profile_of(folder, "houses@1").columns["prediction"]
    assert column.rows == 100
    assert (column.edges[0], column.edges[-1]) == (said.min(), said.max())


def test_classes_are_labels_also_where_they_are_numbers(tmp_path):
    train, test = (t.assign(price=(t["price"] > 90_000).astype(int)) for t in (TRAIN, TEST))
    folder = build(tmp_path / "package", LogisticRegression(), train, test)
    columns = profile_of(folder, "houses@1").columns
    assert set(columns["ground_truth"].labels) == set(columns["prediction"].labels) == {"0", "1"}


def test_packages_of_older_formats_are_read_and_have_no_profile(folder):
    file = folder / "package.json"
    described = json.loads(file.read_text())
    assert described.pop("profile") == "profile.bin"
    file.write_text(json.dumps(described | {"format": 2}))
    assert read_package(folder).about.profile is None
    with pytest.raises(UserError, match=r"houses@1 has no profile: its package is of format 2"):
        profile_of(folder, "houses@1")


def test_a_torn_profile_is_damage(folder):
    file = folder / "profile.bin"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Damaged, match="profile.bin of houses@1"):
        profile_of(folder, "houses@1")
