import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from charkha.models import diagnostics
from charkha.models.asked import Wish
from charkha.models.build import make_package
from charkha.models.card import provenance
from charkha.models.diagnostics import importance
from charkha.models.package import read_package
from charkha.models.predictions import Predictions

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"area": RNG.uniform(50, 300, 300), "noise": RNG.uniform(0, 1, 300)})
TABLE["price"] = TABLE["area"] * 1_000 + RNG.normal(0, 5_000, 300)
TRAIN, TEST = TABLE[:200], TABLE[200:]


def make(model=None, train=TRAIN, **wish):
    model = model or LinearRegression()
    model.fit(TRAIN[["area", "noise"]], TRAIN["price"])
    return make_package(model, TEST, train, Wish(name="houses", target="price", **wish))


def card_of(made):
    return (made.path / "card.md").read_text()


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture(scope="module")
def card(made):
    return card_of(made)


def test_it_shows_scores_of_both_kinds_of_rows(made, card):
    about = read_package(made.path).about
    assert "| metric | 100 held-out rows | training rows | better |" in card
    (line,) = re.findall(r"\| rmse of price \| (.*) \| (.*) \| lower \|", card)
    shown = [float(number.replace(",", "")) for number in line]
    assert shown == pytest.approx(
        [about.metrics["test"]["rmse"], about.metrics["train"]["rmse"]], rel=1e-3
    )


def test_every_plot_that_it_links_is_there_and_no_other(made, card):
    linked = set(re.findall(r"\]\((plots/.*?\.png)\)", card))
    there = {p.relative_to(made.path).as_posix() for p in (made.path / "plots").iterdir()}
    assert linked == there
    assert len(linked) == 3


def test_it_says_what_the_model_looks_at(card):
    table = card.split("## What it looks at")[1].split("##")[0]
    assert re.search(r"\| area \| \+[\d,]+", table)
    assert "| noise |" not in table or table.index("| area |") < table.index("| noise |")


def test_it_names_content_and_no_time_run_or_commit(made, card):
    about = read_package(made.path).about
    assert f"- train rows: 200, sha256 `{about.data['train']['sha256']}`" in card
    assert all(requirement in card for requirement in about.requirements)
    assert not re.search(r"20\d\d-\d\d-\d\d|commit", card)


def test_the_learning_curve_ends_with_the_model_itself(made, card):
    about = read_package(made.path).about
    last = re.findall(r"\| 200 \| ([\d,.]+) \| ([\d,.]+) \|", card)
    held_out = float(last[0][1].replace(",", ""))
    assert held_out == pytest.approx(about.metrics["test"]["rmse"], rel=1e-3)
    assert "| 20 |" in card
    assert "cost about one more fit" in card


def test_without_training_rows_there_is_no_curve_and_it_says_why():
    card = card_of(make(train=None))
    assert "No learning curve: register() was not given the training rows." in card


def test_a_curve_that_costs_much_is_made_only_when_asked(monkeypatch):
    monkeypatch.setattr("charkha.models.findings.CHEAP_CELLS", 100)
    assert "learning_curve=True" in card_of(make())
    assert "| training rows |" in card_of(make(learning_curve=True))


def test_what_has_no_seed_gets_one_for_the_curve():
    cards = [card_of(make(DecisionTreeRegressor(max_features=1))) for _ in range(2)]
    curves = [card.split("| 20 |")[1].split("\n")[0] for card in cards]
    assert curves[0] == curves[1]


def test_importance_is_what_shuffling_costs(monkeypatch):
    def ask(rows):
        return Predictions(values=rows["area"].to_numpy() * 1_000.0)

    measured = importance(ask, TEST[["area", "noise"]], TEST["price"].to_numpy(), "rmse")
    assert dict(measured.columns)["noise"] == 0
    assert dict(measured.columns)["area"] > 50_000
    monkeypatch.setattr(diagnostics, "_AT_ONCE", 1)  # one column at a time
    again = importance(ask, TEST[["area", "noise"]], TEST["price"].to_numpy(), "rmse")
    assert again == measured


def test_provenance_names_run_code_data_and_verdict():
    text = provenance(
        run="20261123-224501-4f2a",
        commit="9db5fb0",
        dirty=True,
        datasets={"ames": "md5:12"},
        because=["rmse is fine"],
    )
    assert "- run: `20261123-224501-4f2a`" in text
    assert "- code: `9db5fb0` with uncommitted changes" in text
    assert "- data: ames `md5:12`" in text
    assert "- gate: rmse is fine" in text
    assert "not in git" in provenance(run="r", commit=None, dirty=False, datasets={})
