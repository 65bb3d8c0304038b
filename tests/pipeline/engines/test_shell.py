"""The contract of engines, on one that needs nothing but a shell."""

import os
import subprocess
from pathlib import Path

import pytest

from charkha.pipeline.engines.contract import EngineContract, planned
from charkha.pipeline.engines.port import open_engine

GOLDEN = Path(__file__).parent / "golden" / "shell" / "parity.sh"


class TestShell(EngineContract):
    name = "shell"

    @pytest.fixture
    def tables(self, tables):
        return tables

    def test_the_compiled_text_is_the_golden_one_and_the_shell_reads_it(self, project):
        """Renew it with CHARKHA_RENEW_GOLDEN=1."""
        (text,) = open_engine(project, "shell").compile(planned(project)).values()
        if os.environ.get("CHARKHA_RENEW_GOLDEN"):
            GOLDEN.write_text(text)
        assert text == GOLDEN.read_text()
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
