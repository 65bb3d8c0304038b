"""What a step's result depends on, as named parts; the key over them; and which part changed.

A key alone can only say that something differs. The parts are kept with each entry, so a miss is
explained by laying the parts of the last time beside those of now.
"""

from __future__ import annotations

import json
from hashlib import sha256

Parts = dict[str, dict[str, str]]  # group -> name -> digest or short value
Reason = dict[str, object]  # {"kind", "name", "was", "now", "text"}

_FORMAT = "1"  # of the parts; another one makes every entry a miss

_WORDS = {  # group -> how one of its parts is called
    "code": "",  # the name says "function helpers.scale" itself
    "parameters": "parameter ",
    "inputs": "input ",
    "sources": "",
    "environment": "environment variable ",
    "distributions": "installed version of ",
    "python": "Python ",
    "outputs": "names of the outputs",
}


def key_of(parts: Parts) -> str:
    """Return the key (64 hex characters) of a step with these parts."""
    text = json.dumps([_FORMAT, parts], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def changes(was: Parts, now: Parts) -> list[Reason]:
    """Return one reason for each part that differs, in the order of the groups."""
    found: list[Reason] = []
    for group in _WORDS:
        before, after = was.get(group, {}), now.get(group, {})
        found += [
            _reason(group, name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
    return found


def observed_change(kind: str, name: str, was: object, now: object) -> Reason:
    """Return the reason for something that was seen while the step ran, and is otherwise now."""
    what = {"files": "file ", "folders": "list of files in ", "env": "environment variable "}
    word = what.get(kind, "module ")
    happened = "is gone" if now is None else "is there now" if was is None else "changed"
    return {"kind": kind, "name": name, "was": was, "now": now, "text": f"{word}{name} {happened}"}


def said(kind: str, text: str) -> Reason:
    """Return a reason that names no part."""
    return {"kind": kind, "name": "", "was": None, "now": None, "text": text}


FIRST = said("first", "it never ran before")
UNCACHED = said("uncached", "it is declared with cache=False")


def _reason(group: str, name: str, was: str | None, now: str | None) -> Reason:
    title = f"{_WORDS[group]}{name}".strip()
    if was is None or now is None:
        text = f"{title} is {'new' if was is None else 'no longer used'}"
    else:
        text = f"{title} changed{_from_to(group, was, now)}"
    return {"kind": group, "name": name, "was": was, "now": now, "text": text}


def _from_to(group: str, was: str, now: str) -> str:
    if was.startswith("=") and now.startswith("="):  # a constant that a person can read
        was, now = was[1:], now[1:]
    elif group not in ("parameters", "distributions", "python"):
        return ""
    return f": {was} → {now}" if len(was) + len(now) <= 80 else ""
