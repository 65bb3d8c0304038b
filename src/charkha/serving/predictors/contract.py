"""What every Predictor must do, on packages whose model has an ONNX twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from charkha.serving.predictors.port import Predictor

    Load = Callable[[str], Predictor]


class PredictorContract:
    """`load("prices")` is 2·area + 10 where the district is North, trained with missing districts;

    `load("sold")` is a classifier of True and False on `area` that is sure about 1 and 8.
    """

    @pytest.fixture
    def load(self) -> Load:
        raise NotImplementedError("give the adapter's tests a `load` fixture")

    def test_each_row_gets_its_number_in_order(self, load: Load) -> None:
        said = load("prices").predict([(3.0, "North"), (4.0, "South"), (3.0, "South")])
        assert said.values == pytest.approx([16.0, 8.0, 6.0], abs=1e-3)
        assert said.probabilities is None

    def test_a_missing_text_is_a_missing_text_and_an_unknown_one_is_no_error(
        self, load: Load
    ) -> None:
        said = load("prices").predict([(4.0, None), (4.0, "Elsewhere")])
        assert said.values == pytest.approx([8.0, 8.0], abs=1e-3)

    def test_a_class_is_answered_with_its_own_label_and_all_probabilities(self, load: Load) -> None:
        said = load("sold").predict([(1,), (8,)])
        assert said.values == [False, True]
        assert all(type(value) is bool for value in said.values)
        assert said.probabilities is not None
        assert [sum(row) for row in said.probabilities] == pytest.approx([1, 1])
        assert said.probabilities[0][0] > 0.5  # of False, as the classes are ordered
