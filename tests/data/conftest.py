"""What this folder's tests stand on: a project in git, and a web server."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from charkha.project import open_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in a fresh git repository, at `tmp_path/project`; DVC keeps to `tmp_path`, too."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc-site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    monkeypatch.delenv("CHARKHA_ENV", raising=False)
    root = tmp_path / "project"
    root.mkdir()
    (root / "charkha.toml").write_text('[project]\nname = "houses"\n')
    (root / ".gitignore").write_text(".charkha/\n")
    monkeypatch.chdir(root)
    subprocess.run(["git", "init", "--quiet"], check=True)
    return open_project(root)


@pytest.fixture
def commit(project):
    """Commit everything in the project, as `commit("why")`."""

    def commit(subject):
        subprocess.run(["git", "-C", project.root, "add", "--all"], check=True)
        subprocess.run(["git", "-C", project.root, "commit", "-qm", subject], check=True)

    return commit


@pytest.fixture
def dvc(project):
    """Run the real `dvc` command in the project, as `dvc("pull")`; return what it printed."""

    def dvc(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=project.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return dvc


@pytest.fixture
def web(tmp_path):
    """A web server on loopback; `web.answers[path] = (status, headers, body)`, `web.requests`."""
    with Web() as web:
        yield web


class Web:
    """What it was asked, and what it answers; everything else is 404."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.requests.append((self.path, dict(self.headers)))
                status, headers, body = web.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
