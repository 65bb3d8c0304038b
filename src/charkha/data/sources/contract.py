"""What every DataSource must do. A new one passes this suite before it is reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from charkha.errors import NotFound

if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource

CONTENT = b"a,b\n1,2\n" * 300_000  # 2.4 MB: more than any buffer


class DataSourceContract:
    @pytest.fixture
    def source(self) -> DataSource:
        raise NotImplementedError("give a `source` whose file holds CONTENT and ends in .csv")

    @pytest.fixture
    def absent(self) -> DataSource:
        raise NotImplementedError("give an `absent` source, of something that is not there")

    def test_what_is_there_arrives_byte_for_byte(self, source: DataSource, tmp_path: Path) -> None:
        assert source.fetch(tmp_path, _silent).read_bytes() == CONTENT

    def test_it_arrives_inside_the_folder_with_its_ending(
        self, source: DataSource, tmp_path: Path
    ) -> None:
        arrived = source.fetch(tmp_path, _silent)
        assert arrived.is_relative_to(tmp_path)
        assert arrived.suffix == ".csv"

    def test_progress_grows_to_all_of_it(self, source: DataSource, tmp_path: Path) -> None:
        told: list[tuple[int, int | None]] = []
        source.fetch(tmp_path, lambda done, total: told.append((done, total)))
        counts = [done for done, _ in told]
        assert counts == sorted(counts)
        assert counts[-1] == told[-1][1]

    def test_what_is_not_there_is_not_found(self, absent: DataSource, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            absent.fetch(tmp_path, _silent)

    def test_what_is_not_there_leaves_no_file(self, absent: DataSource, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            absent.fetch(tmp_path, _silent)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_its_name_is_one_file_name(self, source: DataSource) -> None:
        assert source.file_name
        assert Path(source.file_name).name == source.file_name


def _silent(done: int, total: int | None) -> None:
    pass
