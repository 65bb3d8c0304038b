import contextlib
import hashlib
import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request, urlopen

import pytest

from charkha.data.blobs import open_blobs
from charkha.data.blobs.contract import BlobStoreContract
from charkha.data.blobs.local import LocalBlobs
from charkha.data.blobs.memory import MemoryBlobs
from charkha.data.blobs.nearby import NearbyBlobs
from charkha.data.blobs.s3 import S3Blobs
from charkha.errors import BackendError, Damaged, NotFound, ProjectError, Unavailable, UserError
from charkha.project import open_project

LARGE = bytes(range(256)) * 80_000  # 20 MB: more than one part


def blobs_in(s3, bucket, prefix="/some/place"):
    return S3Blobs(
        f"s3://{bucket}{prefix}",
        endpoint_url=s3.endpoint_url,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
    )


@pytest.fixture
def enforced(s3):
    """Let the server check credentials, as a real one does."""

    def reset_auth(after):
        url, text = f"{s3.endpoint_url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(url, data=after, headers=text)).close()  # noqa: S310

    reset_auth(b"0")
    yield
    reset_auth(b"inf")


class TestS3(BlobStoreContract):
    @pytest.fixture
    def store(self, s3):
        return blobs_in(s3, s3.make_bucket())

    def test_a_blob_of_several_parts_is_whole(self, store):
        key = store.put(io.BytesIO(LARGE))
        assert key == hashlib.sha256(LARGE).hexdigest()
        with store.open(key) as blob:
            assert blob.read(5) == LARGE[:5]
            assert blob.read() == LARGE[5:]

    def test_more_notes_than_a_page_of_a_listing_are_all_found(self, s3, store):
        for i in range(s3.page_keys + 1):
            store.note("many", b"%d" % i)
        assert s3.client.list_objects_v2(Bucket=store._bucket)["IsTruncated"]
        assert len(store.notes("many")) == s3.page_keys + 1

    def test_a_note_is_fetched_once_and_one_that_was_taken_out_is_gone(self, s3):
        bucket = s3.make_bucket()
        ours, others = blobs_in(s3, bucket), blobs_in(s3, bucket)
        others.note("run", b"first")
        assert ours.notes("run") == [b"first"]
        (kept,) = s3.client.list_objects_v2(Bucket=bucket)["Contents"]
        s3.client.put_object(Bucket=bucket, Key=kept["Key"], Body=b"what nobody writes")
        others.note("run", b"second")
        assert set(ours.notes("run")) == {b"first", b"second"}
        others.unnote("run", b"first")
        assert ours.notes("run") == [b"second"]

    def test_a_blob_of_another_length_is_written_again(self, s3):
        bucket = s3.make_bucket()
        store = blobs_in(s3, bucket, "")
        key = store.put(io.BytesIO(b"whole"))
        s3.client.put_object(Bucket=bucket, Key=f"{key[:2]}/{key}", Body=b"to")
        store.put(io.BytesIO(b"whole"))
        assert store.open(key).read() == b"whole"

    def test_two_prefixes_of_a_bucket_are_two_stores(self, s3):
        bucket = s3.make_bucket()
        key = blobs_in(s3, bucket, "/a").put(io.BytesIO(b"x"))
        assert blobs_in(s3, bucket, "/b").size(key) is None
        assert blobs_in(s3, bucket, "/a/").size(key) == 1

    def test_the_keys_are_those_of_a_folder(self, s3, tmp_path):
        bucket = s3.make_bucket()
        for store in (blobs_in(s3, bucket, ""), LocalBlobs(tmp_path)):
            store.put(io.BytesIO(b"abc"))
            store.note("name", b"record")
        listed = s3.client.list_objects_v2(Bucket=bucket)["Contents"]
        files = (p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
        assert sorted(o["Key"] for o in listed) == sorted(files)


class TestNearby(BlobStoreContract):
    @pytest.fixture
    def store(self, s3, tmp_path):
        return NearbyBlobs(LocalBlobs(tmp_path), blobs_in(s3, s3.make_bucket()))

    @pytest.fixture
    def near(self):
        return MemoryBlobs()

    @pytest.fixture
    def far(self):
        return MemoryBlobs()

    @pytest.fixture
    def both(self, near, far):
        return NearbyBlobs(near, far)

    def test_a_blob_is_written_near_and_far(self, both, near, far):
        key = both.put(io.BytesIO(b"x"))
        assert near.size(key) == far.size(key) == 1

    def test_what_was_fetched_is_kept(self, both, near, far):
        key = far.put(io.BytesIO(b"x"))
        assert both.open(key).read() == b"x"
        far.remove(key)
        assert both.open(key).read() == b"x"
        assert near.size(key) == 1

    def test_a_far_blob_with_other_bytes_is_damaged_and_not_kept(self, both, near, tmp_path):
        far = LocalBlobs(tmp_path)
        key = far.put(io.BytesIO(b"whole"))
        far.path(key).write_bytes(b"other")
        with pytest.raises(Damaged):
            NearbyBlobs(near, far).open(key)
        assert near.size(hashlib.sha256(b"other").hexdigest()) is None

    def test_a_note_of_another_machine_is_seen(self, both, far):
        both.note("a", b"mine")
        far.note("a", b"theirs")
        assert both.notes("a") == [b"mine", b"theirs"]


def test_a_connection_that_breaks_while_a_blob_is_read_is_unavailable():
    class HalfAnswer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), HalfAnswer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = S3Blobs(
            "s3://bucket",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            access_key="a",
            secret_key="b",  # noqa: S106
        )
        with store.open("0" * 64) as blob, pytest.raises(Unavailable, match="s3://bucket"):
            blob.read()
        server.shutdown()


def test_the_keys_of_a_project_are_what_their_references_stand_for(tmp_path, monkeypatch):
    signed = []

    class Signed(BaseHTTPRequestHandler):
        def do_HEAD(self):
            signed.append(self.headers["Authorization"])
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Signed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "charkha.toml").write_text(
            f"[blobs]\nurl = 's3://bucket'\nendpoint_url = 'http://127.0.0.1:{server.server_port}'\n"
            "access_key = 'env:OUR_ID'\nsecret_key = 'file:key'\n"
        )
        with pytest.raises(ProjectError, match=r"charkha.toml:4: .*OUR_ID is not set"):
            open_blobs(open_project(tmp_path))
        monkeypatch.setenv("OUR_ID", "our-id")
        (tmp_path / "key").write_text("not-a-secret")
        with contextlib.suppress(BackendError):
            open_blobs(open_project(tmp_path)).size("0" * 64)
        server.shutdown()
    assert "Credential=our-id/" in signed[0]


def test_a_url_without_a_bucket_is_refused_at_once():
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        S3Blobs("s3:///prefix")


def test_an_endpoint_that_is_no_url_is_a_setting_to_correct():
    with pytest.raises(UserError, match="endpoint_url"):
        S3Blobs("s3://bucket", endpoint_url="not a url").put(io.BytesIO(b"x"))


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.put(io.BytesIO(b"x")),
        lambda store: store.open("0" * 64),
        lambda store: store.size("0" * 64),
        lambda store: store.note("a", b"x"),
        lambda store: store.notes("a"),
    ],
    ids=["put", "open", "size", "note", "notes"],
)
class TestTrouble:
    def test_a_bucket_that_is_not_there_is_named(self, s3, use):
        with pytest.raises(NotFound, match="no bucket 'absent'") as caught:
            use(blobs_in(s3, "absent"))
        assert "aws s3 mb s3://absent" in caught.value.fix

    def test_wrong_credentials_are_told_from_everything_else(self, s3, enforced, use):
        with pytest.raises(UserError, match="credentials") as caught:
            use(blobs_in(s3, "bucket-0"))
        assert "access_key" in caught.value.fix

    def test_no_credentials_are_told_with_where_to_put_them(self, s3, use, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        with pytest.raises(UserError, match="credentials"):
            use(S3Blobs("s3://bucket", endpoint_url=s3.endpoint_url))

    def test_a_server_that_is_not_there_is_unavailable_soon(self, s3, use):
        with socket.socket() as taken:  # bound and not listening: refused
            taken.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
            store = S3Blobs("s3://bucket", endpoint_url=nobody, access_key="a", secret_key="b")  # noqa: S106
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                use(store)
            assert time.monotonic() - began < 15  # a bound against hanging, not a measure
