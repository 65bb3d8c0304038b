"""Digests: the right one always, and not read again where that is safe."""

import hashlib
import json
import os
import subprocess
import time

import pytest

from charkha.data import digests
from charkha.data.digests import FileDigests
from charkha.errors import DataError

LONG_AGO = time.time() - 3600


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def settled(monkeypatch):
    """Make the files of a test old enough to be remembered: ctime cannot be set, the limit can."""
    monkeypatch.setattr(digests, "RACY_NS", 0)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def remember(state, path, algorithm="sha256"):
    known = FileDigests(state)
    digest = known.folder(path, algorithm) if path.is_dir() else known.file(path, algorithm)
    known.save()
    return digest


def poison(state):
    """Replace every remembered digest, so that using one is seen."""
    for memory in (state / "digests").iterdir():
        remembered = json.loads(memory.read_text())
        poisoned = {name: [identity, "remembered"] for name, (identity, _) in remembered.items()}
        memory.write_text(json.dumps(poisoned))


def test_a_files_digest_is_that_of_its_bytes(file):
    assert FileDigests(None).file(file) == sha256(b"abc")
    assert FileDigests(None).file(file, "md5") == hashlib.md5(b"abc").hexdigest()  # noqa: S324


def test_an_unchanged_file_is_not_read_again(file, state, settled):
    remember(state, file)
    poison(state)
    assert FileDigests(state).file(file) == "remembered"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", [b"abcd", b"xyz"])
def test_a_changed_file_is_read_again(file, state, content):
    remember(state, file)
    file.write_bytes(content)
    assert FileDigests(state).file(file) == sha256(content)


def test_a_change_under_the_old_mtime_and_size_is_seen(file, state, settled):
    os.utime(file, (LONG_AGO, LONG_AGO))
    remember(state, file)
    file.write_bytes(b"xyz")
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert FileDigests(state).file(file) == sha256(b"xyz")


def test_another_file_moved_to_its_place_is_seen(file, state, settled, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"xyz")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    remember(state, file)
    os.replace(other, file)
    assert FileDigests(state).file(file) == sha256(b"xyz")


def test_a_file_younger_than_its_clocks_tick_is_not_remembered(file, state):
    remember(state, file)
    assert not (state / "digests").exists()


def test_a_file_from_the_future_is_not_remembered(file, state, settled):
    os.utime(file, (time.time() + 3600, time.time() + 3600))
    remember(state, file)
    assert not (state / "digests").exists()


def test_a_memory_that_is_no_memory_is_not_used(file, state, settled):
    remember(state, file)
    for memory in (state / "digests").iterdir():
        for nonsense in ("", "[1]", '{"": 1}', '{"": ["a"]}'):
            memory.write_text(nonsense)
            assert FileDigests(state).file(file) == sha256(b"abc")


def test_a_state_that_cannot_be_written_is_no_error(file, tmp_path, settled):
    (tmp_path / "state").write_text("a file where a folder should be")
    assert remember(tmp_path / "state", file) == sha256(b"abc")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "inner" / "deep").mkdir(parents=True)
    (path / "b.txt").write_text("b")
    (path / "inner" / "ä.txt").write_text("a")
    (path / "inner" / "deep" / "c").write_text("c")
    (path / "inner-2").write_text("sorted between")
    return path


def test_a_folders_digest_changes_with_a_byte_and_with_a_name(folder):
    seen = {FileDigests(None).folder(folder)}
    (folder / "b.txt").write_text("B")
    seen.add(FileDigests(None).folder(folder))
    (folder / "b.txt").rename(folder / "b.text")
    seen.add(FileDigests(None).folder(folder))
    (folder / "new").touch()
    seen.add(FileDigests(None).folder(folder))
    assert len(seen) == 4


def test_an_empty_folder_inside_does_not_count(folder):
    before = FileDigests(None).folder(folder)
    (folder / "empty").mkdir()
    assert FileDigests(None).folder(folder) == before


def test_a_folders_unchanged_files_are_not_read_again(folder, state, settled):
    remember(state, folder)
    poison(state)
    assert dict(FileDigests(state).files(folder))["b.txt"] == "remembered"


def test_a_file_gone_from_a_folder_is_forgotten(folder, state, settled):
    remember(state, folder)
    (folder / "b.txt").unlink()
    remember(state, folder)
    (memory,) = (state / "digests").iterdir()
    assert "b.txt" not in json.loads(memory.read_text())


def test_md5_is_what_dvc_writes(folder, project, dvc):
    data = project.root / "data"
    data.mkdir()
    (data / "file.csv").write_bytes(b"a,b\r\n1,2\r\n")
    folder.rename(data / "folder")
    (data / "folder" / ".git").mkdir()
    (data / "folder" / ".git" / "config").write_text("not data")
    dvc("init", "--quiet")
    dvc("add", "--quiet", "data/file.csv", "data/folder")
    written = [(data / name).read_text() for name in ("file.csv.dvc", "folder.dvc")]
    assert f"md5: {FileDigests(None).file(data / 'file.csv', 'md5')}\n" in written[0]
    assert f"md5: {FileDigests(None).folder(data / 'folder', 'md5')}\n" in written[1]


def test_a_link_to_a_folder_is_followed(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "d").write_text("d")
    (folder / "link").symlink_to(tmp_path / "outside")
    before = FileDigests(None).folder(folder)
    (tmp_path / "outside" / "d").write_text("D")
    assert FileDigests(None).folder(folder) != before


def test_a_link_upwards_does_not_turn_for_ever(folder):
    (folder / "inner" / "up").symlink_to(folder)
    assert FileDigests(None).folder(folder)


def test_a_link_to_a_folder_is_refused_where_dvc_would_drop_it(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="link to a folder"):
        FileDigests(None).folder(folder, "md5")


@pytest.mark.parametrize("what", ["absent", "folder", "pipe", "dangling"])
def test_what_is_no_file_is_refused_by_name(tmp_path, what):
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        subprocess.run(["mkfifo", path], check=True)
    elif what == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=what):
        FileDigests(None).file(path)


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="absent"):
        FileDigests(None).folder(tmp_path / "absent")
