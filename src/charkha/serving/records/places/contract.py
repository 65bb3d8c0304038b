"""What every Place must do. A new adapter passes this suite before it is reviewed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from charkha.errors import NotFound

if TYPE_CHECKING:
    from charkha.serving.records.places.port import Place

DAY = "model=prices/day=2026-11-24/"


class PlaceContract:
    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError("give the adapter's tests a `place` fixture")

    def test_what_was_put_comes_back(self, place: Place) -> None:
        place.put(f"{DAY}a.parquet", b"abc")
        with place.open(f"{DAY}a.parquet") as file:
            assert file.read() == b"abc"

    def test_a_file_can_be_sought_in_from_either_end(self, place: Place) -> None:
        content = bytes(range(256)) * 20_000  # 5 MB: more than any buffer
        place.put(f"{DAY}a.parquet", content)
        with place.open(f"{DAY}a.parquet") as file:
            assert file.seekable()
            assert file.seek(-8, os.SEEK_END) == len(content) - 8
            assert file.read() == content[-8:]
            file.seek(1_000_003)
            assert file.tell() == 1_000_003
            assert file.read(3) == content[1_000_003:1_000_006]
            file.seek(-3, os.SEEK_CUR)
            assert file.read(2_000_000) == content[1_000_003:3_000_003]
            file.seek(0)
            assert file.read() == content
            assert file.read() == b""

    def test_a_file_put_again_is_replaced(self, place: Place) -> None:
        place.put(f"{DAY}a.parquet", b"before, and longer")
        place.put(f"{DAY}a.parquet", b"after")
        with place.open(f"{DAY}a.parquet") as file:
            assert file.read() == b"after"
        assert place.names(DAY) == [f"{DAY}a.parquet"]

    def test_a_file_that_is_not_there_is_not_found(self, place: Place) -> None:
        with pytest.raises(NotFound), place.open(f"{DAY}none.parquet") as file:
            file.read()

    def test_a_folder_has_its_own_files_and_no_others(self, place: Place) -> None:
        for name in (f"{DAY}b.parquet", f"{DAY}a.parquet", "model=prices/day=2026-11-25/c.parquet"):
            place.put(name, b"x")
        place.put("model=prices-2/day=2026-11-24/d.parquet", b"x")
        assert place.names(DAY) == [f"{DAY}a.parquet", f"{DAY}b.parquet"]
        assert place.names("model=prices/") == []

    def test_folders_are_told_one_below_the_other(self, place: Place) -> None:
        for name in (f"{DAY}a.parquet", "model=prices/day=2026-11-25/b.parquet", "feedback/c"):
            place.put(name, b"x")
        assert place.folders("") == ["feedback/", "model=prices/"]
        assert place.folders("model=prices/") == [DAY, "model=prices/day=2026-11-25/"]
        assert place.folders(DAY) == []

    def test_a_place_where_nothing_was_put_is_empty(self, place: Place) -> None:
        assert place.folders("") == []
        assert place.names(DAY) == []

    def test_a_name_can_have_any_character_of_a_quoted_model(self, place: Place) -> None:
        folder = "model=%C3%BC%2F..%3A%20%2A-_.~/day=2026-11-24/"
        place.put(f"{folder}a.parquet", b"x")
        assert place.names(folder) == [f"{folder}a.parquet"]
        assert place.folders("") == ["model=%C3%BC%2F..%3A%20%2A-_.~/"]

    def test_writers_at_the_same_time_lose_nothing(self, place: Place) -> None:
        names = [f"model=prices/day=2026-11-{day}/{i}" for day in (24, 25) for i in range(10)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: place.put(name, name.encode()), names))
        for name in names:
            with place.open(name) as file:
                assert file.read() == name.encode()
