"""Versions of every flavour load with MLflow alone and answer as their package does."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from charkha.models.asked import Wish
from charkha.models.build import make_package
from charkha.models.following import Tracker
from charkha.models.package import read_package
from charkha.models.packaged import folder_of
from charkha.models.registry import find_version

ROWS = pd.DataFrame({"area": np.arange(1.0, 65.0), "rooms": np.resize(np.arange(4), 64)})
ROWS["price"] = 3 * ROWS["area"] + ROWS["rooms"]
FEATURES = ["area", "rooms"]

OWN = """
import pandas as pd

class Line:
    def __init__(self, slope):
        self.slope = slope
        self.feature_names = ["area", "rooms"]

    def predict(self, rows):
        return rows["area"] * self.slope
"""


def lightgbm_model(root):
    import lightgbm

    return lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=2, verbose=-1).fit(
        ROWS[FEATURES], ROWS["price"]
    )


def xgboost_model(root):
    import xgboost

    return xgboost.XGBRegressor(n_estimators=5).fit(ROWS[FEATURES], ROWS["price"])


def own_model(root):
    (root / "lines.py").write_text(OWN)
    sys.path.insert(0, str(root))
    try:
        import lines
    finally:
        sys.path.remove(str(root))
    return lines.Line(2.0)


@pytest.mark.parametrize("make", [lightgbm_model, xgboost_model, own_model])
def test_it_loads_in_a_process_without_charkha_and_answers_the_same(project, write_run, make):
    wish = Wish(name="prices", target="price")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converters' and plots' own affairs
        package = make_package(make(project.root), ROWS, ROWS, wish)
    state = Tracker(project, write_run(package=package)).work()
    assert (state.state, state.error) == ("done", None)
    version = find_version(project, "prices@champion")
    ours = read_package(folder_of(project, version)).predict(ROWS[FEATURES][:5])
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "sys.modules['charkha'] = None\n"
        "import mlflow, pandas as pd\n"
        f"mlflow.set_tracking_uri({project.tracking.uri!r})\n"
        "model = mlflow.pyfunc.load_model('models:/prices@champion')\n"
        f"rows = pd.DataFrame({ROWS[FEATURES][:5].to_dict('list')!r})\n"
        "print(*model.predict(rows))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False
    )
    assert said.returncode == 0, said.stderr
    theirs = [float(number) for number in said.stdout.split()]
    assert theirs == pytest.approx(ours.tolist(), rel=1e-6)
    client = MlflowClient(project.tracking.uri)
    files = client.list_logged_model_artifacts(version.source.removeprefix("models:/"))
    assert {"MLmodel", "charkha"} <= {file.path for file in files}
    assert not [file.path for file in files if file.path.endswith(".pkl")]
