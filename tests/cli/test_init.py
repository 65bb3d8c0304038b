import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from charkha.cli import init as module
from charkha.cli.init import TEMPLATES, init
from charkha.cli.main import main
from charkha.errors import DONE, YOU, DataError, UserError
from charkha.project import open_project

TEMPLATE = Path(module.__file__).parent.parent / "templates" / "house-prices"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A machine on which git knows no author, outside of any repository."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "home" / "dvc"))
    monkeypatch.chdir(tmp_path)


def git(folder, *arguments):
    return subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_new_project_is_whole_and_committed(tmp_path, capsys):
    assert main(["init", "houses"]) == DONE
    folder = tmp_path / "houses"
    assert open_project(folder).name == "house-prices"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%an: %s") == "Charkha: Start from house-prices"
    kept = git(folder, "ls-files").splitlines()
    assert "data/ames.parquet.dvc" in kept
    assert "data/ames.parquet" not in kept  # DVC has it
    assert {"charkha.toml", "pipeline.py", ".gitignore", "tests/test_pipeline.py"} <= set(kept)
    assert "cd houses\n  charkha run\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["houses"]


def test_the_template_runs_its_own_tests(tmp_path):
    init(tmp_path / "houses", "house-prices")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"],
        cwd=tmp_path / "houses",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_sales_are_all_there_and_nothing_in_them_is_missing():
    sales = pd.read_parquet(TEMPLATE / "data" / "ames.parquet")
    assert sales.shape == (2930, 74)
    assert not sales.isna().any(axis=None)
    assert sales["Year_Sold"].between(2006, 2010).all()
    assert (TEMPLATE / "data" / "ames.parquet").stat().st_size < 250_000


def test_json_says_where_it_is_and_what_comes_next(capsys):
    assert main(["init", "houses", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["folder"].endswith("/houses")
    assert told["next"][:2] == ["cd houses", "charkha run"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "houses").mkdir()
    (tmp_path / "houses" / "thesis.tex").write_text("mine")
    assert main(["init", "houses"]) == YOU
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "houses").iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "houses").mkdir()
    init(tmp_path / "houses", "house-prices")
    assert (tmp_path / "houses" / "charkha.toml").is_file()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "houses").write_text("")
    with pytest.raises(UserError, match="is a file"):
        init(tmp_path / "houses", "house-prices")


def test_an_unknown_template_is_refused_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(UserError, match="no template 'house-price'") as caught:
        init(tmp_path / "houses", "house-price")
    assert caught.value.fix == "did you mean 'house-prices'?"
    assert not (tmp_path / "houses").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_what_fails_half_way_leaves_nothing(tmp_path, existed, monkeypatch):
    folder = tmp_path / "houses"
    if existed:
        folder.mkdir()
    broken = tmp_path / "templates" / "house-prices"
    (broken / "data").mkdir(parents=True)
    (broken / "charkha.toml").write_text("")
    (broken / "data" / "ames.parquet").write_bytes(b"no parquet")
    monkeypatch.setattr(module, "_FOLDER", broken.parent)
    with pytest.raises(DataError):
        init(folder, "house-prices")
    assert folder.exists() == existed
    assert not existed or not list(folder.iterdir())


def test_a_repository_around_it_is_used_and_not_committed_to(tmp_path):
    git(tmp_path, "init", "--quiet")
    init(tmp_path / "houses", "house-prices")
    assert not (tmp_path / "houses" / ".git").exists()
    assert "houses/" in git(tmp_path, "status", "--porcelain")


def test_a_folder_that_the_repository_around_it_ignores_gets_its_own(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("/houses/\n")
    init(tmp_path / "houses", "house-prices")
    assert (tmp_path / "houses" / ".git").is_dir()


def test_every_template_has_what_its_entry_says():
    for name, template in TEMPLATES.items():
        assert (TEMPLATE.parent / name / template.file).is_file()
        assert open_project(TEMPLATE.parent / name).root == TEMPLATE.parent / name
