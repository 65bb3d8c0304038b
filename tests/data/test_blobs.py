import io

import pytest

from charkha.data.blobs.contract import BlobStoreContract
from charkha.data.blobs.local import LocalBlobs
from charkha.data.blobs.memory import MemoryBlobs
from charkha.errors import CharkhaError


class TestMemory(BlobStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryBlobs()


class TestLocal(BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalBlobs(tmp_path / "blobs")

    def test_a_torn_write_is_never_visible(self, store, tmp_path):
        (tmp_path / "blobs/ab").mkdir(parents=True)
        key = "ab" + "0" * 62
        (tmp_path / f"blobs/ab/{key}.1-1.partial").write_bytes(b"half")
        assert store.size(key) is None

    def test_a_blob_of_another_length_is_written_again(self, store):
        key = store.put(io.BytesIO(b"whole"))
        store.path(key).write_bytes(b"to")
        assert store.put(io.BytesIO(b"whole")) == key
        assert store.path(key).read_bytes() == b"whole"

    def test_a_place_that_cannot_be_a_folder_is_said_with_its_name(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CharkhaError, match="file.* cannot be written"):
            LocalBlobs(tmp_path / "file").put(io.BytesIO(b"x"))
