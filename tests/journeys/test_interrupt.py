"""Ctrl-C: the run says so, keeps what is done, and the next one goes on from there."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHARKHA = Path(sys.executable).with_name("charkha")
PIPELINE = """
import time
from charkha import step, pipeline

@step
def quick() -> int:
    return 1

@step
def slow(n: int) -> int:
    print("now", flush=True)
    time.sleep(60)
    return n

@pipeline
def main():
    slow(quick())
"""


def ctrl_c_counts():
    """Undo what a test run in the background inherits: there a shell has Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_the_run_and_keeps_what_is_done(tmp_path, workers):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "interrupted"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    running = subprocess.Popen(
        [CHARKHA, "run", "--workers", workers, "--no-wait"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=ctrl_c_counts,
    )
    said = ""
    while "now" not in said:
        said += running.stdout.readline()
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)
    assert running.returncode == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    (run,) = json.loads(
        subprocess.run([CHARKHA, "runs", "--json"], cwd=tmp_path, capture_output=True).stdout
    )
    assert run["status"] == "interrupted"
    assert [step["how"] for step in run["steps"]] == ["ran", "interrupted"]
