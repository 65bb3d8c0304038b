import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from charkha.cli.main import main
from charkha.errors import DataError, UserError
from charkha.models.asked import Wish
from charkha.models.build import make_package
from charkha.models.formats import format_of
from charkha.models.package import read_package
from charkha.models.scoring import read_rows, score_rows, write_scores

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"area": RNG.uniform(50, 300, 200).round(1), "zip": RNG.integers(1_000, 9_000, 200)}
)
TABLE["price"] = TABLE["area"] * 1_000 + TABLE["zip"]
ROWS = TABLE[["area", "zip"]].head(4)


@pytest.fixture(scope="module")
def made():
    model = LinearRegression().fit(TABLE[["area", "zip"]], TABLE["price"])
    return make_package(model, TABLE[100:], TABLE[:100], Wish(name="houses", target="price"))


@pytest.fixture
def package(made):
    return read_package(made.path)


CONTENT = {
    "csv": ROWS.to_csv(index=False).encode(),
    "parquet": ROWS.to_parquet(),
    "jsonl": ROWS.to_json(orient="records", lines=True).encode(),
}


@pytest.mark.parametrize("form", CONTENT)
def test_every_format_gives_the_same_predictions(package, form):
    said = score_rows(package, read_rows(CONTENT[form], form, "rows"))
    assert said.predictions == score_rows(package, ROWS).predictions
    assert said.predictions == pytest.approx(TABLE["price"].head(4).tolist())


def test_the_twin_answers_alike(package):
    one, two = (score_rows(package, ROWS, onnx=onnx).predictions for onnx in (False, True))
    assert one == pytest.approx(two, rel=1e-9)


def test_a_wrong_value_in_a_csv_is_named_with_its_row(package):
    rows = read_rows(b"area,zip\n1,2\nwide,3\n", "csv", "rows.csv")
    with pytest.raises(DataError, match="column 'area', row 2: 'wide' is not a number"):
        score_rows(package, rows)


@pytest.mark.parametrize(
    ("data", "form", "says"),
    [
        (b"", "csv", "rows is empty"),
        (b"  \n", "jsonl", "rows is empty"),
        (b"area,zip\n", "csv", "rows has no rows"),
        (b"\xff\xfe\x00", "csv", "rows is no CSV"),
        (b'a,b\n1,"2\n', "csv", "rows is no CSV"),
        (b"area,zip\n1,2\n", "parquet", "rows is no Parquet"),
        (b'{"area": 1}\n{"area": \n', "jsonl", "rows, line 2 is no JSON"),
        (b"[1]\n", "jsonl", "rows, line 1 is a list and no object"),
    ],
)
def test_bytes_that_are_no_table_say_where(data, form, says):
    with pytest.raises(DataError) as refused:
        read_rows(data, form, "rows")
    assert says in refused.value.what
    assert refused.value.fix


def test_a_key_that_a_json_line_lacks_is_a_missing_value(package):
    rows = read_rows(b'{"area": 1, "zip": 2}\n{"area": 1}\n', "jsonl", "rows")
    with pytest.raises(DataError, match="column 'zip' has no value in row 2"):
        score_rows(package, rows)


def test_a_format_is_told_by_the_name_or_asked_for():
    assert format_of("x.CSV", None) == "csv"
    assert format_of("x.ndjson", None) == "jsonl"
    assert format_of("-", "parquet") == "parquet"
    with pytest.raises(UserError, match="standard input has no name") as refused:
        format_of("-", None)
    assert "--format csv|parquet|jsonl" in refused.value.fix


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_what_was_written_can_be_read(package, form):
    scores = score_rows(package, ROWS)
    data = write_scores(scores, form)
    table = {
        "csv": lambda: pd.read_csv(io.BytesIO(data)),
        "parquet": lambda: pd.read_parquet(io.BytesIO(data)),
        "jsonl": lambda: pd.read_json(io.BytesIO(data), lines=True),
    }[form]()
    assert table["row"].tolist() == [1, 2, 3, 4]
    assert table["price"].tolist() == pytest.approx(scores.predictions)


def test_a_classifier_says_how_sure_it_is():
    dear = TABLE["price"].gt(180_000).map({True: "dear", False: "cheap"})
    table = TABLE.assign(price=dear)
    model = LogisticRegression(max_iter=5_000).fit(table[["area", "zip"]], dear)
    made = make_package(model, table[100:], table[:100], Wish(name="dear", target="price"))
    scores = score_rows(read_package(made.path), ROWS)
    assert set(scores.predictions) <= {"dear", "cheap"}
    assert sum(scores.probabilities[0].values()) == pytest.approx(1)
    assert list(scores.table().columns) == ["row", "price", "p(cheap)", "p(dear)"]


class TestCommand:
    @pytest.fixture
    def rows(self, tmp_path):
        file = tmp_path / "rows.csv"
        file.write_bytes(CONTENT["csv"])
        return str(file)

    def test_it_prints_a_prediction_for_each_row(self, made, rows, capsys):
        assert main(["predict", str(made.path), rows]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["row", "price"]
        assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]

    def test_it_reads_standard_input_and_prints_json(self, made, capsys, monkeypatch):
        stdin = io.TextIOWrapper(io.BytesIO(CONTENT["jsonl"]))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["predict", str(made.path), "-", "--format", "jsonl", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["target"] == "price"
        assert len(said["predictions"]) == 4

    def test_the_twin_is_asked_where_one_is_wanted(self, made, rows, capsys):
        assert main(["predict", str(made.path), rows, "--onnx", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["predictions"]) == 4

    def test_it_writes_a_file(self, made, rows, tmp_path, capsys):
        into = tmp_path / "said.parquet"
        assert main(["predict", str(made.path), rows, "-o", str(into)]) == 0
        assert len(pd.read_parquet(into)) == 4
        assert "4 predictions in" in capsys.readouterr().out
        assert [p.name for p in tmp_path.iterdir() if p.name.endswith("partial")] == []

    def test_notices_go_to_stderr(self, made, tmp_path, capsys):
        file = tmp_path / "rows.csv"
        ROWS.assign(colour="red").to_csv(file, index=False)
        assert main(["predict", str(made.path), str(file)]) == 0
        said = capsys.readouterr()
        assert "colour" in said.err
        assert "colour" not in said.out

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("area\n5\n", "column 'zip' is missing"),
            ("area,zip\n5,north\n", "row 1: 'north' is not a whole number"),
            ("area,zip\n5,1e30\n", "row 1: '1e30' does not fit into 64 bits"),
            ("area,zip\n", "has no rows"),
            ("", "is empty"),
        ],
    )
    def test_bad_rows_are_a_message_and_exit_1(self, made, tmp_path, capsys, content, says):
        file = tmp_path / "rows.csv"
        file.write_text(content)
        assert main(["predict", str(made.path), str(file)]) == 1
        said = capsys.readouterr().err
        assert says in said
        assert "→" in said
        assert "Traceback" not in said

    def test_a_file_that_is_not_there_is_said_so(self, made, capsys):
        assert main(["predict", str(made.path), "nowhere.csv"]) == 1
        assert "there is no file nowhere.csv" in capsys.readouterr().err

    def test_a_folder_is_no_file(self, made, rows, tmp_path, capsys):
        assert main(["predict", str(made.path), str(tmp_path)]) == 1
        assert f"{tmp_path} is a folder\n  → give one file of rows" in capsys.readouterr().err
        (tmp_path / "said.csv").mkdir()
        assert main(["predict", str(made.path), rows, "-o", str(tmp_path / "said.csv")]) == 1
        assert "said.csv is a folder\n  → give the name of a file in it" in capsys.readouterr().err

    def test_a_folder_that_is_not_there_keeps_nothing(self, made, rows, tmp_path, capsys):
        into = tmp_path / "no" / "said.csv"
        assert main(["predict", str(made.path), rows, "-o", str(into)]) == 1
        assert "mkdir -p" in capsys.readouterr().err

    def test_an_unknown_model_says_what_to_do(self, tmp_path, monkeypatch, rows, capsys):
        (tmp_path / "charkha.toml").write_text('[project]\nname = "h"\n')
        monkeypatch.chdir(tmp_path)
        assert main(["predict", "houses", rows]) == 1
        assert "no model is called 'houses'" in capsys.readouterr().err
