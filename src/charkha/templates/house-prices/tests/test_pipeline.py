"""Steps are plain functions, so they are tested as plain functions."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline import CATEGORIES, NUMBERS, TARGET, clean, evaluate, fit, split


@pytest.fixture(scope="module")
def sales():
    return pd.read_parquet(Path(__file__).parent.parent / "data" / "ames.parquet")


def test_mansions_are_left_out(sales):
    assert len(sales) - len(clean(sales)) == 5


NOBODY = pd.DataFrame()  # was answered yet


def test_the_model_never_sees_the_future(sales):
    cleaned = clean(sales)
    train, test = split(cleaned, NOBODY, year=2008, month=12)
    assert cleaned.loc[train.index, "Year_Sold"].max() == 2008
    assert cleaned.loc[test.index, "Year_Sold"].min() == 2009
    assert len(train) + len(test) == len(cleaned)


def test_the_newest_of_what_was_sold_since_is_held_out(sales):
    cleaned = clean(sales)
    past, live = cleaned.iloc[:1000], cleaned.iloc[1000:1400]
    train, test = split(past, live, year=2009, month=12)
    assert len(train) == 1300
    assert test[TARGET].tolist() == live[TARGET].iloc[-100:].tolist()


def test_it_predicts_better_than_the_mean(sales):
    train, test = split(clean(sales), NOBODY, year=2009, month=12)
    model = fit(train, trees=100)
    predicted = model.predict(test[[*NUMBERS, *CATEGORIES]])
    assert ((predicted - test[TARGET]) ** 2).mean() < 0.2 * test[TARGET].var()
    assert evaluate(model, test)["median_error_percent"] < 10
