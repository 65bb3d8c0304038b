"""What every Registry must do, on the same two models; an adapter gives its tests a `registry`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from charkha.models.registries.port import Registry


class RegistryContract:
    """`prices` has versions 1, 3, 4 (2 was deleted), 3 is champion and tallest, 1 previous."""

    @pytest.fixture
    def registry(self) -> Registry:
        raise NotImplementedError("give the adapter's tests a `registry` fixture")

    def test_the_versions_of_a_model_come_oldest_first_without_deleted_ones(
        self, registry: Registry
    ) -> None:
        assert [(v.name, v.version) for v in registry.versions("prices")] == [
            ("prices", 1),
            ("prices", 3),
            ("prices", 4),
        ]

    def test_without_a_name_the_versions_of_all_models_come(self, registry: Registry) -> None:
        assert [str(v) for v in registry.versions()] == [
            "prices@1",
            "prices@3",
            "prices@4",
            "rents@1",
        ]

    def test_a_version_has_its_aliases_tags_package_source_and_time(
        self, registry: Registry
    ) -> None:
        version = registry.versions("prices")[1]
        assert version.aliases == ("champion", "tallest")
        assert version.tags == {"charkha.package": "3" * 64, "charkha.gate": "passed"}
        assert version.package == "3" * 64
        assert version.source == "s3://models/prices/3"
        assert abs(version.created_at - time.time()) < 600

    def test_a_name_that_nobody_knows_has_no_versions(self, registry: Registry) -> None:
        assert registry.versions("o'hara") == []
