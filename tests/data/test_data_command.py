"""charkha data …: what a person types, sees and gets back as an exit code."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from charkha.cli.main import main
from charkha.errors import DONE, THEY, USAGE, YOU

ACTIONS = ["add", "list", "log", "push", "pull", "restore", "diff", "check"]


@pytest.fixture
def houses(project, commit, capsys):
    """A dataset with two committed versions."""
    path = project.root / "data" / "houses.csv"
    path.parent.mkdir()
    for price in (5, 6):
        path.write_text(f"id,price\n1,4\n2,{price}\n")
        assert main(["data", "add", "data/houses.csv"]) == DONE
        commit(f"price {price}")
    capsys.readouterr()
    return path


@pytest.fixture
def run(capsys):
    """Run `charkha data …`; return the exit code, stdout and stderr."""

    def run(*arguments):
        code = main(["data", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def run_json(run):
    """Run `charkha data … --json`; return the exit code and what was printed."""

    def run_json(*arguments):
        code, out, _ = run(*arguments, "--json")
        return code, json.loads(out)

    return run_json


@pytest.mark.parametrize("action", [None, *ACTIONS])
def test_help_has_an_example(run, action):
    code, out, _ = run(*filter(None, [action]), "--help")
    assert code == DONE
    assert "example:\n  charkha data" in out


def test_help_imports_no_framework():
    code = (
        "import sys; from charkha.cli.main import main; main(['data', 'add', '--help']);"
        "print([m for m in ('dvc', 'pandas', 'boto3', 'rich', 'pandera') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_add_says_what_was_added_and_what_to_commit(project, run, tmp_path):
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "sales.parquet")
    code, out, err = run("add", str(tmp_path / "sales.parquet"))
    assert code == DONE
    assert "added sales" in out
    assert "2 rows, 1 column," in out
    assert "git add data/sales.parquet.dvc data/.gitignore" in err


def test_add_takes_a_name(project, run_json, tmp_path):
    (tmp_path / "My Sales.csv").write_text("a\n1\n")
    code, added = run_json("add", str(tmp_path / "My Sales.csv"), "--name", "sales")
    assert (code, added["name"], added["rows"]) == (DONE, "sales", 1)


def test_list_shows_what_changed(houses, run):
    assert "unchanged" in run("list")[1]
    houses.write_text("id,price\n1,1\n")
    assert "changed, not added" in run("list")[1]


def test_list_as_json(houses, run_json):
    code, (row,) = run_json("list")
    assert code == DONE
    assert (row["name"], row["rows"], row["state"]) == ("houses", 2, "unchanged")


def test_list_of_nothing_says_how_to_begin(project, run):
    code, out, err = run("list")
    assert (code, out) == (DONE, "")
    assert "charkha data add" in err


def test_log_lists_the_versions(houses, run, run_json):
    assert "price 5" in run("log", "houses")[1]
    assert [version["subject"] for version in run_json("log", "houses")[1]] == [
        "price 6",
        "price 5",
    ]


def test_push_and_pull_say_what_was_copied_where(houses, run, run_json, project):
    assert "houses: 1 file pushed to" in run("push")[1]
    assert run_json("pull", "houses") == (
        DONE,
        {"datasets": ["houses"], "files": 0, "remote": str(project.state / "remote")},
    )


def test_restore_and_diff(houses, run, run_json):
    code, out, _ = run("diff", "houses", "HEAD~1", "--key", "id")
    assert code == DONE
    assert "1 changed" in out
    assert "column ~ price: 1 value" in out
    assert run("restore", "houses@HEAD~1")[0] == DONE
    assert houses.read_text().endswith("2,5\n")
    assert run_json("diff", "houses", "HEAD~1")[1]["table"] is None


def test_restore_without_a_version_says_how(houses, run):
    code, _, err = run("restore", "houses")
    assert code == YOU
    assert "charkha data restore houses@VERSION" in err


def test_check_names_rule_and_rows_and_fails(houses, run, run_json):
    rules = houses.with_name("houses.checks.toml")
    rules.write_text("[columns.price]\nmax = 5\n")
    code, out, _ = run("check", "houses")
    assert code == YOU
    assert "price is at most 5, but row 1 has 6" in out
    code, found = run_json("check")
    assert code == YOU
    assert found["houses"][0]["rows"] == [[1, "6"]]
    rules.write_text("min_rows = 2\n")
    assert run("check", "houses")[0] == DONE


def test_check_of_a_misspelt_rule_has_its_line(houses, run):
    houses.with_name("houses.checks.toml").write_text("[columns.price]\nmaxx = 5\n")
    code, _, err = run("check", "houses")
    assert code == YOU
    assert "houses.checks.toml:2: [columns.price] has no key 'maxx'" in err
    assert "did you mean 'max'?" in err


def test_check_without_any_rules_says_what_to_write(houses, run):
    code, _, err = run("check")
    assert code == DONE
    assert "checks.toml" in err


@pytest.mark.parametrize("action", ["log", "pull", "push", "diff", "check"])
def test_a_misspelt_name_is_answered_with_the_nearest(houses, run, action):
    code, _, err = run(action, "house")
    assert code == YOU
    assert "did you mean 'houses'?" in err


def test_a_remote_that_has_not_got_it_is_their_fault(houses, run):
    houses.unlink()
    subprocess.run(["rm", "-rf", ".dvc/cache"], check=True)
    code, _, err = run("pull")
    assert code == THEY
    assert "charkha data push" in err


def test_a_wrong_command_line_is_a_usage_error(project, run):
    assert run("add")[0] == USAGE
    assert run("wash")[0] == USAGE


def test_the_environment_chooses_the_remote(houses, run, run_json, project):
    with (project.root / "charkha.toml").open("a") as file:
        file.write('[env.prod.data]\nremote = "prod-remote"\n')
    code, moved = run_json("push", "--env", "prod")
    assert (code, moved["remote"]) == (DONE, str(project.root / "prod-remote"))
    assert (project.root / "prod-remote").is_dir()
    assert not (project.state / "remote").exists()
