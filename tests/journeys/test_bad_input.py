"""What a person gets who made a mistake: what, where, what to type next; no traceback; no rest."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

HOUSE = {"Gr_Liv_Area": 1}


def said(done, code, *parts):
    """Check that a command ended with the code and told every part on stderr, without traceback."""
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    for part in parts:
        assert part in told, told
    assert "→" in done.stderr, told
    assert "Traceback" not in told, told


def first_house(houses):
    return json.loads((houses.root / "houses.jsonl").read_text().splitlines()[0])


def test_a_missing_column_of_the_rows_to_predict(houses):
    house = first_house(houses)
    del house["Lot_Area"]
    done = houses.type("predict", "house-prices", "-", "--format", "jsonl", stdin=json.dumps(house))
    said(done, 1, "Lot_Area")


def test_a_wrong_type_in_the_rows_to_predict(houses):
    rows = [first_house(houses), first_house(houses) | {"Lot_Area": "large"}]
    text = "\n".join(map(json.dumps, rows))
    done = houses.type("predict", "house-prices", "-", "--format", "jsonl", stdin=text)
    said(done, 1, "Lot_Area", "large")


def test_an_empty_table_to_predict(houses):
    done = houses.type("predict", "house-prices", "-", "--format", "jsonl", stdin="")
    said(done, 1, "standard input is empty")


def test_a_file_that_is_no_table(houses):
    (houses.root / "broken.parquet").write_text("not parquet")
    said(houses.type("predict", "house-prices", "broken.parquet"), 1, "broken.parquet")


def test_a_model_that_is_not_there(houses):
    said(houses.type("predict", "house-price", "houses.jsonl"), 1, "did you mean 'house-prices'")


def test_a_run_that_is_not_there(houses):
    said(houses.type("why", "2019/fit"), 1, "no run '2019'")


def test_a_command_outside_of_a_project(tmp_path, houses):
    said(houses.type("run", cwd=tmp_path), 1, "charkha.toml", "charkha init")


def test_a_typo_in_the_settings(fresh):
    toml = fresh.root / "charkha.toml"
    toml.write_text(toml.read_text().replace("[model]", "[modell]"))
    line = toml.read_text().splitlines().index("[modell]") + 1
    said(fresh.type("run"), 1, f"charkha.toml:{line}", "model")


def test_a_wrong_parameter(fresh):
    said(fresh.type("run", "--param", "yaer=2008"), 1, "did you mean 'year'")
    said(fresh.type("run", "--param", "year=soon"), 1, "'soon' is not a whole number")


def test_a_dataset_that_was_not_pulled(fresh):
    (fresh.root / "data/ames.parquet").unlink()
    shutil.rmtree(fresh.root / ".dvc/cache", ignore_errors=True)
    said(fresh.type("run"), 1, "ames", "charkha data pull ames")


def edited(fresh, change):
    """Change the sales, as a person with pandas would."""
    path = fresh.root / "data/ames.parquet"
    path.chmod(0o644)
    change(pd.read_parquet(path)).to_parquet(path)


def one_price_missing(sales):
    return sales.assign(Sale_Price=sales["Sale_Price"].where(sales.index != sales.index[7]))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda sales: sales.drop(columns="Lot_Area"), ["Lot_Area"]),
        (lambda sales: sales.head(0), ["row"]),
        (one_price_missing, ["Sale_Price"]),
        (lambda sales: sales.assign(Gr_Liv_Area="large"), ["Gr_Liv_Area"]),
    ],
    ids=["missing column", "empty", "NaN target", "wrong type"],
)
def test_data_that_is_not_what_was_declared_stops_the_run(fresh, change, parts):
    edited(fresh, change)
    said(fresh.type("run"), 1, "ames", *parts)


def test_a_target_of_nan_is_refused_also_where_nobody_declared_checks(fresh):
    pipeline = fresh.root / "pipeline.py"
    pipeline.write_text(pipeline.read_text().replace(", checked=True", ""))
    edited(fresh, lambda sales: sales.assign(Sale_Price=float("nan")))
    said(fresh.type("run"), 1, "NaN")


def test_a_tracking_server_that_is_down_neither_slows_nor_loses_a_run(fresh):
    toml = fresh.root / "charkha.toml"
    toml.write_text(toml.read_text() + '\n[tracking]\nuri = "http://127.0.0.1:9"\n')
    done = fresh.type("run")
    assert done.returncode == 0, done.stderr
    assert "MLflow does not have it yet" in done.stdout
    assert "charkha runs sync" in done.stdout
    assert "finished in" in done.stdout


def test_a_disk_that_is_full(fresh, tmp_path):
    """On a file system of a few megabytes of its own, in a mount namespace of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["unshare", "--mount", "sh", "-c"]
    probe = [*mount, f"mount -t tmpfs -o size=1m tmpfs {place}"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here (it needs CAP_SYS_ADMIN)")
    command = (
        f"mount -t tmpfs -o size=700k tmpfs {place} && cp charkha.toml pipeline.py {place} && "
        f"cp -r data {place} && cd {place} && exec {sys.executable} -m charkha run --no-wait"
    )
    done = subprocess.run(
        [*mount, command], cwd=fresh.root, env=fresh.environment, capture_output=True, text=True
    )
    said(done, 3, "no space left")
