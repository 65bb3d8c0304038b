import sys
from pathlib import Path

import pytest

from charkha.pipeline import loaded
from charkha.pipeline.hooks import Hook
from charkha.pipeline.run import run as engine_run
from charkha.pipeline.steps import functions
from charkha.project import open_project


class Workshop:
    """A project in a folder, run in this process as if each run were a new one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("charkha.toml", '[project]\nname = "workshop"\n')

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def run(self, **options):
        """Run; `n=3` is a parameter, `workers=2` an option."""
        known = {k: options.pop(k) for k in ("workers", "listeners", "contexts") if k in options}
        try:
            return engine_run(project=open_project(self.root), params=options, **known)
        finally:
            self.forget()

    def forget(self) -> None:
        """Unload the project's modules."""
        root = str(self.root)
        gone = [n for n, m in list(sys.modules.items()) if _place(m).startswith(root)]
        for name in gone:
            del sys.modules[name]
        for reference in [r for r in functions if r.partition(":")[0] in gone]:
            del functions[reference]
        for file in [f for f in loaded._loaded if f.startswith(root)]:
            del loaded._loaded[file]
        Hook.at_import._read.clear()
        Hook.late._read.clear()
        sys.path[:] = [p for p in sys.path if not p.startswith(root)]
        sys.path_importer_cache.clear()

    def ran(self, **options) -> list[str]:
        """Run, and return the names of the steps that were not reused."""
        return [s.name for s in self.run(**options).steps.values() if s.how != "reused"]


def _place(module) -> str:
    """Return the file of a module, the folder of a namespace package."""
    return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second keeps its mtime
    monkeypatch.delitem(sys.modules, "pipeline", raising=False)  # of another test's project
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path.resolve())
    yield made
    made.forget()
