"""What has to be installed where a plan's steps run: Charkha, its extras, and what they import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import charkha
from charkha.pipeline.code import closure
from charkha.pipeline.distributions import extras
from charkha.pipeline.modules import OURS, Sources
from charkha.pipeline.perform import find_function

if TYPE_CHECKING:
    from charkha.pipeline.plans import Plan
    from charkha.project import Project


def requirements(plan: Plan, project: Project) -> list[str]:
    """Return lines as pip reads them, each an exact version: the one that is installed here.

    What those distributions need in turn is left to the installer.
    """
    chosen = needed_extras(project)
    names = {name for extra in chosen for name in extras().get(extra, ())}
    names |= _distributions_of(imported(plan, project.root))
    pinned = {name.lower(): f"{name}=={v}" for name in names if (v := _version(name))}
    pinned.pop(OURS, None)
    ours = f"{OURS}[{','.join(chosen)}]=={charkha.__version__}"
    return [ours, *(pinned[name] for name in sorted(pinned))]


def needed_extras(project: Project) -> tuple[str, ...]:
    """Return the extras of Charkha's that a task of this project needs."""
    places = (
        project.blobs.url,
        project.data.remote,
        project.records.url,
        project.tracking.artifacts,
    )
    databases = (project.tracking.uri, project.ledger.url)
    chosen = ["local"]
    if any(place.startswith("s3://") for place in places):
        chosen.append("s3")
    # A reference may stand for one, and what it stands for is not known here.
    if any(url.startswith(("postgresql", "env:", "file:")) for url in databases):
        chosen.append("postgresql")
    return tuple(chosen)


def imported(plan: Plan, root: Path) -> set[str]:
    """Return the top-level names of what the files of a plan's steps import from elsewhere."""
    sources = Sources(str(root))
    found: set[str] = set()
    files: set[str] = set()
    for function in {node.function for node in plan.graph.nodes.values()}:
        reached = closure(find_function(function), sources)
        found |= reached.packages
        files |= reached.files
    for file in files:
        found |= set(_imports(ast.parse(Path(root, file).read_bytes())))
    return {
        name
        for name in found
        if name not in sys.stdlib_module_names
        and not (root / name).is_dir()
        and not (root / f"{name}.py").exists()
    }


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _distributions_of(packages: set[str]) -> set[str]:
    known = metadata.packages_distributions()
    return {name for package in packages for name in known.get(package, ())}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # an extra of another platform
        return None
