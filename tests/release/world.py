"""A service in memory: a platform, a registry, callers, and a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from charkha.ledger import Ledger
from charkha.release.controller import KIND, Controller, Surroundings
from charkha.release.kept import Release
from charkha.release.plan import make_plan
from charkha.release.platforms.memory import MemoryPlatform
from charkha.release.rules import Rules
from charkha.states import States

OLD, NEW = 2, 3
STEP_S = 60.0


class Killed(BaseException):
    """As `kill -9` would: nothing catches it."""


class Fatal:
    """Passes calls on, and dies before or after the one that it is told."""

    def __init__(self, thing, world):
        self._thing, self._world = thing, world

    def __getattr__(self, name):
        method = getattr(self._thing, name)
        if not callable(method):
            return method

        def called(*given, **named):
            world = self._world
            world.calls += 1
            if (world.calls, world.dies) == (world.dies_at, "before"):
                raise Killed
            said = method(*given, **named)
            if (world.calls, world.dies) == (world.dies_at, "after"):
                raise Killed
            return said

        return called


class Aliases:
    def __init__(self, platform):
        self.now, self.previous, self.moves = OLD, None, []
        self._platform = platform

    def champion(self):
        return self.now

    def promote(self, version, because):
        if version != self.now:
            self.now, self.previous = version, self.now
            self.moves.append(version)
            self._platform.move("champion", version)

    def roll_back(self, version, because):
        if version != self.now:
            self.now, self.previous = version, None
            self.moves.append(version)
            self._platform.move("champion", version)


class World:
    def __init__(self, folder: Path, *, worse=1.0, failing=0.0, per_s=20, **how):
        self.now, self.worse, self.failing, self.per_s = 1_000_000.0, worse, failing, per_s
        self.platform = MemoryPlatform(OLD)
        self.aliases = Aliases(self.platform)
        url = f"sqlite:///{folder}/ledger.db"
        self.states, self.ledger = States(url), Ledger(url)
        self.calls, self.dies_at, self.dies = 0, 0, "before"
        self.chance = np.random.default_rng(5)
        self.rows: list[tuple] = []
        self.answered: set[int] = set()
        fatal = [Fatal(t, self) for t in (self.platform, self.aliases, self.states, self.ledger)]
        self.around = Surroundings(
            platform=fatal[0],
            aliases=fatal[1],
            states=fatal[2],
            ledger=fatal[3],
            records=self.records,
            clock=lambda: self.now,
        )
        self.controller = Controller("prices", self.around, who="ann")
        self.start(**how)

    def start(self, strategy="canary", **how):
        rules = Rules(
            stages=6,
            quantiles=(0.5,),
            required=("errors",),
            margins={**Rules().margins, "errors": 0.05},
        )
        steps = {"steps": (10.0, 50.0, 100.0)} if strategy == "canary" else {}
        plan = make_plan(strategy, **{**steps, "watch_s": 60, "most_s": 4000, **how})
        self.release = Release(
            id="r1", model="prices", baseline=OLD, candidate=NEW, plan=plan, rules=rules,
            loss="absolute", home="champion", began_at=self.now, by="ann",
        )  # fmt: skip
        self.states.write(KIND, "prices", self.release.as_json(), after=0)

    def kept(self) -> Release:
        return Release.from_json(self.states.read(KIND, "prices").value)

    def pass_time(self, seconds=STEP_S):
        """Have callers ask for so long."""
        arms = self.platform.holds()
        live = [arm for arm in arms if arm.share > 0]
        self.answered |= {arm.version for arm in live}
        assert sum(arm.share for arm in live) == 100
        shares = np.array([arm.share for arm in live]) / 100
        for n in range(int(seconds * self.per_s)):
            at, id = self.now + n / self.per_s, f"{self.now}-{n}"
            arm = live[self.chance.choice(len(live), p=shares)]
            if arm.version == NEW and self.chance.random() < self.failing:
                self.platform.fail(NEW, 1)
                continue
            truth = float(self.chance.lognormal())
            self.rows.append((id, at, arm.version, "live", truth))
            self.rows += [(id, at, a.version, "shadow", truth) for a in arms if a.shadow]
        self.now += seconds

    def records(self, since):
        rows = [row for row in self.rows if row[1] >= since] or [("", 0.0, 0, "live", 0.0)]
        ids, times, versions, roles, truths = zip(*rows, strict=True)
        moments = [datetime.fromtimestamp(t, UTC) for t in times]
        wrong = [self.worse if version == NEW else 1.0 for version in versions]
        return pa.table(
            {
                "id": ids,
                "time": pa.array(moments, pa.timestamp("us", "UTC")),
                "version": pa.array(versions, pa.int64()),
                "role": roles,
                "latency_s": [0.01] * len(rows),
                "prediction": pa.array([t + t * w for t, w in zip(truths, wrong, strict=True)]),
                "ground_truth": pa.array(truths),
            }
        )

    def run(self, most=300):
        """Look until it has ended; the killed controller is followed by another one."""
        for _ in range(most):
            try:
                did = self.controller.tick()
            except Killed:
                self.dies_at = 0
                self.now += 61  # until the lease of the killed one is over
                self.controller = Controller("prices", self.around, who="bob")
                continue
            if did == "ended":
                return self.kept()
            if did in ("looked", "waiting", "busy"):
                self.pass_time()
        raise AssertionError(f"it does not end: {self.kept().state}")

    def story(self):
        return [(d.numbers["phase"], d.numbers["stage"]) for d in self.ledger.read(KIND)]

    def close(self):
        self.states.close()
        self.ledger.close()
