"""House prices in Ames, Iowa: from sales to a model that a gate has judged."""

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha import dataset, labelled, pipeline, register, step

TARGET = "Sale_Price"  # dollars
NUMBERS = [
    "Gr_Liv_Area",  # square feet, like all areas here
    "Total_Bsmt_SF",
    "Lot_Area",
    "Garage_Area",
    "Mas_Vnr_Area",
    "Year_Built",
    "Year_Remod_Add",
    "Full_Bath",
    "Half_Bath",
    "Fireplaces",
    "Longitude",
    "Latitude",
]
CATEGORIES = [
    "Neighborhood",
    "Overall_Cond",
    "House_Style",
    "Bsmt_Exposure",
    "BsmtFin_Type_1",
    "Heating_QC",
    "Garage_Finish",
]
ENOUGH = 200  # houses priced live and sold since, to be judged by the newest of them


@step
def clean(sales: pd.DataFrame) -> pd.DataFrame:
    """Keep the columns in use, and leave out the five mansions, as the author of the data advises."""
    columns = [*NUMBERS, *CATEGORIES, TARGET, "Year_Sold", "Mo_Sold"]
    return sales.loc[sales["Gr_Liv_Area"] <= 4000, columns]


@step(outputs=("train", "test"))
def split(
    sales: pd.DataFrame, live: pd.DataFrame, year: int, month: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Learn from the past and be judged by the future.

    At first the sales after `month` of `year` are held out. As soon as enough houses that the model
    priced live were sold, it is the newest quarter of those, and everything before is learnt from.
    """
    columns = [*NUMBERS, *CATEGORIES, TARGET]
    if len(live) < ENOUGH:
        later = sales["Year_Sold"] * 12 + sales["Mo_Sold"] > year * 12 + month
        return sales.loc[~later, columns], sales.loc[later, columns]
    newest = len(live) // 4
    known = pd.concat([sales[columns], live[columns].iloc[:-newest]], ignore_index=True)
    return known, live[columns].iloc[-newest:]


@step
def fit(train: pd.DataFrame, trees: int) -> Pipeline:
    """Boost small trees over numbers as they are and categories as columns of 0 and 1."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES),
        ("passthrough", NUMBERS),
    )
    boosted = GradientBoostingRegressor(
        n_estimators=trees,
        max_depth=3,
        min_samples_leaf=10,
        max_features=0.3,
        subsample=0.5,
        random_state=0,
    )
    return make_pipeline(columns, boosted).fit(train[[*NUMBERS, *CATEGORIES]], train[TARGET])


@step
def evaluate(model: Pipeline, test: pd.DataFrame) -> dict[str, float]:
    """Say in per cent how far a price is off, which is what a buyer asks."""
    off = (model.predict(test[[*NUMBERS, *CATEGORIES]]) / test[TARGET] - 1).abs()
    return {
        "median_error_percent": float(100 * off.median()),
        "within_10_percent": float((off <= 0.10).mean()),
    }


@pipeline
def house_prices(year: int = 2009, month: int = 12, trees: int = 100) -> None:
    sales = clean(dataset("ames", checked=True))
    train, test = split(sales, labelled(target=TARGET), year=year, month=month)
    model = fit(train, trees=trees)
    register(model, train=train, test=test, target=TARGET, metrics=evaluate(model, test))
