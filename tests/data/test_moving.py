"""log, push, pull, restore: versions come and go, and what is in no version is never lost."""

import dataclasses
import subprocess

import pytest

from charkha.data.adding import add
from charkha.data.datasets import dataset
from charkha.data.digests import FileDigests
from charkha.data.moving import pull, push, restore
from charkha.data.versions import find_version, log, statuses
from charkha.errors import BackendError, DataError, NotFound, Unavailable, UserError

FIRST, SECOND, THIRD = "a\n1\n", "a\n1\n2\n", "a\n3\n"


@pytest.fixture
def houses(project, commit):
    """A dataset with two committed versions, the second of which is in the working copy."""
    path = project.root / "data" / "houses.csv"
    path.parent.mkdir()
    for content, subject in ((FIRST, "first"), (SECOND, "second")):
        path.write_text(content)
        add(project, str(path))
        commit(subject)
    return path


def wipe(project, path):
    """Leave of the data what a fresh clone has."""
    subprocess.run(["rm", "-rf", project.root / ".dvc" / "cache", path], check=True)


def state(project):
    (status,) = statuses(project)
    return status.state


def test_log_has_every_version_once_newest_first(project, houses, commit):
    with houses.with_name("houses.csv.dvc").open("a") as pointer:
        pointer.write("desc: a commit that changes no data\n")
    commit("words")
    versions = log(project, "houses")
    assert [version.commit.subject for version in versions] == ["second", "first"]
    assert [version.pointer.rows for version in versions] == [2, 1]
    assert versions[0].commit.author == "Ada"


def test_log_begins_with_what_is_not_committed(project, houses):
    houses.write_text(THIRD)
    add(project, str(houses))
    assert [version.commit is None for version in log(project, "houses")] == [True, False, False]


def test_log_before_any_commit_has_the_one_version(project):
    (project.root / "a.csv").write_text(FIRST)
    add(project, "a.csv")
    assert len(log(project, "a")) == 1


def test_list_tells_unchanged_changed_and_not_pulled(project, houses):
    assert state(project) == "unchanged"
    houses.write_text(THIRD)
    assert state(project) == "changed, not added"
    houses.unlink()
    assert state(project) == "not pulled"


def test_list_tells_what_is_not_committed(project, houses):
    assert [status.committed for status in statuses(project)] == [True]
    houses.write_text(THIRD)
    add(project, str(houses))
    assert [status.committed for status in statuses(project)] == [False]


def test_a_dataset_that_is_loaded_is_pulled_where_the_project_wants_that_and_is_as_old_as_its_pointer(
    project, houses
):
    push(project)
    wipe(project, houses)
    with pytest.raises(DataError, match="was not pulled"):
        dataset("houses").bind(project).load()
    pulling = dataclasses.replace(project, data=dataclasses.replace(project.data, pull=True))
    assert len(dataset("houses").bind(pulling).load()) == 2
    pointer = houses.with_name("houses.csv.dvc")
    assert houses.stat().st_mtime_ns == pointer.stat().st_mtime_ns


def test_what_was_pushed_comes_back_after_everything_here_is_lost(project, houses):
    assert push(project).files == 1
    wipe(project, houses)
    assert pull(project, ["houses"]).files == 1
    assert houses.read_text() == SECOND


def test_pushing_twice_copies_once(project, houses):
    push(project)
    assert push(project).files == 0


def test_pulling_what_is_here_copies_nothing(project, houses):
    push(project)
    assert pull(project).files == 0


def test_only_the_named_dataset_is_moved(project, houses):
    (project.root / "other.csv").write_text(THIRD)
    add(project, "other.csv")
    assert push(project, ["other"]).datasets == ("other",)
    wipe(project, houses)
    with pytest.raises(NotFound):
        pull(project, ["houses"])


def test_pulling_what_was_never_pushed_says_where_to_push_it(project, houses):
    wipe(project, houses)
    with pytest.raises(NotFound, match="charkha data push"):
        pull(project)
    assert not houses.exists()


def test_pushing_what_is_nowhere_is_refused(project, houses):
    wipe(project, houses)
    with pytest.raises(DataError, match="neither here nor in"):
        push(project)


def test_pulling_does_not_overwrite_changes(project, houses):
    push(project)
    houses.write_text(THIRD)
    with pytest.raises(DataError, match="never added"):
        pull(project)
    assert houses.read_text() == THIRD
    pull(project, force=True)
    assert houses.read_text() == SECOND


def test_pulling_after_a_git_checkout_brings_that_commits_version(project, houses):
    subprocess.run(["git", "checkout", "--quiet", "HEAD~1"], check=True)
    pull(project)
    assert houses.read_text() == FIRST


@pytest.mark.parametrize("how", ["revision", "tag", "relative", "md5"])
def test_a_version_is_named_by_a_git_revision_or_by_its_md5(project, houses, how):
    first = log(project, "houses")[1]
    subprocess.run(["git", "tag", "v1", first.commit.revision], check=True)
    name = {
        "revision": first.commit.revision[:10],
        "tag": "v1",
        "relative": "HEAD~1",
        "md5": first.short,
    }[how]
    restore(project, "houses", name)
    assert houses.read_text() == FIRST
    assert state(project) == "unchanged"


def test_a_restored_version_is_what_dvc_expects(project, houses, dvc):
    restore(project, "houses", "HEAD~1")
    assert "up to date" in dvc("status")


def test_restoring_there_and_back_gives_the_same_pointer(project, houses):
    before = houses.with_name("houses.csv.dvc").read_bytes()
    restore(project, "houses", "HEAD~1")
    restore(project, "houses", "HEAD")
    assert houses.with_name("houses.csv.dvc").read_bytes() == before


def test_restoring_does_not_overwrite_changes(project, houses):
    houses.write_text(THIRD)
    with pytest.raises(DataError, match="never added"):
        restore(project, "houses", "HEAD~1")
    assert houses.read_text() == THIRD
    restore(project, "houses", "HEAD~1", force=True)
    assert houses.read_text() == FIRST


def test_restoring_fetches_from_the_remote(project, houses):
    restore(project, "houses", "HEAD~1")
    push(project)
    restore(project, "houses", "HEAD")
    push(project)
    wipe(project, houses)
    restore(project, "houses", "HEAD~1")
    assert houses.read_text() == FIRST


def test_a_version_whose_bytes_are_nowhere_changes_nothing(project, houses):
    subprocess.run(["rm", "-rf", project.root / ".dvc" / "cache"], check=True)
    before = houses.with_name("houses.csv.dvc").read_bytes()
    with pytest.raises(NotFound, match="neither has this machine"):
        restore(project, "houses", "HEAD~1")
    assert houses.read_text() == SECOND
    assert houses.with_name("houses.csv.dvc").read_bytes() == before


def test_a_folder_is_restored_with_all_its_files(project, commit, tmp_path):
    folder = project.root / "data" / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    add(project, str(folder))
    commit("two files")
    (folder / "b.txt").unlink()
    (folder / "a.txt").write_text("A")
    add(project, str(folder))
    commit("one file")
    restore(project, "texts", "HEAD~1")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.txt": "a",
        "b.txt": "b",
    }


def test_other_bytes_in_the_remote_are_not_taken_for_the_data(project, houses):
    push(project)
    (stored,) = (project.state / "remote").rglob("files/md5/*/*")
    stored.chmod(0o600)
    stored.write_text(THIRD)
    wipe(project, houses)
    for get in (pull, lambda project: restore(project, "houses", "HEAD")):
        with pytest.raises(BackendError, match=r"houses\.csv"):  # DVC removes it from a folder
            get(project)
    assert not houses.exists()


def test_a_folder_of_which_the_remote_lost_a_file_is_not_taken_for_whole(project, commit):
    folder = project.root / "data" / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    pointer = add(project, str(folder)).pointer
    push(project)
    lost = FileDigests(None).file(folder / "a.txt", "md5")
    (project.state / "remote" / "files" / "md5" / lost[:2] / lost[2:]).unlink()
    wipe(project, pointer.path)
    with pytest.raises(BackendError, match="texts"):
        pull(project)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("version", "said"), [("nonsense", "has no version"), ("0000000", "has no version")]
)
def test_an_unknown_version_names_the_command_that_lists_them(project, houses, version, said):
    with pytest.raises(DataError, match=said) as error:
        find_version(project, "houses", version)
    assert "charkha data log houses" in str(error.value)


def test_a_version_cannot_be_an_option_of_git(project, houses):
    with pytest.raises(DataError, match="has no version"):
        find_version(project, "houses", "--help")


def test_a_commit_from_before_the_dataset_is_refused(project, commit):
    (project.root / "README.md").write_text("nothing yet")
    commit("begin")
    (project.root / "a.csv").write_text(FIRST)
    add(project, "a.csv")
    commit("data")
    with pytest.raises(DataError, match="was not there in HEAD~1"):
        find_version(project, "a", "HEAD~1")


def test_a_name_for_two_versions_is_refused(project, houses):
    short = log(project, "houses")[1].pointer.md5[:4]
    subprocess.run(["git", "tag", short, "HEAD"], check=True)  # the second version
    with pytest.raises(DataError, match="may be 2 versions"):
        find_version(project, "houses", short)


def test_a_remote_folder_that_cannot_be_made_is_named(project, houses, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    elsewhere = dataclasses.replace(
        project, data=dataclasses.replace(project.data, remote=str(tmp_path / "file" / "remote"))
    )
    with pytest.raises((BackendError, DataError), match=str(tmp_path / "file")):
        push(elsewhere)


def test_an_s3_endpoint_that_does_not_answer_is_unavailable(project, houses, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match=r"s3://bucket/prefix did not answer"):
        push(at_s3(project, "s3://bucket/prefix", "http://127.0.0.1:9"))


def test_a_bucket_that_is_not_there_is_not_found(project, houses, s3, credentials):
    with pytest.raises(NotFound, match=r"s3://nowhere/prefix"):
        push(at_s3(project, "s3://nowhere/prefix", s3.endpoint_url))


def test_s3_without_credentials_says_which_to_set(project, houses, s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID"):
        push(at_s3(project, f"s3://{s3.make_bucket()}/prefix", s3.endpoint_url))


@pytest.fixture
def credentials(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)


def at_s3(project, remote, endpoint_url):
    data = dataclasses.replace(project.data, remote=remote, endpoint_url=endpoint_url)
    return dataclasses.replace(project, environment="prod", data=data)
