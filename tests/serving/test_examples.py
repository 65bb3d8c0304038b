"""A version held against its recorded examples before it takes traffic."""

import json
import shutil
from dataclasses import replace

import pytest

from charkha.errors import Damaged, DataError, Refused
from charkha.serving.examples import Examples, check_examples, largest_difference, read_examples
from charkha.serving.loading import load_package
from charkha.serving.predictors.native import NativePredictor
from charkha.serving.predictors.port import Answers


@pytest.fixture
def copied(package, tmp_path):
    def copied(name):
        shutil.copytree(package(name), tmp_path / name, copy_function=shutil.copyfile)
        return tmp_path / name

    return copied


@pytest.mark.parametrize("name", ["prices", "sold"])
def test_the_twin_and_the_model_itself_pass(package, name):
    folder = package(name)
    model = load_package(folder, 3)
    assert model.predictor.form == "onnx"
    count = check_examples(folder, model)
    assert count == len(json.loads((folder / "examples.json").read_text())["rows"]) > 0
    native = NativePredictor(folder, model.described, allow_pickle=False)
    assert check_examples(folder, replace(model, predictor=native)) == count


class Said:
    form = "onnx"

    def __init__(self, predictor, change):
        self.predictor, self.change, self.asked = predictor, change, []

    def predict(self, rows):
        self.asked.append(len(rows))
        return self.change(self.predictor.predict(rows))


def through(folder, change):
    model = load_package(folder, 3)
    said = Said(model.predictor, change)
    return replace(model, predictor=said), said


def test_a_number_that_is_another_one_is_refused_with_its_row(package):
    def change(said):
        return Answers([value + (n == 2) for n, value in enumerate(said.values)])

    model, _ = through(package("prices"), change)
    with pytest.raises(Refused, match=r"prices version 3 .* row 3 of \d+ off by 1"):
        check_examples(package("prices"), model)


def test_a_label_that_is_another_one_is_refused(package):
    model, _ = through(
        package("sold"),
        lambda said: Answers([not said.values[0], *said.values[1:]], said.probabilities),
    )
    with pytest.raises(Refused, match="row 1 of .* with another label"):
        check_examples(package("sold"), model)


def test_probabilities_are_compared_too(package):
    def change(said):
        return Answers(said.values, [[a - 0.01, b + 0.01] for a, b in said.probabilities])

    model, _ = through(package("sold"), change)
    with pytest.raises(Refused, match=r"off by 0\.01"):
        check_examples(package("sold"), model)


def test_labels_that_are_equally_likely_may_change_places():
    recorded = Examples([(1,)], Answers(["a"], [[0.50001, 0.49999]]), 1e-4)
    assert largest_difference(Answers(["b"], [[0.49999, 0.50001]]), recorded, ["a", "b"])[1] < 1e-4
    assert largest_difference(Answers(["c"], None), recorded, ["a", "b"])[1] == float("inf")


def test_a_model_that_refuses_its_examples_is_refused(package):
    def refuse(said):
        raise DataError("no")

    model, _ = through(package("prices"), refuse)
    with pytest.raises(Refused, match="refuses its own example rows: no"):
        check_examples(package("prices"), model)


def test_it_is_warmed_with_many_rows_and_with_one(package):
    model, said = through(package("prices"), lambda said: said)
    check_examples(package("prices"), model)
    assert said.asked[0] > 3
    assert said.asked[1:] == [1, 1, 1]


def test_without_recorded_examples_it_is_warmed_with_the_example_rows(copied):
    folder = copied("prices")
    about = json.loads((folder / "package.json").read_text())
    del about["examples"]
    (folder / "package.json").write_text(json.dumps(about | {"format": 1}))
    model, said = through(folder, lambda said: said)
    assert check_examples(folder, model) == 0
    assert said.asked == [3, 1, 1, 1]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"rows": [[1]]}', '{"rows": [["x", 1]], "values": [], "tolerance": 1}']
)
def test_examples_that_cannot_be_read_are_damage(copied, text):
    folder = copied("prices")
    (folder / "examples.json").write_text(text)
    with pytest.raises(Damaged, match=r"examples\.json cannot be read"):
        read_examples(folder, load_package(folder, 3))
