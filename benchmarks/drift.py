"""Drift: what a check costs beside its peers, whether its statistics are right, how often it errs.

1. Cost: 25 columns, two of them shifted; profile, check and peers, each in a process of its own.
2. Agreement: every statistic against scipy's on the rows themselves.
3. Calibration: windows without drift that are called drifted, and windows found in which one of 25
   columns moved by 0.2 standard deviations. The reference has 20,000 rows, another 20,000 for every
   25 windows.

Peers are run where `--install-peers` made their environments; one that is not there is named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from drift_agreement import agreement
from measure import ENVIRONMENT, report
from peers import environments

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.window import summarise
from charkha.monitoring.drift import judge
from charkha.project import MonitoringSettings

SIZES = (200, 500, 1_000, 2_000, 5_000, 10_000)
PEERS_AT = (200, 1_000, 5_000)  # sizes of windows that Evidently judges
REFERENCE, PER_REFERENCE = 20_000, 25
SHIFTED, SHIFT = "number 0", 0.2
CONTENDERS = {
    "charkha-profile": None,
    "charkha-check": None,
    "evidently-default": "evidently",
    "evidently-psi": "evidently",
    "nannyml-js": "nannyml",
}
CHILD = Path(__file__).parent / "peers" / "drift_contenders.py"


def main() -> None:
    """Measure, print, write."""
    given = _options()
    if given.install_peers:
        environments.install(list(environments.DRIFT))
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        peers = ("charkha", "evidently-default") if given.quick else ("",)
        figures |= cost(Path(folder), peers, quick=given.quick)
    figures |= agreement()
    figures |= calibration(given.windows or (10 if given.quick else 500))
    if not given.quick:
        with tempfile.TemporaryDirectory() as folder:
            figures |= evidently_rates(Path(folder), 20)
    report(figures, given.json)


def rows(count: int, chance: np.random.Generator, *, shift: float = 0.0) -> pd.DataFrame:
    """Return 25 columns: numbers of five shapes, labels and booleans; `SHIFTED` is normal."""
    draws = (
        lambda: chance.normal(size=count),
        lambda: chance.lognormal(size=count),
        lambda: chance.standard_t(3, count),
        lambda: np.where(chance.random(count) < 0.5, 0.0, chance.exponential(size=count)),
        lambda: chance.poisson(4, count).astype(np.float64),
    )
    made: dict[str, object] = {f"number {n}": draws[n % 5]() for n in range(18)}
    made[SHIFTED] = made[SHIFTED] + shift
    for n in range(5):
        names = np.array([f"label {k}" for k in range(3 + 8 * n)])
        made[f"label {n}"] = names[(len(names) * chance.random(count) ** 2).astype(int)]
    made |= {f"flag {n}": chance.random(count) < 0.1 + 0.3 * n for n in range(2)}
    return pd.DataFrame(made)


def cost(folder: Path, names: tuple[str, ...], *, quick: bool) -> dict[str, float]:
    """Time the contenders whose names begin so, on the same files."""
    count, window = (50_000, 5_000) if quick else (1_000_000, 100_000)
    chance = np.random.default_rng(1)
    rows(count, chance).to_parquet(folder / "reference.parquet")
    later = rows(window, chance, shift=SHIFT)
    later["label 0"] = np.where(chance.random(window) < 0.15, "label 0", later["label 0"])
    later.to_parquet(folder / "window.parquet")
    print(f"{count:,} x 25 reference, {window:,} rows in the window, truly shifted: 2 columns")
    print(f"{'':20}{'CPU s':>9}{'peak MB':>9}{'times the check':>17}  flagged")
    figures: dict[str, float] = {"reference_rows": count, "window_rows": window}
    check = 0.0
    for name, peer in ((n, p) for n, p in CONTENDERS.items() if n.startswith(names)):
        told = child(name, peer, folder)
        if told is None:
            continue
        check = told["cpu_s"] if name == "charkha-check" else check
        ratio = told["cpu_s"] / check if check else float("nan")
        flags = ", ".join(told["flagged"]) or ("–" if name == "charkha-profile" else "none")
        print(f"{name:20}{told['cpu_s']:9.3f}{told['peak_mb']:9.0f}{ratio:17.1f}  {flags}")
        key = name.replace("-", "_")
        figures[f"{key}_cpu_s"] = round(told["cpu_s"], 4)
        figures[f"{key}_peak_mb"] = round(told["peak_mb"], 1)
        figures[f"{key}_flagged"] = len(told["flagged"])
        if peer:
            figures[f"{key}_times_check"] = round(ratio, 1)
    size = (folder / "profile.bin").stat().st_size / 1e6
    print(f"the profile has {size:.2f} MB")
    return {**figures, "profile_mb": round(size, 3)}


def child(name: str, peer: str | None, folder: Path) -> dict[str, object] | None:
    """Run one contender to its end; None where its peer is not installed."""
    python = environments.program(peer, "python") if peer else sys.executable
    if python is None:
        print(f"{name}: skipped, {peer} is not installed (--install-peers)")
        return None
    done = subprocess.run(
        [python, str(CHILD), name, str(folder)], capture_output=True, text=True, env=ENVIRONMENT
    )
    if done.returncode:
        print(f"{name}: skipped, it failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def calibration(windows: int) -> dict[str, float]:
    """Count false alarms and finds of our own check."""
    print(f"{windows} windows of each size: called drifted without drift, and found at {SHIFT} sd")
    print(f"{'rows':>7}{'false alarms':>14}{'found':>9}")
    figures: dict[str, float] = {"windows": windows}
    settings = MonitoringSettings()
    for size in SIZES:
        chance = np.random.default_rng(size)
        false = found = 0
        for number in range(windows):
            if number % PER_REFERENCE == 0:
                reference = rows(REFERENCE, chance)
                profile = build_profile({c: reference[c] for c in reference.columns})
            for shift in (0.0, SHIFT):
                table = pa.Table.from_pandas(rows(size, chance, shift=shift), preserve_index=False)
                verdict = judge(profile, summarise(table, profile), settings, rows=size)
                false += shift == 0.0 and verdict.outcome == "drift"
                found += shift == SHIFT and SHIFTED in verdict.drifted
        print(f"{size:7,}{false / windows:14.2%}{found / windows:9.1%}")
        figures[f"false_alarms_{size}"] = round(false / windows, 4)
        figures[f"found_{size}"] = round(found / windows, 4)
    return figures


def evidently_rates(folder: Path, windows: int) -> dict[str, float]:
    """Count the same for Evidently's default, on fewer windows."""
    figures: dict[str, float] = {"evidently_windows": windows}
    for size in PEERS_AT:
        chance = np.random.default_rng(size)
        rows(REFERENCE, chance).to_parquet(folder / "reference.parquet")
        for shift in (0.0, SHIFT):
            for number in range(windows):
                file = folder / f"window-{number:04}.parquet"
                rows(size, chance, shift=shift).to_parquet(file)
            told = child("evidently-rates", "evidently", folder)
            if told is None:
                return figures
            flagged = [flag.split(" ", 1) for flag in told["flagged"]]  # type: ignore[attr-defined]
            hits = {w for w, column in flagged if shift == 0.0 or column == SHIFTED}
            word = "found" if shift else "false_alarms"
            figures[f"evidently_{word}_{size}"] = round(len(hits) / windows, 4)
            print(f"evidently, {windows} windows of {size:,}: {word} {len(hits) / windows:.0%}")
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and windows, a minute")
    parser.add_argument("--windows", type=int, help="of each size, for the calibration")
    parser.add_argument("--install-peers", action="store_true", help="into environments of theirs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
