"""The contract of engines, on one that needs nothing but a shell."""

import pytest

from charkha.pipeline.engines.contract import EngineContract


class TestShell(EngineContract):
    name = "shell"

    @pytest.fixture
    def tables(self, tables):
        return tables
