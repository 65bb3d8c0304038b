"""The GPUs of this machine, as `nvidia-smi -L` lists them."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress

from charkha.pipeline.devices import Card

_CARD = re.compile(r"GPU (\d+): (.+) \(UUID: (GPU-[^)]+)\)")
_PART = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")


def look(patience_s: float = 15.0) -> tuple[list[Card], str | None]:
    """Return the cards; where there is none, with the reason."""
    command = ["nvidia-smi", "-L"]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603  # PATH says which, as for every command of a user's
    except OSError as e:
        missing = isinstance(e, FileNotFoundError)
        return [], "there is no nvidia-smi" if missing else f"nvidia-smi does not start: {e}"
    try:
        said = process.communicate(timeout=patience_s)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return [], _given_up(process, patience_s)
    if process.returncode:
        last = said.strip().rpartition("\n")[2]
        return [], f"nvidia-smi ended with {process.returncode}{f': {last}' if last else ''}"
    cards = read(said)
    return cards, None if cards else "nvidia-smi lists none"


def read(said: str) -> list[Card]:
    """Return the cards of a listing, each with the MIG instances that stand below it."""
    cards: list[Card] = []
    for line in said.splitlines():
        if found := _CARD.match(line):
            cards.append(Card(index=int(found[1]), model=found[2], uuid=found[3]))
        elif cards and (found := _PART.match(line)):
            last = cards[-1]
            parts = (*last.parts, found[1])
            cards[-1] = Card(index=last.index, model=last.model, uuid=last.uuid, parts=parts)
    return cards


def _given_up(process: subprocess.Popen[bytes], patience_s: float) -> str:
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with suppress(subprocess.TimeoutExpired):  # a driver that hangs lets nobody be killed
        process.wait(1)
    return f"nvidia-smi did not answer in {patience_s:g} s"
