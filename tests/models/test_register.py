import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from charkha import Gate, pipeline, register, step
from charkha.errors import DataError, UserError
from charkha.models.register import judge, package_model
from charkha.project import default_project, open_project

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"area": RNG.uniform(50, 300, 300), "age": RNG.uniform(0, 90, 300)})
TABLE["price"] = TABLE["area"] * 900 - TABLE["age"] * 400 + RNG.normal(0, 9_000, 300)
TRAIN, TEST = TABLE[:200], TABLE[200:]
BETTER = [Gate("rmse", better_than="champion").as_json()]


def fitted(columns=("area", "age"), **options):
    return Ridge(**options).fit(TRAIN[list(columns)], TRAIN["price"])


def packaged(model, **wish):
    arguments = {
        "target": "price",
        "metrics": None,
        "name": "houses",
        "task": None,
        "learning_curve": False,
        "allow_pickle": False,
    }
    return package_model(model=model, test=TEST, train=TRAIN, **{**arguments, **wish})


def judged(package, champion=None, rules=BETTER, test=TEST, train=TRAIN):
    reigning = champion and {"version": 3, "package": "c" * 64, "folder": str(champion.path)}
    return judge(
        package=package.path,
        test=test,
        train=train,
        champion=reigning,
        rules=rules,
        allow_pickle=False,
    )


def test_outside_of_a_pipeline_it_packages_and_judges_at_once():
    verdict = register(fitted(), train=TRAIN, test=TEST, target="price")
    assert verdict["passed"]
    assert verdict["first"]
    assert json.loads(json.dumps(verdict)) == verdict
    assert verdict["judged_against"] == "champion:none"


def test_a_better_candidate_passes_and_a_worse_one_is_refused():
    blind, seeing = packaged(fitted(["age"])), packaged(fitted())
    assert judged(seeing, blind)["passed"]
    refused = judged(blind, seeing)
    assert not refused["passed"]
    assert refused["champion"] == {"version": "3", "package": "c" * 64}
    assert refused["judged_against"] == f"champion:{'c' * 64}"
    assert "of the champion (version 3) on the same 100 rows: worse by" in refused["because"][0]


def test_the_champions_own_package_is_no_error_and_not_better():
    verdict = judged(packaged(fitted()), packaged(fitted()))
    assert verdict["same"]
    assert not verdict["passed"]


def test_a_champion_whose_column_is_gone_says_how_to_keep_it():
    candidate, champion = packaged(fitted(["area"])), packaged(fitted())
    with pytest.raises(DataError) as refused:
        judged(candidate, champion, test=TEST.drop(columns="age"))
    assert "the champion (version 3) cannot be asked for the test rows" in refused.value.what
    assert "column 'age' is missing" in refused.value.what
    assert "leave its columns in the rows" in refused.value.fix


def test_a_champion_of_another_task_is_no_measure():
    from sklearn.linear_model import LogisticRegression

    dear = TRAIN["price"].gt(120_000).map({True: "yes", False: "no"})
    classifier = LogisticRegression(max_iter=5_000).fit(TRAIN[["area", "age"]], dear)
    tables = [
        t.assign(price=t["price"].gt(120_000).map({True: "yes", False: "no"}))
        for t in (TRAIN, TEST)
    ]
    champion = package_model(
        model=classifier, train=tables[0], test=tables[1], target="price", metrics=None,
        name="houses", task=None, learning_curve=False, allow_pickle=False,
    )  # fmt: skip
    with pytest.raises(DataError, match="does classification and the candidate regression"):
        judged(packaged(fitted()), champion)


def test_rows_that_lost_their_target_are_refused():
    with pytest.raises(DataError, match="the test rows have no column 'price'"):
        judged(packaged(fitted()), test=TEST.drop(columns="price"))


def test_a_target_that_is_not_known_names_its_row():
    with pytest.raises(DataError, match="target 'price' is missing in row 1"):
        judged(packaged(fitted()), test=TEST.assign(price=[np.nan, *TEST["price"][1:]]))


def test_without_rules_the_champion_has_to_be_beaten():
    verdict = judged(packaged(fitted()), packaged(fitted(["age"])), rules=[])
    assert [rule["metric"] for rule in verdict["rules"]] == ["rmse"]


def test_each_rule_has_an_interval_of_its_own_confidence():
    wide, narrow = (Gate("rmse", at_most=20_000, confidence=c).as_json() for c in (0.99, 0.5))
    rules = judged(packaged(fitted()), rules=[wide, narrow])["rules"]
    widths = [rule["high"] - rule["low"] for rule in rules]
    assert widths[0] > 2 * widths[1]


def test_without_a_target_it_says_where_to_name_it():
    with pytest.raises(UserError, match="which column the model predicts") as refused:
        register(fitted(), test=TEST)
    assert "[model]" in refused.value.fix


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (["rsme"], "no metric is called 'rsme'"),
        ("rmse", "is a text"),
        ({"within": "most"}, "'within' is 'most' and no number"),
        ({"within": float("nan")}, "'within' is nan and no number"),
    ],
)
def test_wrong_metrics_are_refused(metrics, says):
    with pytest.raises(UserError, match=says):
        register(fitted(), train=TRAIN, test=TEST, target="price", metrics=metrics)


def test_scores_of_ones_own_are_kept_beside_the_usual_ones():
    folder = packaged(fitted(), metrics={"within_10_percent": 0.61})
    about = json.loads((folder.path / "package.json").read_text())
    assert about["own_scores"] == {"within_10_percent": 0.61}
    assert set(about["metrics"]["test"]) == {"rmse", "mae", "mse", "r2"}
    assert "| within_10_percent | 0.61 |" in (folder.path / "card.md").read_text()


def test_without_training_rows_nothing_is_said_of_the_fit():
    verdict = register(fitted(), test=TEST, target="price")
    assert verdict["warnings"] == []
    assert set(verdict["metrics"]) == {"test"}


@step
def learn() -> LinearRegression:
    return fitted()


@step
def hold_out() -> pd.DataFrame:
    return TEST


@pipeline
def houses(rules: list[Gate] | None = None):
    register(learn(), test=hold_out(), target="price", gate=rules)


def test_in_a_pipeline_it_traces_two_steps_whose_rules_are_parameters(tmp_path):
    graph = houses.trace({}, default_project(tmp_path))
    package, gate = graph.nodes["package"], graph.nodes["gate"]
    assert package.function == "charkha.models.register:package_model"
    assert gate.function == "charkha.models.register:judge"
    assert gate.arguments["package"] == {"step": "package", "output": "package"}
    assert gate.arguments["champion"]["source"] == "charkha.models.champion:Champion"
    assert json.loads(gate.arguments["rules"]["value"]) == []  # the task is not known yet


def test_rules_of_the_project_are_those_of_its_gate_sections(tmp_path):
    (tmp_path / "charkha.toml").write_text(
        '[project]\nname = "h"\n[model]\ntask = "regression"\n'
        '[[gate]]\nmetric = "mae"\nat_most = 5.0\n'
    )
    graph = houses.trace({}, open_project(tmp_path))
    (rule,) = json.loads(graph.nodes["gate"].arguments["rules"]["value"])
    assert (rule["metric"], rule["at_most"]) == ("mae", 5.0)
    assert json.loads(graph.nodes["package"].arguments["name"]["value"]) == "h"


PROJECT = """
import numpy as np, pandas as pd
from sklearn.linear_model import Ridge
from charkha import Gate, pipeline, register, step

@step
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"area": rng.uniform(50, 300, 200)})
    return table.assign(price=table["area"] * 900 + rng.normal(0, 9_000, 200))

@step
def fit(rows: pd.DataFrame) -> Ridge:
    return Ridge().fit(rows[["area"]], rows["price"])

@pipeline
def main(limit: float = 20_000.0):
    table = rows()
    register(fit(table), train=table, test=table, target="price",
             gate=Gate("rmse", at_most=limit))
"""


def test_a_run_reuses_the_package_and_judges_again_when_a_rule_changes(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "h"\n')
    (tmp_path / "pipeline.py").write_text(PROJECT)
    code = (
        "import json, sys; from pathlib import Path; from charkha.pipeline.run import run;"
        "from charkha.project import open_project; from charkha.pipeline.runs import open_artifacts;"
        "project = open_project(Path(sys.argv[1]));"
        "done = run(project=project, params={'limit': float(sys.argv[2])});"
        "verdict = open_artifacts(project).load(done.steps['gate'].outputs['verdict']);"
        "print(json.dumps([{n: s.how for n, s in done.steps.items()}, verdict]))"
    )

    def run(limit):
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(limit)],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        ).stdout
        return json.loads(out.splitlines()[-1])

    how, verdict = run(20_000.0)
    assert how == {"rows": "ran", "fit": "ran", "package": "ran", "gate": "ran"}
    assert verdict["passed"]
    how, verdict = run(5.0)
    assert how == {"rows": "reused", "fit": "reused", "package": "reused", "gate": "ran"}
    assert not verdict["passed"]
    assert set(run(5.0)[0].values()) == {"reused"}


def test_importing_it_imports_no_library_of_models():
    code = (
        "import sys; import charkha.models.register;"
        "raise SystemExit(bool({'numpy', 'pandas', 'sklearn', 'mlflow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd()).returncode == 0
