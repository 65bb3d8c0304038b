"""Rules and dashboards as texts that say which command wrote them, with a stamp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from charkha.monitoring.rendering.yaml import to_yaml
from charkha.stamps import stamped


def as_yaml(data: Mapping[str, Any], command: str) -> str:
    """Return the text of a YAML file; `command` is what writes it."""
    head = (
        f"# Written by `{command}`, which leaves it alone once somebody has changed it. sha256:\n"
    )
    return stamped(head + to_yaml(data))


def as_json(data: Mapping[str, Any], command: str) -> str:
    """Return the text of a JSON file, in which the digest is a key of its own."""
    head = {"charkha": f"Written by `{command}`. sha256:"}
    return stamped(json.dumps({**head, **data}, indent=2, ensure_ascii=False) + "\n")
