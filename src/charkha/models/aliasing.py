"""Who is champion, challenger and previous: pure rules over a model's versions.

Every plan can be carried out again after it was cut off at any move, and then ends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from charkha.errors import Refused
from charkha.models.champion import JUDGED_AGAINST, NONE
from charkha.models.registries.port import ModelVersion
from charkha.models.registry import CHALLENGER, CHAMPION, PREVIOUS

GATE = "charkha.gate"  # a version's tag: "passed" | "refused"
JUDGED_IN = "charkha.judged_in"  # the run of its latest verdict; run ids sort by time


class Move(NamedTuple):
    """Point `alias` at `version`, or at nothing."""

    alias: str
    version: int | None


class Plan(NamedTuple):
    """Moves in the order in which they are safe, and the reason."""

    moves: tuple[Move, ...]
    because: str


def on_registration(versions: Iterable[ModelVersion], version: ModelVersion) -> Plan:
    """Give a version that was judged in a run the alias that its tags entitle it to.

    The first that passes becomes champion. A later one becomes challenger, if its verdict was
    reached against the champion of this moment and no later run has named another challenger.
    """
    now = _holders(versions)
    champion, challenger = now.get(CHAMPION), now.get(CHALLENGER)
    if champion == version:
        return Plan((), f"{version} is the champion already")
    if version.tags.get(GATE) != "passed":
        dethroned = (Move(CHALLENGER, None),) if challenger == version else ()
        return Plan(dethroned, f"the gate refused {version}")
    if champion is None:
        return Plan((Move(CHAMPION, version.version),), f"{version} is the first that passed")
    if version.tags.get(JUDGED_AGAINST, NONE) != f"champion:{champion.package or 'none'}":
        return Plan(
            (), f"{version} was judged before {champion} became champion: run again to compare them"
        )
    if challenger == version:
        return Plan((), f"{version} is the challenger already")
    if challenger and challenger.tags.get(JUDGED_IN, "") > version.tags.get(JUDGED_IN, ""):
        return Plan((), f"a later run named {challenger} challenger")
    return Plan((Move(CHALLENGER, version.version),), f"{version} passed against {champion}")


def on_promotion(
    versions: Iterable[ModelVersion], version: ModelVersion, *, force: bool = False
) -> Plan:
    """Make `version` champion and the champion `previous`.

    Raises:
        Refused: the version's gate refused it, and nobody insists.
    """
    now = _holders(versions)
    champion = now.get(CHAMPION)
    if version.tags.get(GATE) == "refused" and not force and champion != version:
        why = version.tags.get("charkha.because", "")
        raise Refused(
            f"the gate refused {version}" + (f": {why}" if why else ""),
            fix=f'charkha models promote {version} --force --because "…", if you know better',
        )
    moves = []
    if champion is not None and champion != version:
        moves.append(Move(PREVIOUS, champion.version))
    if champion != version:
        moves.append(Move(CHAMPION, version.version))
    if now.get(CHALLENGER) == version:
        moves.append(Move(CHALLENGER, None))
    if champion is None or champion == version:
        return Plan(tuple(moves), f"{version} is the champion")
    return Plan(tuple(moves), f"{version} takes over from {champion}")


def on_rollback(name: str, versions: Sequence[ModelVersion], *, to: int | None = None) -> Plan:
    """Make `previous` champion again; nothing is `previous` afterwards, so twice is once.

    Args:
        name: of the model.
        versions: of the model.
        to: the version that it is about; where that is champion and not `previous`, all is done.

    Raises:
        Refused: there is nothing to go back to.
    """
    now = _holders(versions)
    champion, previous = now.get(CHAMPION), now.get(PREVIOUS)
    if champion is not None and champion.version == to and champion != previous:
        return Plan((), f"{champion} is champion again")
    if previous is None:
        raise Refused(
            f"{name} has no previous version to go back to",
            fix=f"charkha models promote {name}@VERSION; charkha models list {name} shows them",
        )
    moves = [Move(CHAMPION, previous.version)] if champion != previous else []
    because = f"{previous} is champion again, instead of {champion}"
    return Plan((*moves, Move(PREVIOUS, None)), because)


def _holders(versions: Iterable[ModelVersion]) -> dict[str, ModelVersion]:
    return {alias: version for version in versions for alias in version.aliases}
