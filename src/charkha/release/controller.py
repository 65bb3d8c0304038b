"""The controller of a release: observe, decide, record, act; killed at any line, it goes on.

What was decided is recorded before it is carried out, under the revision that was read, so that of two
controllers only one decides. Acting is bringing the platform to what the record says: it is done again until
nothing is left to do, and doing it twice changes nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from charkha.errors import Refused, Unavailable
from charkha.ledger import Decision, Ledger
from charkha.release import plan as plans
from charkha.release.collecting import collect, make_scales
from charkha.release.evidence import Evidence
from charkha.release.judge import judge
from charkha.release.kept import Release
from charkha.release.routing import Act, Add, Drop, Shares, next_act, waits_for_home
from charkha.states import States

if TYPE_CHECKING:
    import pyarrow as pa

    from charkha.release.platforms.port import Platform

KIND = "release"  # of states and of decisions
# Whoever takes over from a killed one waits so long. An act may take longer: the other controller
# then does the same, as both go by what is recorded.
LEASE_S = 20.0
Did = Literal["nothing", "busy", "waiting", "looked", "moved", "acted", "ended"]


class Aliases(Protocol):
    """The registry's word for who is champion."""

    def champion(self) -> int | None:
        """Return the version that is champion now."""
        ...

    def promote(self, version: int, because: str) -> None:
        """Make a version champion; twice is once."""
        ...

    def roll_back(self, version: int, because: str) -> None:
        """Make the champion before, which is `version`, champion again; twice is once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a controller observes and acts on."""

    platform: Platform
    aliases: Aliases
    records: Callable[[float], pa.Table]  # since unix seconds, shadows too
    states: States
    ledger: Ledger
    clock: Callable[[], float] = time.time


class Controller:
    """Carries out the release of one model. Call `tick` until it says `ended`.

    Args:
        model: its name.
        around: what it observes and acts on.
        who: is told in the ledger.
    """

    def __init__(self, model: str, around: Surroundings, *, who: str) -> None:
        self._model, self._around, self._who = model, around, who
        self._owner = uuid.uuid4().hex
        self._lease = f"release/{model}"

    def tick(self) -> Did:
        """Do the next thing, whatever it is; `busy` where another controller has the lease.

        Raises:
            Unavailable: a platform, the registry, the records or the ledger does not answer; what is
                recorded and who answers stay as they are.
        """
        around = self._around
        now = around.clock()
        if not around.states.take(self._lease, self._owner, now=now, for_s=LEASE_S):
            return "busy"
        found = around.states.read(KIND, self._model)
        if found is None:
            return "nothing"
        release = Release.from_json(found.value)
        self._tell(release)  # again, if it was cut off after the last decision
        if release.ended_at is not None:
            return "ended"
        arms = around.platform.holds()
        act = next_act(release, arms)
        if act is not None:
            return self._do(release, act, found.revision)
        moved = self._move_alias(release, found.revision)
        if moved is not None:
            return moved
        if release.decided:
            if waits_for_home(release, arms, around.aliases.champion()):
                return "waiting"
            return self._end(release, found.revision)
        return self._look(release, found.revision)

    def close(self) -> None:
        """Give the lease back; where the ledger does not answer it runs out by itself."""
        with suppress(Unavailable):
            self._around.states.give_back(self._lease, self._owner)

    def _may_act(self, revision: int) -> bool:
        """Whether what was read still holds: to observe may have taken longer than the lease."""
        states, now = self._around.states, self._around.clock()
        if not states.take(self._lease, self._owner, now=now, for_s=LEASE_S):
            return False
        found = states.read(KIND, self._model)
        return found is not None and found.revision == revision

    def _do(self, release: Release, act: Act, revision: int) -> Did:
        platform = self._around.platform
        if not self._may_act(revision):
            return "busy"
        try:
            match act:
                case Add(name, version, shadow):
                    platform.add(name, version, shadow=shadow)
                case Shares(shares):
                    platform.set_shares(dict(shares))
                case Drop(name):
                    platform.drop(name)
        except Refused as e:
            if not self._may_act(revision):  # somebody else has decided meanwhile
                return "busy"
            if release.decided or not isinstance(act, Add):
                raise
            state = plans.abort(release.state, f"it cannot be served: {e}")
            return self._decide(release, replace(state, phase="rolled back"), revision)
        return "acted"

    def _move_alias(self, release: Release, revision: int) -> Did | None:
        """Have the registry say what the traffic does; None where nothing is to be moved."""
        aliases, phase = self._around.aliases, release.state.phase
        champion = aliases.champion()
        on = phase in ("watching", "promoted") and champion == release.baseline
        back = phase in ("rolled back", "aborted") and champion == release.candidate
        if not on and not back:
            return None
        if not self._may_act(revision):
            return "busy"
        because = f"release {release.id}: {release.state.because}"
        if on:
            aliases.promote(release.candidate, because)
        else:
            aliases.roll_back(release.baseline, because)
        return "acted"

    def _tell_move(self, release: Release) -> None:
        """Move the alias again, for who was killed between registry and ledger has told of nothing."""
        aliases, watched = self._around.aliases, release.state.stage == len(release.plan.stages)
        because = f"release {release.id}: {release.state.because}"
        if not watched:
            return
        champion = aliases.champion()
        if release.state.phase in ("watching", "promoted"):
            if champion == release.candidate:  # and nobody has chosen another one meanwhile
                aliases.promote(release.candidate, because)
        elif champion == release.baseline:
            aliases.roll_back(release.baseline, because)

    def _end(self, release: Release, revision: int) -> Did:
        self._tell_move(release)
        ended = replace(release, ended_at=self._around.clock())
        return "ended" if self._keep(ended, revision) else "busy"

    def _look(self, release: Release, revision: int) -> Did:
        """Judge what was seen until now, and go where the plan says."""
        around = self._around
        now, failures = around.clock(), around.platform.failures()
        if release.span is None:
            self._tell_move(release)
            paired = plans.traffic(release.plan, release.state).shadow is not None
            opened = replace(release, failures=dict(failures)).opened(paired=paired, now=now)
            return "looked" if self._keep(opened, revision) else "busy"
        release = replace(release.counted(failures), looked_at=now)
        table = around.records(release.spans[0].since)
        versions = (release.baseline, release.candidate)
        scales = make_scales(table, versions, loss=release.loss, known=release.scales)
        release = replace(release, scales=scales)
        evidence = with_errors(
            collect(table, release.spans, versions, loss=release.loss, scales=scales), release
        )
        verdict = judge(evidence, release.rules, release.state.stage)
        release = replace(release, verdict=verdict.as_json())
        state = plans.next_state(release.plan, release.state, verdict)
        if state != release.state:
            return self._decide(release, state, revision)
        return "looked" if self._keep(release, revision) else "busy"

    def _decide(self, release: Release, state: plans.State, revision: int) -> Did:
        moved = release.moved(state, self._around.clock(), self._who)
        if not self._keep(moved, revision):
            return "busy"
        self._tell(moved)
        return "moved"

    def _keep(self, release: Release, revision: int) -> bool:
        return self._around.states.write(KIND, self._model, release.as_json(), after=revision)

    def _tell(self, release: Release) -> None:
        """Keep the last decision in the ledger; the same one again changes nothing there."""
        self._around.ledger.record(decision(release))


def decision(release: Release) -> Decision:
    """Return what the ledger says of the state of a release: the same, whoever asks."""
    state = release.state
    numbers: dict[str, object] = {
        "release": release.id,
        "turn": release.turn,
        "phase": state.phase,
        "stage": state.stage,
        "from": release.baseline,
        "to": release.candidate,
        "strategy": release.plan.strategy,
        "home": release.home,
        "traffic": asdict(plans.traffic(release.plan, state)),  # who answers once it is carried out
        "findings": (release.verdict or {}).get("findings", []),
    }
    at = release.began_at if release.decided_at is None else release.decided_at
    return Decision(
        at=at,
        kind=KIND,
        subject=release.subject,
        because=state.because,
        numbers=numbers,
        who=release.by,
    )


def with_errors(evidence: Evidence, release: Release) -> Evidence:
    """Return evidence with the requests that failed, which are in no record."""
    windows = []
    for window in evidence.windows:
        base, cand = release.errors.get(window.stage, (0, 0))
        arms = {
            name: replace(arm, errors=count, requests=arm.requests + count)
            for name, arm, count in (
                ("baseline", window.baseline, base),
                ("candidate", window.candidate, cand),
            )
        }
        windows.append(replace(window, **arms))  # type: ignore[arg-type]  # the names of its arms
    return replace(evidence, windows=tuple(windows))


def command(
    around: Surroundings, model: str, change: Callable[[Release], plans.State], *, who: str
) -> Release | None:
    """Bring a release into the state that a person asks for; None where there is no release.

    Raises:
        UserError: `change` does.
    """
    while (found := around.states.read(KIND, model)) is not None:
        release = Release.from_json(found.value)
        moved = release.moved(change(release), around.clock(), who)
        around.ledger.record(decision(release))  # in case that a controller was cut off before it
        if around.states.write(KIND, model, moved.as_json(), after=found.revision):
            around.ledger.record(decision(moved))
            return moved
    return None
