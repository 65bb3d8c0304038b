"""A registry that is made once, and a world for each test."""

from __future__ import annotations

import shutil
import warnings

import pytest

from .world import World, make_registry


@pytest.fixture(scope="session")
def made(tmp_path_factory, with_tables):
    """Return a project's folder with its registry."""
    root = tmp_path_factory.mktemp("loop") / "made"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own affairs
        make_registry(root, with_tables)
    return root


@pytest.fixture
def world(made, tmp_path):
    """Return `world(…)`: a service whose loop has not looked yet."""
    worlds = []

    def world(**how):
        root = tmp_path / str(len(worlds))
        shutil.copytree(made, root)
        worlds.append(World(root, **how))
        return worlds[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own affairs
        yield world
        for each in worlds:
            each.close()
