"""One contender in a process of its own: `python drift_contenders.py NAME FOLDER`, told as JSON.

FOLDER has reference.parquet and window.parquet. CPU seconds are those of the work, with its rows in
memory and its libraries imported; the peak is that of the whole process.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Run one."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    took, flagged = CONTENDERS[name](folder)
    print("\n" + json.dumps({"cpu_s": took, "peak_mb": _peak_mb(), "flagged": sorted(flagged)}))


def _peak_mb() -> float:
    """Return the most memory this process had; ru_maxrss would begin with what its parent had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def charkha_profile(folder: Path) -> tuple[float, list[str]]:
    """Sum up the reference; leaves profile.bin in the folder."""
    import pandas as pd

    from charkha.data.profiles.building import build_profile
    from charkha.data.profiles.storing import write_profile

    rows = pd.read_parquet(folder / "reference.parquet")

    def work() -> list[str]:
        profile = build_profile({name: rows[name] for name in rows.columns})
        (folder / "profile.bin").write_bytes(write_profile(profile))
        return []

    return timed(work)


def charkha_check(folder: Path) -> tuple[float, list[str]]:
    """Judge the window; reading the profile is part of it."""
    import pyarrow.parquet as parquet

    from charkha.data.profiles.storing import read_profile
    from charkha.data.profiles.window import summarise
    from charkha.monitoring.drift import judge
    from charkha.project import MonitoringSettings

    window = parquet.read_table(folder / "window.parquet")

    def work() -> list[str]:
        profile = read_profile((folder / "profile.bin").read_bytes(), "profile.bin")
        seen = summarise(window, profile)
        return list(judge(profile, seen, MonitoringSettings(), rows=window.num_rows).drifted)

    return timed(work)


def evidently(method: str | None) -> Callable[[Path], tuple[float, list[str]]]:
    """Return Evidently's data drift preset with its default tests, or one of its methods."""

    def run(folder: Path) -> tuple[float, list[str]]:
        import pandas as pd

        evidently_flags(None, None, method)  # its imports
        reference = pd.read_parquet(folder / "reference.parquet")
        window = pd.read_parquet(folder / "window.parquet")
        return timed(lambda: evidently_flags(reference, window, method))

    return run


def evidently_flags(reference: object, window: object, method: str | None) -> list[str]:
    """Return the columns that Evidently calls drifted; nothing without rows."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    if reference is None:
        return []
    preset = DataDriftPreset(method=method) if method else DataDriftPreset()
    told = Report([preset], include_tests=True).run(window, reference).dict()
    return [
        test["metric_config"]["params"]["column"]
        for test in told["tests"]
        if test["status"].value == "FAIL" and "column" in test["metric_config"]["params"]
    ]


def evidently_rates(folder: Path) -> tuple[float, list[str]]:
    """Judge window-*.parquet each; tells the windows with any flag, and with the shifted column."""
    import pandas as pd

    reference = pd.read_parquet(folder / "reference.parquet")

    def work() -> list[str]:
        told = []
        for file in sorted(folder.glob("window-*.parquet")):
            flags = evidently_flags(reference, pd.read_parquet(file), None)
            told += [f"{file.stem} {name}" for name in flags]
        return told

    return timed(work)


def nannyml(folder: Path) -> tuple[float, list[str]]:
    """Run NannyML's univariate drift calculator with Jensen-Shannon; one chunk is the window."""
    import nannyml as nml
    import pandas as pd

    reference = pd.read_parquet(folder / "reference.parquet")
    window = pd.read_parquet(folder / "window.parquet")

    def work() -> list[str]:
        calculator = nml.UnivariateDriftCalculator(
            column_names=list(reference.columns),
            continuous_methods=["jensen_shannon"],
            categorical_methods=["jensen_shannon"],
            chunk_size=len(window),
        ).fit(reference)
        found = calculator.calculate(window).filter(period="analysis").to_df()
        return [
            column
            for column in reference.columns
            if bool(found[(column, "jensen_shannon", "alert")].any())
        ]

    return timed(work)


def timed(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return what it took, and what came of it."""
    began = time.process_time()
    flagged = work()
    return time.process_time() - began, flagged


CONTENDERS: dict[str, Callable[[Path], tuple[float, list[str]]]] = {
    "charkha-profile": charkha_profile,
    "charkha-check": charkha_check,
    "evidently-default": evidently(None),
    "evidently-psi": evidently("psi"),
    "evidently-rates": evidently_rates,
    "nannyml-js": nannyml,
}

if __name__ == "__main__":
    main()
