"""What every Predictor must do, on packages whose model has an ONNX twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from charkha.serving.predictors.port import Columns, Predictor

    Load = Callable[[str], Predictor]


class PredictorContract:
    """`load("prices")` is 2·area + 10 where the district is North, trained with missing districts;

    `load("sold")` is a classifier of True and False on `area` that is sure about 1 and 8.
    """

    @pytest.fixture
    def load(self) -> Load:
        raise NotImplementedError("give the adapter's tests a `load` fixture")

    def test_each_row_gets_its_number_in_order(self, load: Load) -> None:
        columns: Columns = {
            "area": [3.0, 4.0, 3.0],
            "district": ["North", "South", "South"],
        }
        said = load("prices").predict(columns)
        assert said.values == pytest.approx([16.0, 8.0, 6.0], abs=1e-3)
        assert said.probabilities is None

    def test_a_missing_text_is_a_missing_text_and_an_unknown_one_is_no_error(
        self, load: Load
    ) -> None:
        said = load("prices").predict({"area": [4.0, 4.0], "district": [None, "Elsewhere"]})
        assert said.values == pytest.approx([8.0, 8.0], abs=1e-3)

    def test_a_class_is_answered_with_its_own_label_and_all_probabilities(self, load: Load) -> None:
        said = load("sold").predict({"area": [1, 8]})
        assert said.values == [False, True]
        assert all(type(value) is bool for value in said.values)
        assert said.probabilities is not None
        assert [set(row) for row in said.probabilities] == [{"False", "True"}] * 2
        assert said.probabilities[0]["False"] > 0.5
