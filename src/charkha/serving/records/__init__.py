"""What a server remembers of its predictions, and what turned out to be true: all that it opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charkha.serving.records.feedback import FeedbackLog
from charkha.serving.records.places import Address
from charkha.serving.records.recorder import Recorder
from charkha.serving.records.sealer import Sealer

if TYPE_CHECKING:
    from charkha.project import Project

_MB = 1_000_000


def open_recorder(project: Project) -> Recorder | None:
    """Return what keeps the predictions of this process; None where `[records]` turns it off."""
    settings = project.records
    if not settings.enabled:
        return None
    return Recorder(
        open_folder(project),
        durability=settings.durability,
        sample=settings.sample,
        redact=settings.redact,
        on_full=settings.on_full,
        segment_bytes=settings.segment_mb * _MB,
        segment_s=settings.segment_s,
    )


def open_feedback(project: Project) -> FeedbackLog:
    """Return what keeps the feedback that comes to this process."""
    settings = project.records
    return FeedbackLog(
        open_folder(project),
        durability=settings.durability,
        segment_bytes=settings.segment_mb * _MB,
        segment_s=settings.segment_s,
    )


def open_sealer(project: Project) -> Sealer:
    """Return what has closed logs sealed."""
    return Sealer(open_folder(project), address_of(project))


def open_folder(project: Project) -> Path:
    """Return where the logs lie that are not sealed: always on this machine."""
    return project.state / "records-open"


def address_of(project: Project) -> Address:
    """Return where sealed records go."""
    settings = project.records
    return Address(
        url=settings.url,
        endpoint_url=settings.endpoint_url,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
    )
