"""A newcomer's first turn, through the command line alone."""

import json
import subprocess
import sys

import numpy as np


def test_the_first_run_makes_a_champion_that_passed_the_gate(houses):
    assert {step["how"] for step in houses.first["steps"]} == {"ran"}
    (version,) = houses.first["mlflow"]["versions"]
    assert (version["name"], version["version"], version["alias"]) == (
        "house-prices",
        1,
        "champion",
    )


def test_the_second_run_reuses_everything_although_there_is_a_champion_now(houses):
    again = houses.json("run")
    assert {step["how"] for step in again["steps"]} == {"reused"}
    assert again["mlflow"] is None


def test_a_run_and_its_steps_can_be_looked_at_afterwards(houses):
    first = houses.first["run"]
    assert first in [run["run"] for run in houses.json("runs")]
    assert houses.json("runs", first)["status"] == "finished"
    told = houses.json("why", f"{first}/fit")
    assert told["because"] == ["because it never ran before"]
    assert "clean: ran" in houses.type("why", first).stdout


SCORED_BY_MLFLOW = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/house-prices@champion")
rows = pd.read_json(sys.argv[2], lines=True)
rows = rows.astype({c.name: {"double": "float64", "long": "int64", "integer": "int32"}[c.type.name]
                    for c in model.metadata.get_input_schema() if c.type.name != "string"})
print(json.dumps([float(v) for v in model.predict(rows)]))
assert not any(name.startswith("charkha") for name in sys.modules)
"""


def test_mlflow_charkha_and_the_onnx_twin_give_the_same_predictions(houses):
    uri = houses.first["mlflow"]["uri"]
    done = subprocess.run(
        [sys.executable, "-c", SCORED_BY_MLFLOW, uri, str(houses.root / "houses.jsonl")],
        cwd=houses.root.parent,
        env=houses.environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    by_mlflow = json.loads(done.stdout.splitlines()[-1])
    native = houses.json("predict", "house-prices@champion", "houses.jsonl")["predictions"]
    asked_twin = ("predict", "house-prices@champion", "houses.jsonl", "--onnx")
    twin = houses.json(*asked_twin)["predictions"]
    assert len(native) == 3
    np.testing.assert_allclose(native, by_mlflow, rtol=1e-12)
    np.testing.assert_allclose(twin, native, rtol=1e-5)
