import json
import signal
import socket
import subprocess
import sys
import warnings

import httpx
import pytest

from charkha.cli.main import main
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import default_project

FORBIDDEN = ("mlflow", "dvc", "pandas", "sklearn", "skops", "pyarrow", "sqlalchemy", "matplotlib")


@pytest.fixture(scope="module")
def root(tmp_path_factory, package, with_tables):
    """A project in whose registry `prices` has one version, its champion."""
    root = tmp_path_factory.mktemp("served")
    (root / "charkha.toml").write_text('[project]\nname = "prices"\n')
    project = with_tables(default_project(root))
    digest = open_artifacts(project).save(Dir(package("prices"))).digest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own affairs
        client = MlflowRegistry(project.tracking.uri)._client
        client.create_registered_model("prices")
        client.create_model_version("prices", "file:///x", tags={"charkha.package": digest})
        client.create_model_version("prices", "file:///x")
        client.set_registered_model_alias("prices", "champion", "1")
    return root


def test_it_serves_without_the_libraries_of_training_and_stops_at_ctrl_c(root):
    code = (
        "import sys; from charkha.cli.main import main\n"
        "code = main(['serve', 'prices@champion', '--port', '0', '--json'])\n"
        f"print(sorted({FORBIDDEN!r} & sys.modules.keys()))\n"
        "sys.exit(code)"
    ).replace(repr(FORBIDDEN), repr(set(FORBIDDEN)))
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = json.loads(server.stdout.readline())
        assert (told["model"], told["variants"]) == ("prices", {"champion": 1})
        answer = httpx.post(f"{told['url']}/predict", json={"area": 3, "district": "North"})
        assert answer.json()["prediction"] == pytest.approx(16, abs=1e-3)
        assert httpx.get(f"{told['url']}/healthz").json()["variants"] == {"champion": 1}
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    finally:
        server.kill()
        server.communicate()
    assert (out.strip(), server.returncode) == ("[]", 0), err
    assert "Traceback" not in err


def said(capsys, root, monkeypatch, *arguments):
    monkeypatch.chdir(root)
    assert main(["serve", *arguments]) == 1
    return capsys.readouterr().err


def test_a_port_that_is_taken_is_named_with_the_way_out(capsys, root, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        err = said(capsys, root, monkeypatch, "prices", "--port", str(port))
    assert f"port {port} of 127.0.0.1 is taken" in err
    assert f"--port {port + 1}" in err


def test_an_address_of_another_machine_is_refused(capsys, root, monkeypatch):
    err = said(capsys, root, monkeypatch, "prices", "--host", "192.0.2.1", "--port", "0")
    assert "what listens on 192.0.2.1 requires API keys" in err
    assert "charkha keys add NAME" in err
    assert main(["keys", "add", "somebody"]) == 0
    err = said(capsys, root, monkeypatch, "prices", "--host", "192.0.2.1", "--port", "0")
    assert "192.0.2.1 is no address of this machine" in err


@pytest.mark.parametrize("port", ["80000", "-1", "http"])
def test_a_port_that_is_none_is_a_usage_error(port, capsys, root, monkeypatch):
    monkeypatch.chdir(root)
    assert main(["serve", "prices", "--port", port]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_version_without_a_package_is_refused_with_the_reason(capsys, root, monkeypatch):
    err = said(capsys, root, monkeypatch, "prices@2", "--port", "0")
    assert "registered without Charkha" in err


def test_a_model_that_is_not_there_is_told_with_the_nearest(capsys, root, monkeypatch):
    assert "did you mean 'prices'?" in said(capsys, root, monkeypatch, "price")
