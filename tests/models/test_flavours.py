import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from charkha.errors import Damaged, DataError, UserError
from charkha.models.flavours.answers import spoken
from charkha.models.flavours.choice import flavour, flavour_of
from charkha.models.flavours.contract import DEAR, PRICES, ROWS, FlavourContract
from charkha.models.flavours.lightgbm import LightgbmFlavour
from charkha.models.flavours.pyfunc import PyfuncFlavour
from charkha.models.flavours.sklearn import SklearnFlavour
from charkha.models.flavours.xgboost import XgboostFlavour
from charkha.plugins import find


class SquareFoot:
    """A model of one's own: what a square metre costs."""

    feature_names = ("area", "rooms")

    def __init__(self, price):
        self.price = price

    def predict(self, rows):
        return rows["area"] * self.price


class Dear(SquareFoot):
    classes = (0, 1)

    def predict(self, rows):
        return (rows["area"] * self.price > PRICES.median()).astype(int)

    def predict_proba(self, rows):
        dear = self.predict(rows).to_numpy() * 0.8 + 0.1
        return np.column_stack([1 - dear, dear])


class TestSklearn(FlavourContract):
    @pytest.fixture
    def flavour(self):
        return SklearnFlavour()

    @pytest.fixture
    def regressor(self):
        return make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, PRICES)

    @pytest.fixture
    def classifier(self):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, DEAR)

    def test_a_model_fitted_on_arrays_is_asked_with_arrays(self, flavour):
        fitted = LinearRegression().fit(ROWS.to_numpy(), PRICES)
        assert flavour.columns(fitted) is None
        assert np.allclose(flavour.predict(fitted, ROWS, None).values, PRICES)

    def test_many_threads_give_the_same_bits_each_time(self, flavour):
        forest = RandomForestRegressor(40, n_jobs=4, random_state=0).fit(ROWS, PRICES)
        first = flavour.predict(forest, ROWS, None).values
        assert all(
            np.array_equal(first, flavour.predict(forest, ROWS, None).values) for _ in range(10)
        )

    def test_another_librarys_estimator_inside_is_a_requirement(self, flavour):
        model = make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(verbose=-1))
        assert "lightgbm" in flavour.packages(model)
        assert "lightgbm" not in flavour.packages(make_pipeline(StandardScaler()))

    def test_several_answers_for_a_row_are_refused(self, flavour):
        both = LinearRegression().fit(ROWS, np.column_stack([PRICES, DEAR]))
        with pytest.raises(DataError, match=r"shape \(120, 2\)"):
            flavour.predict(both, ROWS, None)

    def test_a_prediction_that_is_no_number_names_its_row(self, flavour):
        def odd(rows):
            return np.where(np.arange(len(rows)) == 6, np.nan, 1.0)

        model = LinearRegression().fit(ROWS, PRICES)
        model.predict = odd
        with pytest.raises(DataError, match="nan for row 7"):
            flavour.predict(model, ROWS, None)


class TestLightgbm(FlavourContract):
    @pytest.fixture
    def flavour(self):
        return LightgbmFlavour()

    @pytest.fixture
    def regressor(self):
        return lightgbm.LGBMRegressor(n_estimators=10, verbose=-1).fit(ROWS, PRICES)

    @pytest.fixture
    def classifier(self):
        return lightgbm.LGBMClassifier(n_estimators=30, verbose=-1).fit(ROWS, DEAR)

    def test_a_booster_tells_its_classes_from_its_objective(self, flavour, classifier, regressor):
        assert flavour.classes(classifier.booster_) == (0, 1)
        assert flavour.classes(regressor.booster_) is None

    def test_an_unfitted_estimator_is_refused(self, flavour, tmp_path):
        with pytest.raises(UserError, match="is not fitted"):
            flavour.save(lightgbm.LGBMRegressor(), tmp_path, allow_pickle=False)


class TestXgboost(FlavourContract):
    @pytest.fixture
    def flavour(self):
        return XgboostFlavour()

    @pytest.fixture
    def regressor(self):
        return xgboost.XGBRegressor(n_estimators=10).fit(ROWS, PRICES)

    @pytest.fixture
    def classifier(self):
        return xgboost.XGBClassifier(n_estimators=30).fit(ROWS, DEAR)

    def test_a_booster_tells_its_classes_from_its_objective(self, flavour, classifier, regressor):
        assert flavour.classes(classifier.get_booster()) == (0, 1)
        assert flavour.classes(regressor.get_booster()) is None

    def test_rounds_after_the_best_one_do_not_count(self, flavour, tmp_path):
        model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=2, learning_rate=1.0)
        model.fit(ROWS[:60], PRICES[:60], eval_set=[(ROWS[60:], PRICES[60:])], verbose=False)
        loaded = flavour.load(
            tmp_path / flavour.save(model, tmp_path, allow_pickle=False), allow_pickle=False
        )
        assert np.array_equal(
            flavour.predict(loaded, ROWS, None).values, model.predict(ROWS).astype(float)
        )

    def test_an_unfitted_estimator_is_refused(self, flavour, tmp_path):
        with pytest.raises(UserError, match="is not fitted"):
            flavour.save(xgboost.XGBRegressor(), tmp_path, allow_pickle=False)


class TestPyfunc(FlavourContract):
    @pytest.fixture
    def flavour(self):
        return PyfuncFlavour()

    @pytest.fixture
    def regressor(self):
        return SquareFoot(1000.0)

    @pytest.fixture
    def classifier(self):
        return Dear(1150.0)

    def test_an_mlflow_python_model_is_asked_without_a_context(self, flavour):
        class Constant:
            def predict(self, context, model_input, params=None):
                assert context is None
                return [7.0] * len(model_input)

        assert set(flavour.predict(Constant(), ROWS, None).values) == {7.0}

    def test_text_in_place_of_numbers_is_refused(self, flavour):
        class Talks:
            def predict(self, rows):
                return ["dear"] * len(rows)

        with pytest.raises(DataError, match=r"'dear', which is no number") as refused:
            flavour.predict(Talks(), ROWS, None)
        assert "classification" in str(refused.value)


def test_a_class_that_nobody_can_import_is_refused(tmp_path):
    class Local(SquareFoot):
        pass

    with pytest.raises(UserError, match="where nobody else can import it"):
        flavour("pyfunc").save(Local(1.0), tmp_path, allow_pickle=False)


def test_loading_ones_own_model_runs_no_constructor_and_names_no_other_class(tmp_path):
    crafted = {"class": "subprocess:Popen", "attributes": {"args": "true"}}
    (tmp_path / "model.skops").write_bytes(find("codecs", "skops")().encode(crafted))
    with pytest.raises(Damaged, match="subprocess:Popen is no class that can predict"):
        flavour("pyfunc").load(tmp_path / "model.skops", allow_pickle=False)


def test_the_nearest_librarys_class_decides_the_flavour():
    assert flavour_of(LinearRegression()).name == "sklearn"
    assert flavour_of(lightgbm.LGBMRegressor()).name == "lightgbm"
    assert flavour_of(xgboost.XGBClassifier()).name == "xgboost"
    assert flavour_of(make_pipeline(StandardScaler(), lightgbm.LGBMRegressor())).name == "sklearn"
    assert flavour_of(SquareFoot(1.0)).name == "pyfunc"


def test_what_cannot_predict_is_no_model():
    with pytest.raises(UserError, match="a DataFrame is no model"):
        flavour_of(pd.DataFrame())


def test_without_leave_nothing_is_pickled(tmp_path):
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), LinearRegression())
    with pytest.raises(UserError, match="cannot be stored without pickle") as refused:
        flavour("sklearn").save(model.fit(ROWS, PRICES), tmp_path, allow_pickle=False)
    assert "allow_pickle = true" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_not_opened_without_leave(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="can run any code"):
        flavour("pyfunc").load(tmp_path / "model.pkl", allow_pickle=False)


def test_bytes_that_are_no_model_are_damage(tmp_path):
    (tmp_path / "model.skops").write_bytes(b"nothing")
    with pytest.raises(Damaged, match="holds no model"):
        flavour("sklearn").load(tmp_path / "model.skops", allow_pickle=False)


def test_a_position_that_a_graph_says_is_not_taken_for_a_class_of_that_name():
    """LightGBM's and XGBoost's graphs say 1 for the second class."""
    shares = [[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]
    assert spoken([1, 2], shares, ("a", "b", "c"), 2).values.tolist() == ["b", "c"]
    assert spoken([1, 2], shares, (1, 2, 3), 2).values.tolist() == [2, 3]
    assert spoken([1, 2], shares, (0, 1, 2), 2).values.tolist() == [1, 2]
    assert spoken(["b", "c"], shares, ("a", "b", "c"), 2).values.tolist() == ["b", "c"]
    assert spoken([1], [[0.2, 0.8]], (False, True), 1).values.tolist() == [True]
