"""add: from anywhere into an ordinary DVC repository, whole or not at all."""

import errno
import os
import subprocess

import pandas as pd
import pytest

from charkha.data.adding import add
from charkha.data.versions import statuses
from charkha.errors import CharkhaError, DataError, NotFound, Unavailable, UserError
from charkha.project import default_project, open_project

TABLE = "a,b\n1,2\n3,4\n"


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text(TABLE)
    return path


def tree(root):
    """Return every file of the project that is not DVC's cache or ours, with its bytes."""
    kept = (".git", ".dvc", ".charkha")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in kept
    }


def test_a_file_from_elsewhere_is_copied_and_stays_where_it_was(project, csv):
    version = add(project, str(csv))
    assert (project.root / "data" / "houses.csv").read_text() == TABLE
    assert csv.exists()
    assert (version.name, version.pointer.rows, version.pointer.columns) == ("houses", 2, 2)


def test_dvc_itself_finds_nothing_to_do(project, csv, dvc):
    add(project, str(csv))
    assert "up to date" in dvc("status")
    assert "data/houses.csv" in dvc("list", ".", "--dvc-only", "--recursive")


def test_dvc_itself_can_push_and_pull_it_by_the_default_remote(project, csv, dvc, commit):
    path = add(project, str(csv)).pointer.path
    commit("add")
    dvc("push")
    path.unlink()
    subprocess.run(["rm", "-rf", project.root / ".dvc" / "cache"], check=True)
    dvc("pull")
    assert path.read_text() == TABLE


def test_the_remote_in_the_project_is_written_relative(project, csv):
    add(project, str(csv))
    assert str(project.root) not in (project.root / ".dvc" / "config").read_text()


def test_the_telemetry_of_dvc_is_off(project, csv, dvc):
    add(project, str(csv))
    assert dvc("config", "core.analytics").strip().lower() == "false"


def test_a_dvc_repository_that_was_there_keeps_its_remote(project, csv, dvc, tmp_path):
    dvc("init", "--quiet")
    dvc("remote", "add", "--default", "mine", str(tmp_path / "mine"))
    add(project, str(csv))
    assert dvc("remote", "list").split()[0] == "mine"
    assert "local" not in dvc("remote", "list")


def test_a_project_below_the_top_of_its_repository_has_its_own_dvc(project, csv, dvc):
    below = project.root / "below"
    below.mkdir()
    (below / "charkha.toml").write_text("")
    add(open_project(below), str(csv))
    assert (below / ".dvc").is_dir()
    assert not (project.root / ".dvc").exists()


def test_a_file_in_the_data_folder_is_added_where_it_lies(project):
    path = project.root / "data" / "raw" / "houses.csv"
    path.parent.mkdir(parents=True)
    path.write_text(TABLE)
    assert add(project, str(path)).name == "raw/houses"
    assert path.with_name("houses.csv.dvc").exists()


def test_a_folder_is_one_dataset(project, tmp_path):
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.bin").write_bytes(b"1")
    version = add(project, str(folder))
    assert version.pointer.files == 1
    assert (project.root / "data" / "images" / "a" / "1.bin").read_bytes() == b"1"


def test_new_bytes_are_a_new_version(project, csv):
    first = add(project, str(csv))
    csv.write_text(TABLE + "5,6\n")
    second = add(project, str(csv))
    assert second.pointer.md5 != first.pointer.md5
    assert second.pointer.rows == 3


def test_the_same_bytes_again_change_nothing(project, csv, web):
    add(project, str(csv))
    before = tree(project.root)
    web.answers["/houses.csv"] = (200, {}, TABLE.encode())
    for again in (str(csv), f"{web.url}/houses.csv"):
        add(project, again)
        assert tree(project.root) == before


def test_a_note_of_dvcs_older_bytes_is_not_shown(project, csv, dvc):
    path = add(project, str(csv)).pointer.path
    path.write_text(TABLE * 3)
    dvc("add", "--quiet", "data/houses.csv")
    (status,) = statuses(project)
    assert status.version.pointer.rows is None


def test_where_it_came_from_is_written_down(project, web):
    web.answers["/houses.csv?token=secret"] = (200, {}, TABLE.encode())
    version = add(project, f"{web.url}/houses.csv?token=secret")
    assert version.pointer.source == f"{web.url}/houses.csv"
    assert "secret" not in version.pointer.file.read_text()


REFUSED = [
    ("empty.csv", "", "is empty"),
    ("head.csv", "a,b\n", "no row"),
    ("bad.parquet", "no parquet", "cannot be read as parquet"),
    ("My Houses.csv", TABLE, "--name"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_what_is_no_data_is_refused_and_leaves_nothing(project, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    before = tree(project.root)
    with pytest.raises(DataError, match=said):
        add(project, str(tmp_path / name))
    assert tree(project.root) == before


def test_an_empty_folder_is_refused(project, tmp_path):
    (tmp_path / "nothing" / "inside").mkdir(parents=True)
    with pytest.raises(DataError, match="has no files"):
        add(project, str(tmp_path / "nothing"))


def test_a_path_that_is_not_there_is_refused(project):
    with pytest.raises(NotFound, match=r"absent\.csv does not exist"):
        add(project, "absent.csv")


def test_the_project_itself_is_no_dataset(project):
    with pytest.raises(UserError, match="holds the project itself"):
        add(project, str(project.root))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a.b"])
def test_a_name_cannot_lead_out_of_the_data_folder(project, csv, name):
    with pytest.raises(DataError, match="cannot be the name"):
        add(project, str(csv), name)


def test_a_name_of_another_kind_of_file_is_taken(project, csv, tmp_path):
    add(project, str(csv))
    pd.read_csv(csv).to_parquet(tmp_path / "houses.parquet")
    with pytest.raises(DataError, match=r"already data/houses\.csv"):
        add(project, str(tmp_path / "houses.parquet"))


def test_changes_never_added_are_not_overwritten(project, csv):
    path = add(project, str(csv)).pointer.path
    path.write_text("a,b\n9,9\n")
    with pytest.raises(DataError, match="changes that were never added"):
        add(project, str(csv))
    assert path.read_text() == "a,b\n9,9\n"
    add(project, str(csv), force=True)
    assert path.read_text() == TABLE


def test_a_file_never_added_is_not_overwritten(project, csv):
    path = project.root / "data" / "houses.csv"
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(DataError, match="never added"):
        add(project, str(csv))
    assert path.read_text() == "mine"


def test_outside_of_git_it_says_so_before_fetching(tmp_path, web):
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match="git init"):
        add(default_project(tmp_path / "plain"), f"{web.url}/houses.csv")
    assert web.requests == []


def test_when_dvc_fails_everything_is_as_it_was(project, csv):
    add(project, str(csv))
    before = tree(project.root)
    cache = project.root / ".dvc" / "cache" / "files"
    subprocess.run(["rm", "-rf", cache], check=True)
    cache.write_text("a file where DVC wants a folder")
    csv.write_text(TABLE + "5,6\n")
    with pytest.raises(CharkhaError, match="files"):
        add(project, str(csv))
    assert tree(project.root) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_data_folder_is_named(project, csv):
    data = project.root / "data"
    data.mkdir()
    data.chmod(0o555)
    with pytest.raises(UserError, match="not permitted"):
        add(project, str(csv))


def test_a_data_folder_that_is_a_file_is_named(project, csv):
    (project.root / "data").write_text("a file")
    with pytest.raises(CharkhaError, match="data"):
        add(project, str(csv))
    assert (project.root / "data").read_text() == "a file"


def test_a_full_disk_leaves_everything_as_it_was(project, csv, monkeypatch):
    add(project, str(csv))
    before = tree(project.root)
    csv.write_text(TABLE + "5,6\n")
    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(Unavailable, match="no space left"):
        add(project, str(csv))
    assert tree(project.root) == before


def full(*paths):
    raise OSError(errno.ENOSPC, "No space left on device", str(paths[-1]))


def test_what_a_dvcignore_leaves_out_is_refused(project, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.tmp").write_text("b")
    (project.root / ".dvcignore").write_text("*.tmp\n")
    before = tree(project.root)
    with pytest.raises(DataError, match=r"\.dvcignore"):
        add(project, str(folder))
    assert tree(project.root) == before
