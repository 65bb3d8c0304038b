"""What every BlobStore must do. A new adapter passes this suite before it is reviewed."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from charkha.errors import NotFound

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore

ABSENT = "0" * 64


class BlobStoreContract:
    @pytest.fixture
    def store(self) -> BlobStore:
        raise NotImplementedError("give the adapter's tests a `store` fixture")

    def test_what_was_put_comes_back(self, store: BlobStore) -> None:
        with store.open(store.put(io.BytesIO(b"abc"))) as blob:
            assert blob.read() == b"abc"

    def test_the_key_is_the_sha256_of_the_content(self, store: BlobStore) -> None:
        assert store.put(io.BytesIO(b"abc")) == hashlib.sha256(b"abc").hexdigest()

    def test_the_same_content_twice_is_one_blob(self, store: BlobStore) -> None:
        assert store.put(io.BytesIO(b"abc")) == store.put(io.BytesIO(b"abc"))

    def test_a_stream_is_read_from_where_it_stands(self, store: BlobStore) -> None:
        stream = io.BytesIO(b"xabc")
        stream.seek(1)
        assert store.put(stream) == hashlib.sha256(b"abc").hexdigest()

    def test_a_blob_larger_than_any_buffer_comes_back(self, store: BlobStore) -> None:
        content = bytes(range(256)) * 40_000  # 10 MB
        with store.open(store.put(io.BytesIO(content))) as blob:
            assert blob.read() == content

    def test_an_empty_blob_is_a_blob(self, store: BlobStore) -> None:
        key = store.put(io.BytesIO(b""))
        assert store.size(key) == 0

    def test_an_unknown_key_is_not_found(self, store: BlobStore) -> None:
        with pytest.raises(NotFound):
            store.open(ABSENT)
        assert store.size(ABSENT) is None

    def test_the_size_is_the_number_of_bytes(self, store: BlobStore) -> None:
        assert store.size(store.put(io.BytesIO(b"abcde"))) == 5

    def test_removing_twice_is_fine(self, store: BlobStore) -> None:
        key = store.put(io.BytesIO(b"abc"))
        store.remove(key)
        store.remove(key)
        assert store.size(key) is None

    def test_a_removed_blob_can_be_put_again(self, store: BlobStore) -> None:
        key = store.put(io.BytesIO(b"abc"))
        store.remove(key)
        assert store.put(io.BytesIO(b"abc")) == key
        assert store.size(key) == 3

    def test_notes_of_an_unknown_name_are_none(self, store: BlobStore) -> None:
        assert store.notes("nobody") == []

    def test_notes_gather_under_their_name(self, store: BlobStore) -> None:
        store.note("a", b"1")
        store.note("a", b"2")
        store.note("ab", b"3")
        assert sorted(store.notes("a")) == [b"1", b"2"]
        assert store.notes("ab") == [b"3"]

    def test_a_set_has_what_its_parts_have_and_a_part_no_more_than_its_own(
        self, store: BlobStore
    ) -> None:
        store.note("run/step/a", b"1")
        store.note("run/step/b", b"2")
        store.note("run/end", b"3")
        store.note("run", b"4")
        store.note("run/stepped", b"5")
        assert sorted(store.notes("run/step")) == [b"1", b"2"]
        assert store.notes("run/step/b") == [b"2"]
        assert sorted(store.notes("run")) == [b"1", b"2", b"3", b"4", b"5"]
        store.unnote("run/step/a", b"1")
        assert store.notes("run/step") == [b"2"]

    def test_the_same_note_twice_is_one(self, store: BlobStore) -> None:
        store.note("a", b"1")
        store.note("a", b"1")
        assert store.notes("a") == [b"1"]

    def test_a_note_can_be_taken_out_twice(self, store: BlobStore) -> None:
        store.note("a", b"1")
        store.note("a", b"2")
        store.unnote("a", b"1")
        store.unnote("a", b"1")
        assert store.notes("a") == [b"2"]

    def test_writers_at_the_same_time_lose_nothing(self, store: BlobStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(lambda i: store.put(io.BytesIO(b"%d" % (i % 4))), range(40)))
            list(pool.map(lambda i: store.note("many", b"%d" % i), range(40)))
        assert len(set(keys)) == 4
        assert sorted(store.notes("many"), key=int) == [b"%d" % i for i in range(40)]
