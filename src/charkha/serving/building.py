"""All of an endpoint put together, for one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.serving.app import Endpoint
from charkha.serving.fastapi import make_admin
from charkha.serving.loading import load_model

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project


def build(project: Project, version: ModelVersion) -> Endpoint:
    """Return the ASGI application that serves `version`.

    Raises:
        CharkhaError: as `charkha.serving.loading.load_model`.
    """
    model = load_model(project, version)
    return Endpoint(model, make_admin(model))
