"""A lane: one thread with one model, which answers in batches of what arrived while it was busy.

There is no timer. A request that finds the lane idle is answered at once; those that come meanwhile
are the next batch, up to a number of rows. The records of a batch are kept before its answers leave.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from charkha.errors import Bug, DataError, Unavailable
from charkha.serving.predictors.port import Answers, Rows
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.predictors.port import Predictor
    from charkha.serving.records.source import Record

MAX_BATCH_ROWS = 256
_log = logging.getLogger(__name__)
_now = time.perf_counter

Keep = Callable[["list[Record]"], None]
Said = Answers | Problem | Unavailable
"""What a lane says of a request. Problem where the rows or the model are at fault, Unavailable where
the records cannot be kept."""


class Ask:
    """The rows of one request on their way through a lane; this kind waits for no answer."""

    __slots__ = ("at_us", "entities", "ids", "key", "rows", "started")

    rows: Rows
    ids: Sequence[str]  # as many as rows
    at_us: int  # unix µs of receipt
    started: float  # of time.perf_counter()
    key: str | None  # id of the caller's API key
    entities: dict[str, str] | None

    def answer(self, said: Said) -> None:
        """Take what the lane says; called once, on the event loop."""


_Done = tuple[Ask, Said]
Seen = Callable[[Sequence[_Done]], None]
_UNKEPT = Problem(500, "not-recorded", "The server failed", "the server's log says why")
_SILENT = Problem(500, "model-failed", "The model failed", "nobody waits for this answer")


class Lane:
    """A thread around a predictor. Made and used on an event loop; `close` ends the thread.

    Args:
        predictor: what answers.
        keep: called in the lane's thread with the records of each batch; None keeps none.
        batched: called in the lane's thread with the number of rows of each batch.
        seen: called in the lane's thread with each batch; its answers wait for it.
        failed: called in the lane's thread where a batch of a lane `behind` fails.
        most_rows: of a batch; a request with more is a batch of its own.
        behind: a lane for shadows: as nobody waits for its answers, a batch that fails is not tried
            again row by row.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        keep: Keep | None = None,
        batched: Callable[[int], None] | None = None,
        seen: Seen | None = None,
        failed: Callable[[Exception, int], None] | None = None,
        most_rows: int = MAX_BATCH_ROWS,
        behind: bool = False,
    ) -> None:
        self._predictor, self._keep, self._batched = predictor, keep, batched
        self._failed, self._seen = failed, seen
        self._most, self._behind = most_rows, behind
        self._taken = self._answered = 0  # requests; of the loop's thread, of the lane's
        self._closed = False
        self._arrived: list[Ask] = []  # in this turn of the event loop
        self._inbox: SimpleQueue[list[Ask] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait for their answer."""
        return self._taken - self._answered

    def ask(self, ask: Ask) -> None:
        """Put a request in; `ask.answer` is told what comes of it."""
        if self._closed:
            raise Bug("a request came to a lane that is closed")
        self._taken += 1
        if not self._arrived:  # one hand-over for all that one turn of the loop brings
            self._loop.call_soon(self._hand_over)
        self._arrived.append(ask)

    def close(self) -> None:
        """Answer what is in, then end the thread. Returns at once."""
        self._closed = True
        self._hand_over()
        self._inbox.put(None)

    def _hand_over(self) -> None:
        if self._arrived:
            self._inbox.put(self._arrived)
            self._arrived = []

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        arrived: deque[Ask] = deque()
        ending = False
        while arrived or not ending:
            while not ending and not (arrived and self._inbox.empty()):
                more = self._inbox.get()
                ending = more is None
                arrived.extend(more or ())
            if arrived:
                done = self._answer(*self._next(arrived))
                self._answered += len(done)
                if self._seen is not None:
                    self._look_at(self._seen, done)
                self._deliver(done)

    def _next(self, arrived: deque[Ask]) -> tuple[list[Ask], Rows]:
        """Take a batch from what has arrived."""
        ask = arrived.popleft()
        batch, rows = [ask], list(ask.rows)
        while arrived and len(rows) + len(arrived[0].rows) <= self._most:
            ask = arrived.popleft()
            batch.append(ask)
            rows += ask.rows
        return batch, rows

    def _answer(self, batch: list[Ask], rows: Rows) -> list[_Done]:
        if self._batched is not None:
            self._batched(len(rows))
        try:
            said = self._asked(rows)
        except Exception as e:  # noqa: BLE001  # a worker's loop: told to those whose rows it was
            if self._behind:
                if self._failed is not None:
                    self._failed(e, len(rows))
                return [(ask, _SILENT) for ask in batch]
            done = self._one_by_one(batch, e)
        else:
            done = _shared(batch, said)
        if self._keep is None:
            return done
        try:
            self._keep(_records(done))
        except Unavailable as e:  # it is configured to answer nothing that it cannot remember
            return [(ask, e) for ask, _ in done]
        except Exception:  # noqa: BLE001  # a worker's loop: not kept, not answered, and it goes on
            _log.exception("%d predictions could not be recorded", len(rows))
            return [(ask, _UNKEPT) for ask, _ in done]
        return done

    def _look_at(self, seen: Seen, done: list[_Done]) -> None:
        try:
            seen(done)
        except Exception:  # noqa: BLE001  # a worker's loop: what was not looked at was answered
            _log.exception("%d requests could not be looked at", len(done))
            self._seen = None

    def _asked(self, rows: Rows) -> Answers:
        said = self._predictor.predict(rows)
        if len(said.values) != len(rows):
            raise Bug(f"the model gave {len(said.values)} answers to {len(rows)} rows")
        return said

    def _one_by_one(self, batch: list[Ask], error: Exception) -> list[_Done]:
        """Ask for each request alone, so that nobody fails for a neighbour."""
        if len(batch) == 1:
            return [(batch[0], self._fault(batch[0], error))]
        done: list[_Done] = []
        for ask in batch:
            try:
                done.append((ask, self._asked(ask.rows)))
            except Exception as e:  # noqa: BLE001  # as above
                done.append((ask, self._fault(ask, e)))
        return done

    def _fault(self, ask: Ask, error: Exception) -> Problem:
        """Return what the caller is told: its row, where that can be found, and never another's."""
        if not isinstance(error, DataError):
            _log.error("request %s failed", ask.ids[0], exc_info=error)
            return Problem(500, "model-failed", "The model failed", "the server's log says why")
        place = ""
        if len(ask.rows) > 1:
            for number, row in enumerate(ask.rows):
                try:
                    self._predictor.predict([row])
                except DataError as e:
                    error, place = e, f"/{number}"
                    break
        return Problem(
            422,
            "refused-rows",
            "The model refuses the rows",
            error.what,
            [{"detail": error.what, "pointer": f"#{place}"}],
        )

    def _deliver(self, done: list[_Done]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, done)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _log.debug("%d answers came after the end", len(done))


def _resolve(done: list[_Done]) -> None:
    for ask, said in done:
        ask.answer(said)


def _shared(batch: list[Ask], said: Answers) -> list[_Done]:
    """Give each request its part of the answers."""
    if len(batch) == 1:
        return [(batch[0], said)]
    done: list[_Done] = []
    values, shares = said
    start = 0
    for ask in batch:
        end = start + len(ask.rows)
        part = Answers(values[start:end], None if shares is None else shares[start:end])
        done.append((ask, part))
        start = end
    return done


def _records(done: list[_Done]) -> list[Record]:
    now = _now()
    records: list[Record] = []
    for ask, answers in done:
        if not isinstance(answers, Answers):
            continue
        latency_us = int((now - ask.started) * 1e6)
        about = (ask.at_us, latency_us, ask.key, ask.entities)
        shares: Sequence[list[float] | None] = answers.probabilities or [None] * len(ask.rows)
        records += [
            (row_id, *about, row, value, share)
            for row_id, row, value, share in zip(
                ask.ids, ask.rows, answers.values, shares, strict=True
            )
        ]
    return records
