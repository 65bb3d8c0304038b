"""DVC's remote on a real S3 endpoint: pushed, wiped from this machine, pulled, the same bytes.

The endpoint is moto's server on a free port of loopback, with its check of credentials on.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import boto3
import pytest

from charkha.cli.main import main
from charkha.data.datasets import dataset
from charkha.errors import DONE, THEY
from charkha.project import open_project

TABLE = "id,price\n" + "".join(f"{i},{i * 7 % 1000}\n" for i in range(200_000))  # 2 MB


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError), urlopen(f"{url}/moto-api/", timeout=5):  # noqa: S310
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.fixture
def project(tmp_path, monkeypatch, endpoint):
    """A project whose data remote is a fresh bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "charkha",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc-site"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"data-{tmp_path.name.replace('_', '-').lower()}"[:60]
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    root = tmp_path / "project"
    root.mkdir()
    (root / "charkha.toml").write_text(
        f'[data]\nremote = "s3://{bucket}/dvc"\nendpoint_url = "{endpoint}"\n'
    )
    (root / ".gitignore").write_text(".charkha/\n")
    monkeypatch.chdir(root)
    subprocess.run(["git", "init", "--quiet"], check=True)
    return open_project(root)


def wipe():
    subprocess.run(
        ["rm", "-rf", ".dvc/cache", ".charkha", "data/houses.csv", "data/texts"], check=True
    )


def test_what_was_pushed_to_s3_comes_back_byte_for_byte(project, tmp_path):
    (tmp_path / "houses.csv").write_text(TABLE)
    (tmp_path / "texts" / "inner").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "texts" / "inner" / "b.txt").write_text("b")
    assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
    assert main(["data", "add", str(tmp_path / "texts")]) == DONE
    before = dataset("houses").fingerprint({})
    assert main(["data", "push"]) == DONE
    wipe()
    assert dataset("houses").fingerprint({}) == before
    assert main(["data", "pull"]) == DONE
    assert Path("data/houses.csv").read_text() == TABLE
    assert Path("data/texts/inner/b.txt").read_text() == "b"
    assert dataset("houses").fingerprint({}) == before


def test_dvc_itself_pulls_what_charkha_pushed(project, tmp_path):
    (tmp_path / "houses.csv").write_text(TABLE)
    assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
    assert main(["data", "push"]) == DONE
    wipe()
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet"], check=True)
    assert Path("data/houses.csv").read_text() == TABLE


def test_charkha_pulls_what_dvc_itself_pushed(project, tmp_path):
    (tmp_path / "houses.csv").write_text(TABLE)
    assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
    subprocess.run([sys.executable, "-m", "dvc", "push", "--quiet"], check=True)
    wipe()
    assert main(["data", "pull", "houses"]) == DONE
    assert Path("data/houses.csv").read_text() == TABLE


def test_an_earlier_version_comes_back_from_s3(project, tmp_path):
    for content, subject in (("a\n1\n", "first"), ("a\n2\n", "second")):
        (tmp_path / "houses.csv").write_text(content)
        assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
        assert main(["data", "push"]) == DONE
        subprocess.run(["git", "add", "--all"], check=True)
        subprocess.run(["git", "commit", "-qm", subject], check=True)
    wipe()
    assert main(["data", "restore", "houses@HEAD~1"]) == DONE
    assert Path("data/houses.csv").read_text() == "a\n1\n"


def test_data_is_added_from_s3(project, endpoint):
    bucket = project.data.remote.split("/")[2]
    client = boto3.client("s3", endpoint_url=endpoint)
    client.put_object(Bucket=bucket, Key="raw/houses.csv", Body=TABLE.encode())
    assert main(["data", "add", f"s3://{bucket}/raw/houses.csv"]) == DONE
    assert Path("data/houses.csv").read_text() == TABLE
    assert f"source: s3://{bucket}/raw/houses.csv" in Path("data/houses.csv.dvc").read_text()


def test_a_damaged_object_in_s3_is_not_taken_for_the_data(project, tmp_path, endpoint, capsys):
    (tmp_path / "houses.csv").write_text(TABLE)
    assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
    assert main(["data", "push"]) == DONE
    bucket = project.data.remote.split("/")[2]
    client = boto3.client("s3", endpoint_url=endpoint)
    (stored,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    client.put_object(Bucket=bucket, Key=stored["Key"], Body=b"other bytes")
    wipe()
    capsys.readouterr()
    assert main(["data", "pull"]) == THEY
    assert "other bytes" in capsys.readouterr().err
    assert not Path("data/houses.csv").exists()


def test_a_wrong_key_is_refused_by_name(project, tmp_path, endpoint, monkeypatch, capsys):
    (tmp_path / "houses.csv").write_text(TABLE)
    assert main(["data", "add", str(tmp_path / "houses.csv")]) == DONE
    assert _check_credentials(endpoint, after=0)
    try:
        code = main(["data", "push"])
    finally:
        _check_credentials(endpoint, after=1_000_000)
    said = capsys.readouterr().err
    assert code == THEY, said
    assert project.data.remote in said
    assert "AWS_ACCESS_KEY_ID" in said


def _check_credentials(endpoint, *, after):
    """Have moto check who asks, after so many requests."""
    request = Request(  # noqa: S310
        f"{endpoint}/moto-api/reset-auth",
        data=str(after).encode(),
        headers={"Content-Type": "text/plain"},
    )
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())["status"] == "ok"
