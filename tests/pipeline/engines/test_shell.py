"""The contract of engines, on one that needs nothing but a shell."""

from charkha.pipeline.engines.contract import EngineContract


class TestShell(EngineContract):
    name = "shell"
