"""Every command that README and docs show, typed as it stands there, page by page."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import TURNS

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "```console" in page.read_text()
]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
FIRST = re.compile(r"^<!-- first: (.*) -->$", re.MULTILINE)  # what a page takes for granted
# Each job has a process group of its own (set -m), and a server's own children are in it.
END_OF_JOBS = "trap 'for job in $(jobs -p); do kill -- -$job 2>/dev/null; done' EXIT"
# What most pages take for granted: projects that are made once, and copied for each of them.
BEGINNING = ["charkha init houses", "cd houses", *(shlex.join(["charkha", *t]) for t in TURNS)]
SHOWN_IN_SH = {"make", "pip"}  # run by .ci/run, which could do nothing else without them


def commands_of(text):
    """Return the lines behind a `$ `, with those that a backslash continues; output is left out."""
    found = list(FIRST.findall(text))
    for block in BLOCK.findall(text):
        found += re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
    return found


def typed(commands, folder):
    """Type commands into a shell of their own; what is left running is ended."""
    script = "\n".join(["set -em", END_OF_JOBS, "set -v", *commands])
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("CHARKHA_", "GIT_", "MLFLOW_"))
    }
    said = folder / "said.txt"  # a pipe would stay open for as long as a server in the background
    with said.open("w") as output:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env={
                **clean,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes with an MLflow each
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    assert done.returncode == 0, said.read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_the_page_works(page, tmp_path, turned):
    text = (ROOT / page).read_text()
    commands = commands_of(text)
    assert commands
    if "curl" in "".join(commands) and shutil.which("curl") is None:
        pytest.skip("the page types curl, which is not installed here")
    known = next(n for n in (4, 3, 2, 0) if FIRST.findall(text)[:n] == BEGINNING[:n])
    if known:
        turned(known - 2, tmp_path)
        commands = ["cd houses", *commands[known:]]
    typed(commands, tmp_path)


def test_commands_stand_in_console_blocks_where_they_are_run():
    """Another block of shell would be shown without being tried."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", page.read_text(), re.S | re.M):
            used = {line.split()[0] for line in block.splitlines() if line.strip()}
            assert used <= SHOWN_IN_SH, f"{page.name}: {used - SHOWN_IN_SH}"


def test_links_between_pages_lead_somewhere():
    pages = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
