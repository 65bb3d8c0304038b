"""Packages as `register` makes them, of models that are trained here."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.models.asked import Wish
from charkha.models.build import build_package


def _prices(folder: Path) -> None:
    area = np.arange(1.0, 41.0)
    district = np.resize(np.array(["North", "South", None, "South"], dtype=object), 40)
    rows = pd.DataFrame({"area": area, "district": district})
    rows["price"] = 2 * area + 10 * (rows["district"] == "North")
    encode = make_column_transformer(
        (OneHotEncoder(categories=[["North"]], handle_unknown="ignore"), ["district"]),
        remainder="passthrough",
    )
    model = make_pipeline(encode, LinearRegression()).fit(rows[["area", "district"]], rows["price"])
    build_package(
        model, test=rows, train=rows, wish=Wish(name="prices", target="price"), folder=folder
    )


def _sold(folder: Path) -> None:
    rows = pd.DataFrame({"area": np.resize(np.arange(1, 9), 64)})
    rows["sold"] = rows["area"] > 4
    model = LogisticRegression(C=100).fit(rows[["area"]], rows["sold"])
    build_package(
        model, test=rows, train=rows, wish=Wish(name="sold", target="sold"), folder=folder
    )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return `package("prices")` or `package("sold")`, a folder."""
    made: dict[str, Path] = {}

    def package(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # matplotlib's and the converters' own affairs
                {"prices": _prices, "sold": _sold}[name](made[name])
        return made[name]

    return package
