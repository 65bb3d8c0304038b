"""How often a window without drift is called drifted, and how often a shift is found; seeded."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.window import summarise
from charkha.monitoring.drift import judge
from charkha.project import MonitoringSettings

WINDOWS = 60
SETTINGS = MonitoringSettings()


def rows(count, chance, shift=0.0):
    """Ten columns, of which the first moves."""
    columns = {f"normal {n}": chance.normal(size=count) for n in range(4)}
    columns["normal 0"] = columns["normal 0"] + shift
    columns["heavy"] = chance.standard_t(2, count)
    columns["lognormal"] = chance.lognormal(0, 1, count)
    columns["zeros"] = np.where(chance.random(count) < 0.6, 0, chance.exponential(size=count))
    columns["rounded"] = chance.poisson(3, count).astype(float)
    columns["label"] = chance.choice(list("abcdefgh"), count, p=np.arange(1, 9) / 36)
    columns["rare"] = chance.zipf(1.6, count).clip(max=400).astype(str)
    return pd.DataFrame(columns)


def drifted(reference, size, shift=0.0):
    chance = np.random.default_rng(size)
    frame = rows(reference, chance)
    profile = build_profile({name: frame[name] for name in frame.columns})
    found = []
    for _ in range(WINDOWS):
        window = pa.Table.from_pandas(rows(size, chance, shift), preserve_index=False)
        seen = summarise(window, profile)
        found.append(judge(profile, seen, SETTINGS, rows=size).drifted)
    return found


@pytest.mark.parametrize("reference", [1_000, 30_000])
@pytest.mark.parametrize("size", [200, 2_000])
def test_windows_without_drift_are_not_called_drifted(reference, size):
    assert sum(map(bool, drifted(reference, size))) <= 2


def test_a_fifth_of_a_deviation_in_one_column_is_found_in_a_window_of_a_thousand():
    found = drifted(30_000, 1_000, shift=0.2)
    assert sum("normal 0" in names for names in found) >= WINDOWS - 2
    assert sum(any(name != "normal 0" for name in names) for names in found) <= 2
