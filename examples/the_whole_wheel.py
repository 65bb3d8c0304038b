"""The whole wheel through the crash of 2008, as `make demo` shows it: python examples/the_whole_wheel.py FOLDER.

Trains on the house sales of 2006, serves the model, and asks it for every house that was sold in
Ames until July 2010, in order; what a house went for becomes known two months later. From then on
Charkha's loop is by itself: it sees drift, trains again, lets the gate judge, and releases what is
better, first as a shadow. In 2009 somebody mixes up square feet and square metres.

Nothing is staged: the loop's decisions are those that its statistics take on these sales. The months
are short: each waits only until the loop has looked at it, and done what it decided.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from http.client import HTTPConnection
from pathlib import Path
from textwrap import fill
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pandas as pd

from charkha import open_project, read_records
from charkha.ledger import Decision, ledger_url, open_ledger
from charkha.loop.opening import kept_of
from charkha.running import find_running
from charkha.states import States

MODEL, TARGET = "house-prices", "Sale_Price"
MARK = "made-by-the-demo"  # a file: only a folder with it is ever removed
LAG = 2  # months until the price of a sale is known
MISTAKE = (2009, 4)  # when somebody edits pipeline.py
PATIENCE_S = 90
WIDTH = min(shutil.get_terminal_size((110, 24)).columns, 140)
INDENT = " " * 9

SETTINGS = """
# From here on: what the demo adds. Margins fit a town in which 55 houses are sold a month, and times
# a demo in which a month takes a second; the defaults are for more traffic and more time.

[serving]
follow_s = 0.2
drain_s = 0

[monitoring]
window = "200"         # sales
ignore = ["Longitude"]

[release]
requests = 100
labels = 40
error_margin = 0.05
latency_margin = 1.0
required = ["errors"]
step_s = 0
watch_s = 0.3
watch_share = 10.0
every_s = 0.3

[loop]
every_s = 0.2
strategy = "canary"
steps = "0,50,100"     # 0: as a shadow, which answers nobody

[[trigger]]
on = "drift"
labels = 600           # prices that became known since the last turn
cool_down_s = 0
budget = 2             # turns in 30 days

[[trigger]]
on = "performance"
labels = 600
cool_down_s = 0
"""

DATABASE = """
[ledger]
url = "env:DEMO_DATABASE"

[tracking]
uri = "env:DEMO_DATABASE"
"""

MIX_UP = '''
@step
def in_metres(rows: pd.DataFrame) -> pd.DataFrame:
    """Somebody likes square metres; the callers still send square feet."""
    return rows.assign(**{name: (rows[name] * 0.0929).round().astype(int) for name in NUMBERS[:2]})


@pipeline'''


def main() -> None:
    """Tell the story, from an empty folder to a report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--pace", type=float, default=0.0, metavar="S", help="seconds more for a month"
    )
    parser.add_argument(
        "--postgresql", metavar="URL", help="an empty database for ledger and MLflow, not SQLite"
    )
    given = parser.parse_args()
    began = time.monotonic()
    if given.postgresql:
        os.environ["DEMO_DATABASE"] = given.postgresql
    later = prepare(given.folder.resolve(), SETTINGS + DATABASE * bool(given.postgresql))
    charkha("run")
    with Platform() as platform:
        story = Story(platform.url)
        for year, month, sales in months(later):
            if (year, month) >= MISTAKE and story.is_quiet():
                story.mix_up()
            story.month(year, month, sales, given.pace)
        story.conclude()
        charkha("monitor", "report", MODEL, "--since", "1d", "--out", "report.html")
        print(f"The whole wheel took {time.monotonic() - began:.0f} s.")
        platform.leave()


def prepare(folder: Path, settings: str) -> pd.DataFrame:
    """Make the project with the sales of 2006; return the later ones."""
    if folder.exists():
        if not (folder / ".charkha" / MARK).exists():
            sys.exit(f"{folder} is not of this demo, so it stays as it is\n  → give another folder")
        shutil.rmtree(folder)
    charkha("init", os.path.relpath(folder))
    os.chdir(folder)
    state = Path(".charkha")
    state.mkdir(exist_ok=True)
    (state / MARK).touch()
    data = Path("data/ames.parquet")
    sales = pd.read_parquet(data)
    sales = sales.sort_values(["Year_Sold", "Mo_Sold"], kind="stable")
    past = sales["Year_Sold"] == 2006
    sales[past].to_parquet(data, index=False)
    rules = Path("data/ames.checks.toml")
    rules.write_text(rules.read_text().replace("1000", "600"))
    charkha("data", "add", str(data))
    text = Path("charkha.toml").read_text()
    text = text.replace("year = 2009 ", "year = 2006\nmonth = 9 ").replace(
        "after this year", "after"
    )
    Path("charkha.toml").write_text(text + settings)
    return sales[~past & (sales["Gr_Liv_Area"] <= 4000)]


def months(sales: pd.DataFrame):
    """Yield year, month and its sales, in order."""
    for (year, month), rows in sales.groupby(["Year_Sold", "Mo_Sold"], sort=True):
        yield int(year), int(month), rows


class Platform:
    """What `charkha up` runs: the model server, the loop, and MLflow's page."""

    def __enter__(self) -> "Platform":
        print("$ charkha up &", flush=True)
        self._process = subprocess.Popen(
            ["charkha", "up"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE_S
        while (found := find_running(Path(".charkha"))) is None:
            if self._process.poll() is not None or time.monotonic() > until:
                sys.exit("charkha up did not start; see demo/.charkha/logs/up.log")
            time.sleep(0.1)
        self.addresses = found.addresses
        self.url = found.addresses["server"]
        wait_for(f"{self.url}/readyz")
        return self

    def leave(self) -> None:
        """Say what is running, and stay as long as somebody is there."""
        print(
            "What is running, until you press Enter:" if sys.stdin.isatty() else "What was running:"
        )
        print(f"  {self.url}/docs  the model, to be asked")
        print(f"  {self.addresses.get('mlflow', '-')}  its runs and versions, in MLflow")
        print(f"  {Path('report.html').resolve().as_uri()}  the report\n")
        print("cd demo; charkha release history; charkha loop --status; charkha up")
        if sys.stdin.isatty():
            input()

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class Story:
    """Asks for houses, tells the truth later, and prints what is decided meanwhile."""

    def __init__(self, url: str) -> None:
        self._http = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        self._project = open_project()
        self._ledger = open_ledger(self._project)
        self._states = States(ledger_url(self._project))
        self._told = {decision.id for decision in self._ledger.read()}
        self._unknown: deque = deque()  # months of (id, price) that nobody knows yet
        self._when = ""
        self._months: list[tuple[str, list[str]]] = []
        self._events: list[tuple[str, str]] = []
        self._mixed_up = False

    def month(self, year: int, month: int, sales: pd.DataFrame, pace_s: float) -> None:
        """Have a month go by."""
        self._when = f"{year}-{month:02}"
        rows = sales.drop(columns=TARGET).to_dict("records")
        asked = [
            self._post("/predict", {name: row[name] for name in COLUMNS})["id"] for row in rows
        ]
        self._months.append((self._when, asked))
        self._unknown.append(list(zip(asked, sales[TARGET].tolist(), strict=True)))
        if len(self._unknown) > LAG:
            self._reveal()
        if month % 2 == 0 or not self._is_idle():  # a look takes longer than a month here
            self._settle()
        time.sleep(pace_s)
        self.tell()

    def _reveal(self) -> None:
        truths = [{"id": id, "ground_truth": price} for id, price in self._unknown.popleft()]
        self._post("/feedback", truths)

    def _post(self, path: str, body: object) -> dict:
        """Send JSON over the one connection, return the JSON that comes back."""
        self._http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        said = json.loads(answer.read())
        if answer.status >= 300:
            sys.exit(f"{path} says {answer.status}: {said}")
        return said

    def _settle(self) -> None:
        """Wait until the loop has seen the month: training takes hours, and the next sales weeks."""
        began = time.time()
        while time.time() < began + PATIENCE_S and not self._has_looked(began):
            time.sleep(0.05)

    def _has_looked(self, since: float) -> bool:
        kept = kept_of(self._project, MODEL)
        release = self._states.read("release", MODEL)
        if release is not None and release.value["ended_at"] is None:
            undecided = release.value["state"]["phase"] in ("judging", "watching")
            return undecided and (release.value["looked_at"] or 0) > since
        idle = kept is not None and (kept.turn is None or kept.turn.phase == "ended")
        return idle and kept.looked_at > since

    def _is_idle(self) -> bool:
        """Whether no model is on its way."""
        kept, release = kept_of(self._project, MODEL), self._states.read("release", MODEL)
        turning = kept is not None and kept.turn is not None and kept.turn.phase != "ended"
        releasing = release is not None and release.value["ended_at"] is None
        return not (turning or releasing)

    def is_quiet(self) -> bool:
        """Whether there is room for the mistake, and nobody has made it yet."""
        return not self._mixed_up and self._is_idle()

    def mix_up(self) -> None:
        """Edit the pipeline as somebody might, run it, and have the result released."""
        self._mixed_up = True
        self._say("pipeline.py is edited: areas in square metres, and callers send square feet")
        file = Path("pipeline.py")
        right = file.read_text()
        wrong = right.replace("@pipeline", MIX_UP.strip()).replace(
            "    model = fit(train",
            "    train, test = in_metres(train), in_metres(test)\n    model = fit(train",
        )
        file.write_text(wrong)
        try:
            charkha("run")
        finally:
            file.write_text(right)
        charkha("release", "start", f"{MODEL}@challenger", "--steps", "0,50,100", "--detach")

    def tell(self) -> None:
        """Print the decisions since the last time."""
        new = [d for d in self._ledger.read() if d.id not in self._told]
        for decision in new:
            if text := in_words(decision):
                self._say(text)
        self._told |= {decision.id for decision in new}

    def _say(self, text: str) -> None:
        self._events.append((self._when, text))
        print(
            fill(f"{self._when}  {text}", WIDTH, subsequent_indent=INDENT, max_lines=3), flush=True
        )

    def conclude(self) -> None:
        """Tell the last prices, and draw how far the prices were off, quarter by quarter."""
        while self._unknown:
            self._reveal()
        self.tell()
        columns = ["id", "version", "prediction", "ground_truth"]
        table = read_records(MODEL, columns=columns, project=self._project).to_pandas()
        quarter = {
            id: f"{when[:4]} Q{(int(when[5:]) + 2) // 3}"
            for when, ids in self._months
            for id in ids
        }
        table["quarter"] = table["id"].map(quarter)
        table["off"] = (table["prediction"] / table["ground_truth"] - 1).abs() * 100
        print(
            "\nHow far the price of the middle house was off, who said it, and what was decided\n"
        )
        for name, rows in table.groupby("quarter", sort=True):
            off = rows["off"].median()
            versions = " and ".join(f"{v}" for v in sorted(rows["version"].unique()))
            print(f"{name}  {'█' * round(2 * off):<26} {off:4.1f} %  of {len(rows)} by @{versions}")
            for when, text in self._events:
                if f"{when[:4]} Q{(int(when[5:]) + 2) // 3}" == name:
                    print(fill(text, WIDTH, initial_indent=INDENT, max_lines=1, placeholder=" …"))
        print()


def in_words(decision: Decision) -> str | None:
    """Return what the ledger remembers as a line of the story; None of what is no news."""
    said, because = decision.numbers, decision.because.replace("input.", "")
    if decision.kind == "loop" and said["phase"] == "training":
        return f"trains again, for {because}"
    if decision.kind == "loop":
        return because
    if decision.kind == "release" and said["phase"] != "promoted":  # the loop says so
        return f"release of {decision.subject}, {said['phase']}: {because}"
    return None


COLUMNS = [
    "Gr_Liv_Area", "Total_Bsmt_SF", "Lot_Area", "Garage_Area", "Mas_Vnr_Area", "Year_Built", "Year_Remod_Add",
    "Full_Bath", "Half_Bath", "Fireplaces", "Longitude", "Latitude", "Neighborhood", "Overall_Cond",
    "House_Style", "Bsmt_Exposure", "BsmtFin_Type_1", "Heating_QC", "Garage_Finish",
]  # fmt: skip


def charkha(*arguments: str) -> None:
    """Type a command and show what it prints; a failure ends the demo with its exit code."""
    print(f"$ charkha {shlex.join(arguments)}", flush=True)
    done = subprocess.run(["charkha", *arguments])
    if done.returncode:
        sys.exit(done.returncode)
    print(flush=True)


def wait_for(address: str) -> None:
    """Return as soon as the address answers."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            urlopen(address, timeout=5).close()
        except (URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    sys.exit(f"nobody answers at {address}; see .charkha/platform.log")


if __name__ == "__main__":
    main()
