"""A package: the same bytes for the same inputs, and what it says when rows do not fit."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from charkha.errors import Damaged, DataError, UserError
from charkha.models.asked import Wish
from charkha.models.build import build_package, make_package
from charkha.models.package import read_package
from charkha.models.signature import Column, conform
from charkha.pipeline.distributions import requirement

TARGET = "price"


def houses(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "area": rng.uniform(50, 300, rows).round(1),
            "rooms": rng.integers(1, 9, rows),
            "place": rng.choice(["North", "South", "West"], rows).astype(object),
            "garden": np.where(rng.random(rows) < 0.3, np.nan, rng.uniform(0, 900, rows).round()),
        }
    )
    north = (table["place"] == "North") * 40_000
    table[TARGET] = table["area"] * 900 + north + rng.normal(0, 9_000, rows).round()
    return table


TRAIN, TEST = houses(), houses(90, seed=1)
INPUTS = ["area", "rooms", "place"]


def ridge(**options):
    columns = make_column_transformer(
        (StandardScaler(), ["area", "rooms"]), (OneHotEncoder(handle_unknown="ignore"), ["place"])
    )
    return make_pipeline(columns, Ridge(**options)).fit(TRAIN[INPUTS], TRAIN[TARGET])


def build(folder, model=None, *, train=TRAIN, test=TEST, **wish):
    folder.mkdir(exist_ok=True)
    wished = Wish(**{"name": "houses", "target": TARGET, **wish})
    build_package(model or ridge(), test=test, train=train, wish=wished, folder=folder)
    return read_package(folder)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return build(tmp_path_factory.mktemp("package"))


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


def test_it_holds_what_a_version_is(package):
    assert set(digests(package.folder)) == {
        "package.json",
        "model.skops",
        "model.onnx",
        "input_example.json",
        "examples.json",
        "profile.bin",
        "held_out.parquet",
        "reference.parquet",
        "card.md",
        "plots/residuals.png",
        "plots/importance.png",
        "plots/learning_curve.png",
    }


def test_two_processes_make_the_same_bytes_of_every_file(tmp_path):
    for name, seed in (("one", "1"), ("two", "2")):
        subprocess.run(
            [sys.executable, __file__, str(tmp_path / name)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_model_is_another_package(package, tmp_path):
    assert digests(build(tmp_path, ridge(alpha=50.0)).folder) != digests(package.folder)


def test_the_signature_keeps_order_type_and_what_may_be_missing(tmp_path):
    columns = ["rooms", "garden", "place"]
    model = make_pipeline(
        make_column_transformer((StandardScaler(), ["rooms"]), (OneHotEncoder(), ["place"])),
        LinearRegression(),
    ).fit(TRAIN[columns], TRAIN[TARGET])
    inputs = build(tmp_path, model).about.signature.as_json()["inputs"]
    assert inputs == [
        {"name": "rooms", "type": "long", "required": True},
        {"name": "garden", "type": "double", "required": False},
        {"name": "place", "type": "string", "required": True},
    ]


def test_it_pins_what_the_model_needs(package):
    names = [r.partition("==")[0] for r in package.about.requirements]
    assert names == sorted(names)
    assert {"scikit-learn", "skops", "numpy", "pandas"} <= set(names)
    assert "mlflow" not in names


@pytest.mark.parametrize("package", ["numpy", "sklearn", "xgboost", "dateutil", "google", "none"])
def test_a_pin_is_what_an_index_of_all_that_is_installed_says(package):
    owners = sorted(metadata.packages_distributions().get(package, []))
    pin = f"{owners[0]}=={metadata.version(owners[0])}" if owners else None
    assert requirement(package) == pin


def test_it_predicts_what_the_model_predicted(package):
    assert np.array_equal(package.predict(TEST), ridge().predict(TEST[INPUTS]))


def test_its_twin_agrees_on_rows_that_it_was_not_compared_on(package):
    gap = np.abs(package.predict(TEST) - package.predict_onnx(TEST)).max()
    assert gap <= package.about.onnx.tolerance


def test_scores_are_those_of_the_held_out_and_of_the_training_rows(package):
    said = ridge().predict(TEST[INPUTS])
    rmse = float(np.sqrt(np.mean((TEST[TARGET] - said) ** 2)))
    assert package.about.metrics["test"]["rmse"] == pytest.approx(rmse, rel=1e-11)
    assert set(package.about.metrics) == {"train", "test"}


def test_the_reference_has_the_target_and_at_most_a_thousand_rows(tmp_path):
    many = houses(1_500)
    package = build(tmp_path, train=many)
    reference = pd.read_parquet(package.folder / "reference.parquet")
    assert len(reference) == 1_000
    assert list(reference.columns) == [*INPUTS, TARGET]
    assert package.about.data["train"]["rows"] == 1_500


def test_the_example_is_a_request_that_the_package_answers(package):
    records = json.loads((package.folder / "input_example.json").read_text())
    assert len(package.predict(pd.DataFrame(records))) == 3


def test_text_is_read_as_the_columns_type(package):
    typed = TEST[INPUTS].head(5)
    assert np.array_equal(package.predict(typed.astype(str)), package.predict(typed))


def test_extra_columns_are_ignored_with_a_notice(package):
    package.predict(TEST[INPUTS].head().assign(colour="red"))
    assert package.notices == ["ignored columns that the model does not take: colour"]


@pytest.mark.parametrize(
    ("change", "says", "fix"),
    [
        (lambda t: t.drop(columns="area"), "column 'area' is missing", "add the column 'area'"),
        (
            lambda t: t.rename(columns={"area": "Area"}),
            "column 'area' is missing",
            "rename 'Area' to 'area'",
        ),
        (
            lambda t: t.assign(area=["1", "2", "two", "3"]),
            "column 'area', row 3: 'two' is not a number",
            "a number",
        ),
        (
            lambda t: t.assign(rooms=[1, 2.5, 3, 4]),
            "column 'rooms', row 2: 2.5 is not a whole number",
            "such as 3",
        ),
        (
            lambda t: t.assign(rooms=["1", "2", "99999999999999999999", "3"]),
            "column 'rooms', row 3: '99999999999999999999' does not fit into 64 bits",
            "from -9,223,372,036,854,775,808 to 9,223,372,036,854,775,807",
        ),
        (
            lambda t: t.assign(rooms=["1", "2", "3", "-9223372036854775809"]),
            "column 'rooms', row 4: '-9223372036854775809' does not fit into 64 bits",
            "from -9,223,372,036,854,775,808",
        ),
        (
            lambda t: t.assign(rooms=pd.Series([1, 10**400, 3, 4], dtype=object)),
            "column 'rooms', row 2: 1000000000000000000000000000000000000… does not fit",
            "to 9,223,372,036,854,775,807",
        ),
        (
            lambda t: t.assign(area=["1", "-1e400", "2", "3"]),
            "column 'area', row 2: '-1e400' does not fit into 64 bits",
            "a number from -1.8e+308 to 1.8e+308",
        ),
        (
            lambda t: t.assign(area=[True, False, True, True]),
            "column 'area', row 1: True is not a number",
            "a number",
        ),
        (
            lambda t: t.assign(area=[1, 2, np.inf, 3]),
            "column 'area', row 3: inf is not a number",
            "a number",
        ),
        (
            lambda t: t.assign(place=["North", None, "West", "West"]),
            "column 'place' has no value in row 2, and is required",
            "fill it in",
        ),
        (
            lambda t: t.assign(place=["North", 5, "West", "West"]),
            "column 'place', row 2: 5 is not text",
            'text, such as "North"',
        ),
        (lambda t: t.head(0), "the table has no rows", "at least one row"),
    ],
)
def test_rows_that_do_not_fit_are_named(package, change, says, fix):
    with pytest.raises(DataError) as refused:
        package.predict(change(TEST[INPUTS].head(4).reset_index(drop=True)))
    assert says in refused.value.what
    assert fix in refused.value.fix


def test_a_number_too_large_for_32_bits_is_named_and_not_made_infinite():
    with pytest.raises(DataError, match="row 2: 1e.39 does not fit into 32 bits"):
        conform(pd.DataFrame({"a": [1.0, 1e39]}), [Column(name="a", type="float")])


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("test", lambda t: t.drop(columns=TARGET), "the test rows have no column 'price'"),
        ("train", lambda t: t.drop(columns=TARGET), "the rows have no column 'price'"),
        ("test", lambda t: t.drop(columns="area"), "the test rows: column 'area' is missing"),
        ("train", lambda t: t.drop(columns="area"), "a column 'area', which the training rows"),
        ("test", lambda t: t.head(0), "the test rows: the table has no rows"),
        ("train", lambda t: t.head(0), "there are no rows to register the model with"),
        (
            "test",
            lambda t: t.assign(price=[np.nan, *t[TARGET][1:]]),
            "the test rows: target 'price' is missing in row 1 (1 of 90 rows)",
        ),
        (
            "test",
            lambda t: t.assign(price=[*t[TARGET][:-1], np.inf]),
            "target 'price' is infinite in row 90",
        ),
        ("test", lambda t: t.assign(price="dear"), "target 'price' is no number"),
        ("test", lambda t: t.to_numpy(), "the test rows are a ndarray and no table"),
    ],
)
def test_rows_without_a_usable_target_are_refused(tmp_path, part, change, says):
    rows = {"train": TRAIN, "test": TEST}
    with pytest.raises(DataError) as refused:
        build(tmp_path / "package", **{**rows, part: change(rows[part])})
    assert says in refused.value.what


def test_a_model_that_changes_when_it_is_packaged_is_refused(tmp_path):
    shifted = TRAIN.assign(place=TRAIN["place"].where(TRAIN["place"] != "West", np.nan))
    columns = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(shifted[INPUTS], shifted[TARGET])
    with pytest.raises(UserError, match="refuses these rows|answers differently"):
        build(tmp_path, model, train=shifted, test=shifted)


def test_a_classifier_has_labels_probabilities_and_a_confusion_plot(tmp_path):
    train, test = (
        t.assign(price=np.where(t[TARGET] > 150_000, "dear", "cheap")) for t in (TRAIN, TEST)
    )
    model = RandomForestClassifier(20, random_state=0).fit(train[["area", "rooms"]], train[TARGET])
    package = build(tmp_path, model, train=train, test=test)
    assert package.about.task == "classification"
    assert package.about.classes == ("cheap", "dear")
    assert set(package.about.metrics["test"]) == {
        "accuracy", "precision", "recall", "f1", "auc", "log_loss"
    }  # fmt: skip
    assert set(package.predict(test)) == {"cheap", "dear"}
    gap = package.answer(test).probabilities - package.answer_onnx(test).probabilities
    assert np.abs(gap).max() <= package.about.onnx.tolerance
    assert (tmp_path / "plots/confusion.png").exists()
    assert read_package(tmp_path).about == package.about


def test_a_task_that_the_model_does_not_do_is_refused(tmp_path):
    with pytest.raises(UserError, match="predicts numbers, and task is classification"):
        build(tmp_path, task="classification")


def test_categories_of_pandas_are_kept(tmp_path):
    from lightgbm import LGBMRegressor

    train, test = (t.assign(place=t["place"].astype("category")) for t in (TRAIN, TEST))
    model = LGBMRegressor(n_estimators=10, verbose=-1).fit(train[INPUTS], train[TARGET])
    package = build(tmp_path, model, train=train, test=test)
    plain = TEST[INPUTS].astype({"place": object})
    assert np.array_equal(package.predict(plain), model.predict(test[INPUTS]))
    package.predict(plain.assign(place="Elsewhere"))
    assert "has never seen 'Elsewhere'" in package.notices[0]


def test_a_folder_that_is_no_package_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no model package"):
        read_package(tmp_path)


def test_a_later_format_asks_for_a_later_charkha(tmp_path):
    (tmp_path / "package.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99"):
        read_package(tmp_path)


def test_a_torn_description_is_damage(package, tmp_path):
    text = (package.folder / "package.json").read_text()
    (tmp_path / "package.json").write_text(text[: len(text) // 2])
    with pytest.raises(Damaged):
        read_package(tmp_path)
    (tmp_path / "package.json").write_text('{"format": 1}')
    with pytest.raises(Damaged):
        read_package(tmp_path)


def test_the_folder_of_a_package_goes_with_the_value():
    made = make_package(ridge(), TEST, TRAIN, Wish(name="houses", target=TARGET))
    folder = made.path
    assert (folder / "package.json").exists()
    assert folder.name == "package"
    del made
    assert not folder.parent.exists()


if __name__ == "__main__":  # in a process of its own, for the bytes
    build(Path(sys.argv[1]))
