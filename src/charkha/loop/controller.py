"""The controller of the loop: observe, decide, record, act; killed at any line, it goes on.

What was decided is recorded before it is carried out, under the revision that was read, so that of
two loops only one decides; a lease keeps the second from trying. Training again with the same
parameters reuses every step, registering the same package finds its version, and a release that was
started is found by its candidate: so each act may be done twice.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from charkha.errors import CharkhaError, Refused, Unavailable, UserError
from charkha.loop.believing import KINDS, taken_back
from charkha.loop.material import parameters
from charkha.loop.triggers import Signal, decide, triggers_of
from charkha.loop.turns import KIND, TICK_S, Kept, Outcome, Turn, decision
from charkha.models import aliasing
from charkha.models.champion import JUDGED_AGAINST, NONE
from charkha.models.promotion import promote
from charkha.models.registry import find_version, list_versions
from charkha.monitoring.causes import of_loop
from charkha.release import controller as releases
from charkha.release.kept import Release
from charkha.release.plan import TERMINAL, abort, steps_of
from charkha.release.starting import champion_of, start
from charkha.states import States

if TYPE_CHECKING:
    from charkha.ledger import Ledger
    from charkha.loop.observing import Seen
    from charkha.loop.training import Trainer
    from charkha.models.registries.port import ModelVersion
    from charkha.monitoring.causes import Cause
    from charkha.project import Project
    from charkha.release.plan import State, Strategy

LEASE_S = 30.0
PATIENCE_S = 86_400.0  # with a run of which nothing is heard; then its turn has failed
Did = Literal["nothing", "busy", "waiting", "begun", "trained", "releasing", "ended"]


class Looks(Protocol):
    """Sees what a decision needs: `charkha.loop.observing.Observer`, or a test's."""

    def look(self, champion: ModelVersion, kept: Kept, now: float) -> Seen:
        """Look once at everything."""
        ...


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a loop observes and acts on."""

    observer: Looks
    trainer: Trainer
    release: Callable[[], AbstractContextManager[releases.Surroundings]]
    states: States
    ledger: Ledger
    alert: Callable[[Sequence[Cause], Sequence[str]], object]  # causes, keys of unknown ones
    clock: Callable[[], float] = time.time


class Loop:
    """The loop of one model. Call `tick` again and again.

    Args:
        project: whose settings are used.
        model: its name.
        around: what it observes and acts on.
        who: is told in the ledger.
    """

    def __init__(self, project: Project, model: str, around: Around, *, who: str) -> None:
        self._project, self._model, self._around, self._who = project, model, around, who
        self._owner = uuid.uuid4().hex
        self._lease = f"loop/{model}"
        self._strategy, self._steps = project.loop.strategy, steps_of(project.loop.steps)

    def tick(self) -> Did:
        """Do the next thing; `busy` where another loop has the lease, `waiting` where only time helps.

        Raises:
            Unavailable: the registry, the server, the records or the ledger does not answer; what is
                recorded stays, and the next tick tries again.
            UserError: the settings cannot be carried out.
        """
        around = self._around
        now = around.clock()
        if not around.states.take(self._lease, self._owner, now=now, for_s=LEASE_S):
            return "busy"
        with self._holding():
            found = around.states.read(KIND, self._model)
            kept = Kept(watching_since=now) if found is None else Kept.from_json(found.value)
            revision = 0 if found is None else found.revision
            turn = kept.turn
            if turn is not None:
                self._tell(turn)  # again, if it was cut off after the last decision
            if turn is None or turn.phase == "ended":
                return self._look(kept, revision, now)
            if turn.phase == "training":
                return self._train(kept, turn, revision)
            return self._release(kept, turn, revision)

    def abort(self, because: str, by: str) -> CharkhaError | None:
        """End the turn that goes on: no run of it is waited for, and its release gives the traffic back.

        First it is recorded, under the revision that was read: a loop that trains for it stops at
        its next look, and one that has started its release aborts that, as we do here.

        Returns:
            why what it began could not be ended; the turn itself has ended.

        Raises:
            UserError: no turn goes on.
        """
        while True:
            found = self._around.states.read(KIND, self._model)
            kept = None if found is None else Kept.from_json(found.value)
            if found is None or kept is None or kept.turn is None or kept.turn.phase == "ended":
                raise UserError(
                    f"no turn of {self._model} goes on", fix="charkha loop --status shows the last"
                )
            ended = kept.turn.ended(self._around.clock(), by, "aborted", because)
            if self._keep(kept.with_end(ended), ended, found.revision):
                break
        try:
            if kept.turn.phase == "training":
                self._around.trainer.stop(kept.turn.id)
            elif self._drop_release(ended):
                self._drive()
        except CharkhaError as e:
            return e
        return None

    def close(self) -> None:
        """Give the lease back."""
        self._around.states.give_back(self._lease, self._owner)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Renew the lease in the background, for training takes longer than it lasts."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_S / 3):
                now = self._around.clock()
                with suppress(CharkhaError):  # the next one may get through
                    self._around.states.take(self._lease, self._owner, now=now, for_s=LEASE_S)

        renewing = threading.Thread(target=renew, daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()

    def _look(self, kept: Kept, revision: int, now: float) -> Did:
        """Carry on a release that somebody started, else decide whether to begin a turn."""
        if self._is_open(self._kept_release()):
            if kept.turn is not None and kept.turn.outcome == "aborted":
                self._drop_release(kept.turn)  # it began at that moment
            return self._drive()
        champion = champion_of(self._project, self._model)
        if champion is None:
            return self._note(kept, revision, now, "there is no champion: charkha run")
        triggers = triggers_of(self._project.trigger)
        seen = self._around.observer.look(champion, kept, now)
        told = self._around.ledger.read(KIND, self._model)
        failed = of_loop(self._model, told, now)
        self._around.alert((*seen.causes, *failed.causes), (*seen.unknown, *failed.unknown))
        new = seen.labels - kept.labels
        choice = decide(seen.signals, triggers, kept.begun, now, new_labels=new)
        if not choice.retrain or choice.signal is None:
            return self._note(kept, revision, now, choice.because)
        after = now if kept.turn is None else kept.turn.decided_at + TICK_S
        turn = self._begun(choice.signal, choice.because, now, decided_at=max(now, after))
        moved = kept.with_turn(turn, data=seen.data, labels=seen.labels)
        return "begun" if self._keep(replace(moved, looked_at=now), turn, revision) else "busy"

    def _begun(self, signal: Signal, because: str, now: float, *, decided_at: float) -> Turn:
        return Turn(
            id=time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f"-{uuid.uuid4().hex[:4]}",
            trigger=signal.kind,
            because=because,
            began_at=now,
            params=parameters(self._project, self._model, signal, now),
            request=signal.request,
            decided_at=decided_at,
            by=self._who,
        )

    def _note(self, kept: Kept, revision: int, now: float, said: str) -> Did:
        """Remember why nothing is done, for who asks how the loop is."""
        noted = replace(kept, said=said, looked_at=now)
        self._around.states.write(KIND, self._model, noted.as_json(), after=revision)
        return "nothing"

    def _train(self, kept: Kept, turn: Turn, revision: int) -> Did:
        try:
            trained = self._around.trainer.train(
                turn.params, turn.id, lambda: bool(self._past(revision))
            )
            if trained.goes_on:
                self._hear(kept, kept.heard(), revision)
                return "waiting"
            if trained.run is None and (moved := self._past(revision)):  # it was stopped
                return "ended" if moved.turn and moved.turn.phase == "ended" else "busy"
            if trained.run is None:
                because = trained.failed or "the run failed"
                return self._end(kept, turn, revision, "failed", because)
            version = self._around.trainer.made(self._model, trained.run)
        except Unavailable as e:
            now = self._around.clock()
            if kept.silent_s(now) < PATIENCE_S:
                self._hear(kept, kept.unheard(now, e.what), revision)
                raise
            because = f"nothing was heard of it for a day: {e.what}" + _todo(e)
            return self._end(kept, turn, revision, "failed", because)
        if version is None:
            because = f"run {trained.run} made no version of {self._model}"
            return self._end(kept, turn, revision, "failed", because, run=trained.run)
        found = {"run": trained.run, "version": version.version}
        champion = champion_of(self._project, self._model)
        if champion is not None and champion.version == version.version:
            because = f"run {trained.run} made what is champion already"
            return self._end(kept, turn, revision, "unchanged", because, **found)
        said = version.tags.get("charkha.because", "")
        if version.tags.get(aliasing.GATE) != "passed":
            because = f"the gate refused {version}: {said}"
            return self._end(kept, turn, revision, "refused", because, **found)
        because = f"the gate passed {version}: {said}"
        return self._move(kept, turn, revision, because, phase="releasing", **found)

    def _hear(self, before: Kept, now: Kept, revision: int) -> None:
        """Remember whether something was heard of a run."""
        if now != before:
            with suppress(CharkhaError):  # the ledger may be what does not answer
                self._around.states.write(KIND, self._model, now.as_json(), after=revision)

    def _release(self, kept: Kept, turn: Turn, revision: int) -> Did:
        """Have the candidate released, and end the turn as the release ends."""
        subject = f"{self._model}@{turn.version}"
        release = self._kept_release()
        if self._is_open(release):
            return self._drive()
        if (result := self._result_of(turn, subject, release)) is not None:
            return self._end(kept, turn, revision, *result)
        champion = champion_of(self._project, self._model)
        if champion is not None and champion.version == turn.version:
            how = "somebody promoted it"
            if self._strategy == "none":
                how = "it passed the gate"
                promote(self._project, subject, _why(turn))  # told, if it was cut off before that
            return self._end(kept, turn, revision, "promoted", f"{subject} is champion: {how}")
        if (because := self._taken_back(turn, subject)) is not None:
            return self._end(kept, turn, revision, "not released", because)
        try:
            if self._strategy == "none":
                self._promote(turn, subject, champion)
            else:
                self._start(turn, subject, self._strategy)
        except (Refused, UserError) as e:
            if self._is_open(self._kept_release()):  # somebody started another one at this moment
                return "waiting"
            return self._end(kept, turn, revision, "not released", f"{e.what}{_todo(e)}")
        return "releasing"

    def _result_of(
        self, turn: Turn, subject: str, release: Release | None
    ) -> tuple[Outcome, str] | None:
        """Return how the release of a turn ended, also where another one was started since."""
        if release is not None and release.turn == turn.id:
            id, phase, because = release.id, str(release.state.phase), release.state.because
        else:
            told = self._around.ledger.read(releases.KIND, subject)
            own = [d for d in told if d.numbers.get("turn") == turn.id]
            ends = [d for d in own if d.numbers["phase"] in TERMINAL]
            if not ends:
                return None
            last = ends[-1]
            id, phase = str(last.numbers["release"]), str(last.numbers["phase"])
            because = last.because
        outcome: Outcome = "promoted" if phase == "promoted" else "rolled back"
        return outcome, f"release {id} of {subject} was {phase}: {because}"

    def _taken_back(self, turn: Turn, subject: str) -> str | None:
        versions = list_versions(self._project, self._model)
        candidate = next((v for v in versions if v.version == turn.version), None)
        if candidate is None:  # who starts its release says so
            return None
        told = [d for kind in KINDS for d in self._around.ledger.read(kind, self._model)]
        why = taken_back(candidate, versions, told, turn.trigger)
        todo = f"charkha loop --now, or charkha release start {subject}, if it is to be tried again"
        return why and f"nothing new came of it, and {why}; to do: {todo}"

    def _promote(self, turn: Turn, subject: str, champion: ModelVersion | None) -> None:
        """Make the candidate champion, if it was compared with the one of this moment."""
        candidate = find_version(self._project, subject)
        package = "none" if champion is None else champion.package or "none"
        if champion and candidate.tags.get(JUDGED_AGAINST, NONE) != f"champion:{package}":
            raise Refused(
                f"{subject} was judged before {champion} became champion",
                fix="charkha run, to compare them",
            )
        promote(self._project, subject, _why(turn))

    def _start(self, turn: Turn, subject: str, strategy: Strategy) -> None:
        steps = self._steps
        with self._around.release() as around:
            start(self._project, around, subject, strategy=strategy, steps=steps, turn=turn.id)

    def _drive(self) -> Did:
        """Do all that the open release can do now."""
        with self._around.release() as around:
            controller = releases.Controller(self._model, around, who=self._who)
            try:
                while (did := controller.tick()) in ("acted", "moved"):
                    pass
            finally:
                controller.close()
        return "releasing" if did == "ended" else "waiting"

    def _drop_release(self, turn: Turn) -> bool:
        """Abort the release of a turn that was aborted, if it is open; somebody else's goes on."""

        def aborted(release: Release) -> State:
            if release.turn != turn.id:
                raise UserError(f"release {release.id} is not of turn {turn.id}")
            return abort(release.state, f"turn {turn.id} was aborted: {turn.because}")

        release = self._kept_release()
        if release is None or release.turn != turn.id or release.ended_at is not None:
            return False
        with self._around.release() as around, suppress(UserError):  # it was decided meanwhile
            releases.command(around, self._model, aborted, who=turn.by)
        return True

    def _past(self, revision: int) -> Kept | None:
        """Return what is kept where somebody has decided since it was read, as far as can be told."""
        with suppress(CharkhaError):
            found = self._around.states.read(KIND, self._model)
            if found is not None and found.revision != revision:
                return Kept.from_json(found.value)
        return None

    def _kept_release(self) -> Release | None:
        found = self._around.states.read(releases.KIND, self._model)
        return None if found is None else Release.from_json(found.value)

    def _is_open(self, release: Release | None) -> bool:
        return release is not None and release.ended_at is None

    def _move(self, kept: Kept, turn: Turn, revision: int, because: str, **changes: object) -> Did:
        moved = turn.moved(self._around.clock(), self._who, because, **changes)
        done = self._keep(replace(kept, turn=moved), moved, revision)
        return "trained" if done else "busy"

    def _end(
        self,
        kept: Kept,
        turn: Turn,
        revision: int,
        outcome: Outcome,
        because: str,
        **changes: object,
    ) -> Did:
        ended = turn.ended(self._around.clock(), self._who, outcome, because, **changes)
        return "ended" if self._keep(kept.with_end(ended), ended, revision) else "busy"

    def _keep(self, kept: Kept, turn: Turn, revision: int) -> bool:
        if not self._around.states.write(KIND, self._model, kept.as_json(), after=revision):
            return False
        self._tell(turn)
        return True

    def _tell(self, turn: Turn) -> None:
        self._around.ledger.record(decision(self._model, turn))


def _todo(error: CharkhaError) -> str:
    return f"; to do: {error.fix}" if error.fix else ""


def _why(turn: Turn) -> str:
    return f"loop {turn.id}: {turn.because}"
