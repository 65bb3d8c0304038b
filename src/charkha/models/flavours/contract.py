"""What every Flavour must do, for regressors and classifiers that a backend's tests give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from charkha.models.flavours.port import Flavour

ROWS = pd.DataFrame(
    {
        "area": np.random.default_rng(0).uniform(50, 300, 120).round(1),
        "rooms": np.random.default_rng(1).integers(1, 9, 120),
    }
)
PRICES = (ROWS["area"] * 1000 + ROWS["rooms"] * 5000).rename("price")
DEAR = PRICES.gt(PRICES.median()).astype(int).rename("dear")


class FlavourContract:
    """Subclass it with these three fixtures."""

    @pytest.fixture
    def flavour(self) -> Flavour:
        raise NotImplementedError("give the backend's tests a `flavour` fixture")

    @pytest.fixture
    def regressor(self) -> object:
        raise NotImplementedError("a model of this flavour, fitted on ROWS and PRICES")

    @pytest.fixture
    def classifier(self) -> object:
        raise NotImplementedError("a model of this flavour, fitted on ROWS and DEAR")

    def test_it_knows_the_columns_it_was_fitted_on(
        self, flavour: Flavour, regressor: object
    ) -> None:
        assert flavour.columns(regressor) == ["area", "rooms"]

    def test_only_a_classifier_has_classes(
        self, flavour: Flavour, regressor: object, classifier: object
    ) -> None:
        assert flavour.classes(regressor) is None
        assert flavour.classes(classifier) == (0, 1)

    def test_what_was_saved_predicts_the_same(
        self, flavour: Flavour, regressor: object, tmp_path: Path
    ) -> None:
        file = flavour.save(regressor, tmp_path, allow_pickle=False)
        loaded = flavour.load(tmp_path / file, allow_pickle=False)
        before = flavour.predict(regressor, ROWS, None)
        after = flavour.predict(loaded, ROWS, None)
        assert np.array_equal(before.values, after.values)
        assert before.values.dtype == np.float64

    def test_a_saved_classifier_keeps_labels_and_probabilities(
        self, flavour: Flavour, classifier: object, tmp_path: Path
    ) -> None:
        file = flavour.save(classifier, tmp_path, allow_pickle=False)
        loaded = flavour.load(tmp_path / file, allow_pickle=False)
        said = flavour.predict(loaded, ROWS, (0, 1))
        assert set(said.values.tolist()) <= {0, 1}
        assert np.mean(said.values == DEAR.to_numpy()) > 0.9
        assert said.probabilities is not None
        assert np.allclose(said.probabilities.sum(axis=1), 1)
        picked = said.probabilities.argmax(axis=1)
        assert np.array_equal(picked, said.values.astype(int))

    def test_saving_twice_gives_the_same_bytes(
        self, flavour: Flavour, regressor: object, tmp_path: Path
    ) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            file = flavour.save(regressor, tmp_path / name, allow_pickle=False)
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()

    def test_what_was_loaded_and_saved_again_is_the_same_bytes(
        self, flavour: Flavour, regressor: object, tmp_path: Path
    ) -> None:
        file = flavour.save(regressor, tmp_path, allow_pickle=False)
        first = (tmp_path / file).read_bytes()
        loaded = flavour.load(tmp_path / file, allow_pickle=False)
        flavour.save(loaded, tmp_path, allow_pickle=False)
        assert (tmp_path / file).read_bytes() == first

    def test_it_names_the_packages_that_it_needs(self, flavour: Flavour, regressor: object) -> None:
        packages = flavour.packages(regressor)
        assert packages == sorted(packages)
        assert {"numpy", "pandas"} <= set(packages)
