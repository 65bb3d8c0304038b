"""Each peer's own virtual environment, made by uv with pinned versions: NAME.txt beside this."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HOME = Path(sys.executable).parent.parent / "peers"
LOCKS = {file.stem: file for file in sorted(Path(__file__).parent.glob("*.txt"))}
DRIFT = ("evidently", "nannyml")  # those of drift.py; the others are those of serving.py
_OURS = ("scikit-learn", "numpy", "scipy", "joblib", "pandas")  # they read the model that we wrote
_WITH_MODEL = ("bentoml", "litserve", "mlserver")


def install(names: list[str]) -> None:
    """Make the environments of these peers, or bring them to the pinned versions.

    Raises:
        SystemExit: uv is not there, or could not install.
    """
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not installed: pip install uv")
    for name in names:
        folder = HOME / name
        print(f"{name}: {LOCKS[name].name} into {folder}", flush=True)
        made = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)]
        filled = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
        ours = [f"{n}=={version(n)}" for n in _OURS] if name in _WITH_MODEL else []
        for command in (made, [*filled, "--requirements", str(LOCKS[name]), *ours]):
            if subprocess.run(command).returncode:
                raise SystemExit(f"{name} could not be installed")


def program(peer: str, name: str) -> str | None:
    """Return the path of a peer's program; none where it is not installed."""
    file = HOME / peer / "bin" / name
    return str(file) if file.exists() else None
