"""Schedules as cron writes them, in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from charkha.errors import ProjectError


def last_due(cron: str, now: float) -> float:
    """Return the last moment at or before `now` that a schedule names, in unix seconds.

    Raises:
        ProjectError: it is no schedule.
    """
    try:
        # it never yields the moment that it starts from, and this whole second counts
        after = datetime.fromtimestamp(math.floor(now) + 1, UTC)
        moments = CronSim(cron, after, reverse=True)
        return next(moments).timestamp()
    except (CronSimError, StopIteration) as e:
        said = str(e) or "it is never due"
        raise ProjectError(
            f"{cron!r} is no schedule: {said}",
            where="charkha.toml, [[trigger]]",
            fix='cron = "0 3 * * 1", or see crontab(5)',
        ) from e
