import socket
from urllib.request import Request, urlopen

import pytest

from charkha.errors import BackendError, NotFound, Unavailable, UserError
from charkha.serving.records.places import Address, open_place
from charkha.serving.records.places.contract import DAY, PlaceContract
from charkha.serving.records.places.local import LocalPlace
from charkha.serving.records.places.s3 import S3Place


def place_in(s3, bucket, prefix="/some/place"):
    return S3Place(
        f"s3://{bucket}{prefix}",
        endpoint_url=s3.endpoint_url,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
    )


class TestLocal(PlaceContract):
    @pytest.fixture
    def place(self, tmp_path):
        return LocalPlace(tmp_path / "records")

    def test_what_was_half_written_is_not_there(self, place, tmp_path):
        place.put(f"{DAY}a.parquet", b"x")
        (tmp_path / "records" / DAY / "b.parquet.partial").write_bytes(b"x")
        assert place.names(DAY) == [f"{DAY}a.parquet"]

    def test_a_place_that_is_no_folder_says_so(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(Unavailable, match="Not a directory"):
            LocalPlace(tmp_path / "file").put("a/b", b"x")


class TestS3(PlaceContract):
    @pytest.fixture
    def place(self, s3):
        return place_in(s3, s3.make_bucket())

    def test_more_files_than_a_page_of_a_listing_are_all_found(self, s3, place):
        bucket = place._bucket
        for i in range(s3.page_keys + 1):
            s3.client.put_object(Bucket=bucket, Key=f"some/place/{DAY}{i:04d}", Body=b"")
        assert s3.client.list_objects_v2(Bucket=bucket)["IsTruncated"]
        assert len(place.names(DAY)) == s3.page_keys + 1

    @pytest.mark.parametrize("prefix", ["", "/", "/a/"])
    def test_a_prefix_is_a_folder_however_it_is_written(self, s3, prefix):
        bucket = s3.make_bucket()
        place_in(s3, bucket, prefix).put(f"{DAY}a", b"x")
        (listed,) = s3.client.list_objects_v2(Bucket=bucket)["Contents"]
        assert listed["Key"] == f"{prefix.strip('/')}/{DAY}a".lstrip("/")

    def test_a_bucket_that_is_not_there_is_told(self, s3):
        with pytest.raises(NotFound, match="s3://absent"):
            place_in(s3, "absent").put("a", b"x")

    def test_wrong_credentials_are_told(self, s3):
        def reset_auth(after):
            url, text = f"{s3.endpoint_url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
            urlopen(Request(url, data=after, headers=text)).close()  # noqa: S310

        place = place_in(s3, s3.make_bucket())
        reset_auth(b"0")
        try:
            with pytest.raises(BackendError, match="credentials"):
                place.put("a", b"x")
        finally:
            reset_auth(b"inf")

    def test_a_server_that_is_not_there_is_unavailable(self, s3):
        with socket.socket() as taken:  # bound and not listening: refused
            taken.bind(("127.0.0.1", 0))
            place = S3Place(
                "s3://bucket",
                endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}",
                access_key="a",
                secret_key="b",  # noqa: S106
            )
            with pytest.raises(Unavailable):
                place.names("")


def test_an_address_says_what_kind_of_place_it_is(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", s3.access_key)
    bucket = s3.make_bucket()
    far = open_place(
        Address(
            url=f"s3://{bucket}/p",
            endpoint_url=s3.endpoint_url,
            access_key="env:A_KEY",
            secret_key="env:A_KEY",  # noqa: S106
        )
    )
    near = open_place(Address(url=str(tmp_path)))
    for place in (far, near):
        place.put("a/b", b"x")
        with place.open("a/b") as file:
            assert file.read() == b"x"


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3:///prefix", "http://x"])
def test_an_address_that_leads_nowhere_is_refused(url):
    with pytest.raises(UserError, match="s3://"):
        open_place(Address(url=url))


def test_a_key_that_is_not_set_is_named():
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        open_place(Address(url="s3://b", access_key="env:NO_SUCH_KEY"))
