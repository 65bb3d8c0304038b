"""Sources: a path, the web, S3 and Kaggle all keep one contract, and fail in one way."""

import base64
import io
import json
import zipfile
from pathlib import Path

import pytest

from charkha.data.sources import open_source
from charkha.data.sources.contract import CONTENT, DataSourceContract
from charkha.data.sources.https import HttpsSource
from charkha.data.sources.kaggle import KaggleSource
from charkha.data.sources.path import PathSource
from charkha.data.sources.s3 import S3Source
from charkha.errors import BackendError, NotFound, Unavailable, UserError
from charkha.project import default_project


def silent(done, total):
    pass


class TestPath(DataSourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("there") / "houses.csv"
        path.write_bytes(CONTENT)
        return PathSource(path)

    @pytest.fixture
    def absent(self, tmp_path_factory):
        return PathSource(tmp_path_factory.mktemp("there") / "houses.csv")


class TestHttps(DataSourceContract):
    @pytest.fixture
    def source(self, web):
        web.answers["/data/houses.csv"] = (200, {}, CONTENT)
        return HttpsSource(f"{web.url}/data/houses.csv")

    @pytest.fixture
    def absent(self, web):
        return HttpsSource(f"{web.url}/nothing.csv")

    def test_fewer_bytes_than_announced_are_not_taken(self, web, tmp_path):
        headers = {"Content-Length": "100", "Connection": "close"}
        web.answers["/a.csv"] = (200, headers, b"x" * 10)
        with pytest.raises(Unavailable, match="broke off after 10 of 100 bytes"):
            HttpsSource(f"{web.url}/a.csv").fetch(tmp_path, silent)
        assert list(tmp_path.glob("*.csv")) == []

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (410, NotFound),
            (429, Unavailable),
            (503, Unavailable),
            (401, BackendError),
            (403, BackendError),
        ],
    )
    def test_who_has_to_act_follows_from_the_status(self, web, tmp_path, status, kind):
        web.answers["/a.csv"] = (status, {}, b"")
        with pytest.raises(BackendError, match=str(status)) as error:
            HttpsSource(f"{web.url}/a.csv").fetch(tmp_path, silent)
        assert type(error.value) is kind

    def test_nobody_at_the_address_is_unavailable(self, tmp_path):
        with pytest.raises(Unavailable, match="did not answer"):
            HttpsSource("http://127.0.0.1:9/a.csv").fetch(tmp_path, silent)

    def test_a_redirect_is_followed(self, web, tmp_path):
        web.answers["/old.csv"] = (302, {"Location": f"{web.url}/new.csv"}, b"")
        web.answers["/new.csv"] = (200, {}, b"a\n1\n")
        arrived = HttpsSource(f"{web.url}/old.csv").fetch(tmp_path, silent)
        assert arrived.read_bytes() == b"a\n1\n"
        assert arrived.name == "old.csv"

    def test_a_redirect_to_an_unencrypted_address_is_not(self, web, tmp_path):
        web.answers["/a.csv"] = (302, {"Location": "http://example.org/a.csv"}, b"")
        with pytest.raises(UserError, match=r"http://example\.org is not encrypted"):
            HttpsSource(f"{web.url}/a.csv").fetch(tmp_path, silent)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_to_a_file_of_this_machine_is_not(self, web, tmp_path, status):
        web.answers["/a.csv"] = (status, {"Location": "file:///etc/passwd"}, b"")
        with pytest.raises((UserError, BackendError)):
            HttpsSource(f"{web.url}/a.csv").fetch(tmp_path, silent)

    def test_http_is_for_this_machine_only(self):
        with pytest.raises(UserError, match="use https://"):
            HttpsSource("http://example.org/houses.csv")

    def test_a_password_in_an_address_is_refused_and_not_repeated(self):
        with pytest.raises(UserError) as error:
            HttpsSource("https://ada:hunter2@example.org/houses.csv")
        assert "hunter2" not in str(error.value)

    def test_a_signature_is_sent_and_not_written_down(self, web, tmp_path):
        web.answers["/a.csv?sig=secret"] = (200, {}, b"a")
        source = HttpsSource(f"{web.url}/a.csv?sig=secret")
        source.fetch(tmp_path, silent)
        assert source.origin == f"{web.url}/a.csv"

    @pytest.mark.parametrize("path", ["..%2F..%2Fevil.csv", "a/..%2Fevil.csv", "%2Fevil.csv"])
    def test_an_address_cannot_name_a_file_elsewhere(self, path):
        assert HttpsSource(f"https://example.org/{path}").file_name == "evil.csv"


class TestS3(DataSourceContract):
    @pytest.fixture(autouse=True)
    def credentials(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    @pytest.fixture
    def bucket(self, s3):
        return s3.make_bucket()

    @pytest.fixture
    def source(self, s3, bucket):
        s3.client.put_object(Bucket=bucket, Key="raw/houses.csv", Body=CONTENT)
        return S3Source(f"s3://{bucket}/raw/houses.csv", endpoint_url=s3.endpoint_url)

    @pytest.fixture
    def absent(self, s3, bucket):
        return S3Source(f"s3://{bucket}/raw/houses.csv", endpoint_url=s3.endpoint_url)

    def test_all_below_a_prefix_is_a_folder(self, s3, bucket, tmp_path):
        for key in ("raw/", "raw/a.csv", "raw/b/c.csv", "rawer/no.csv"):
            s3.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
        source = S3Source(f"s3://{bucket}/raw/", endpoint_url=s3.endpoint_url)
        folder = source.fetch(tmp_path, silent)
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")}
        assert found == {"a.csv", "b/c.csv"}
        assert (folder / "b" / "c.csv").read_bytes() == b"raw/b/c.csv"

    def test_nothing_below_a_prefix_is_not_found(self, s3, bucket, tmp_path):
        with pytest.raises(NotFound, match="nothing below"):
            S3Source(f"s3://{bucket}/raw/", endpoint_url=s3.endpoint_url).fetch(tmp_path, silent)

    def test_no_bucket_is_not_found(self, s3, tmp_path):
        with pytest.raises(NotFound):
            S3Source("s3://nowhere/a/", endpoint_url=s3.endpoint_url).fetch(tmp_path, silent)

    def test_a_key_cannot_lead_out_of_the_folder(self, s3, bucket, tmp_path):
        s3.client.put_object(Bucket=bucket, Key="raw/../../evil", Body=b"x")
        with pytest.raises(BackendError, match="lead out"):
            S3Source(f"s3://{bucket}/raw/", endpoint_url=s3.endpoint_url).fetch(tmp_path, silent)

    def test_nobody_at_the_endpoint_is_unavailable(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(Unavailable, match="did not answer"):
            S3Source("s3://b/a.csv", endpoint_url="http://127.0.0.1:9").fetch(tmp_path, silent)

    @pytest.mark.parametrize("address", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key"])
    def test_a_whole_bucket_is_no_source(self, address):
        with pytest.raises(UserError, match="s3://bucket/key"):
            S3Source(address)


def zipped(**files):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writing:
        for name, content in files.items():
            writing.writestr(name.replace("__", "/").replace("_", "."), content)
    return archive.getvalue()


class TestKaggle(DataSourceContract):
    """Against a server that speaks Kaggle's API on loopback; Kaggle itself was never asked."""

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("KAGGLE_USERNAME", "ada")
        monkeypatch.setenv("KAGGLE_KEY", "key-of-ada")

    @pytest.fixture
    def source(self, web):
        self.answer(web, zipped(houses_csv=CONTENT))
        return KaggleSource("kaggle://ada/houses", api=web.url)

    @pytest.fixture
    def absent(self, web):
        return KaggleSource("kaggle://ada/houses", api=web.url)

    @staticmethod
    def answer(web, body, status=200):
        web.answers["/datasets/download/ada/houses"] = (302, {"Location": f"{web.url}/store"}, b"")
        web.answers["/store"] = (status, {}, body)

    def test_the_token_goes_to_kaggle_and_not_to_its_store(self, web, source, tmp_path):
        source.fetch(tmp_path, silent)
        (_, asked), (_, stored) = web.requests
        expected = base64.b64encode(b"ada:key-of-ada").decode()
        assert asked["Authorization"] == f"Basic {expected}"
        assert "Authorization" not in stored

    def test_several_files_are_a_folder(self, web, tmp_path):
        self.answer(web, zipped(a_csv=b"1", inner__b_csv=b"2"))
        folder = KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)
        assert folder.name == "houses"
        assert (folder / "inner" / "b.csv").read_bytes() == b"2"

    def test_the_file_of_kaggle_serves_where_no_variable_is_set(self, web, monkeypatch, tmp_path):
        monkeypatch.delenv("KAGGLE_USERNAME")
        token = tmp_path / "home" / ".kaggle" / "kaggle.json"
        token.parent.mkdir(parents=True)
        token.write_text(json.dumps({"username": "bob", "key": "key-of-bob"}))
        self.answer(web, zipped(houses_csv=b"1"))
        KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)
        expected = base64.b64encode(b"bob:key-of-bob").decode()
        assert web.requests[0][1]["Authorization"] == f"Basic {expected}"

    def test_without_a_token_it_says_where_to_put_one(self, web, monkeypatch, tmp_path):
        monkeypatch.delenv("KAGGLE_KEY")
        with pytest.raises(UserError, match=r"kaggle\.json.*KAGGLE_USERNAME"):
            KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)
        assert web.requests == []

    def test_a_token_file_that_is_none_is_named(self, web, monkeypatch, tmp_path):
        monkeypatch.delenv("KAGGLE_KEY")
        token = tmp_path / "home" / ".kaggle" / "kaggle.json"
        token.parent.mkdir(parents=True)
        token.write_text("{}")
        with pytest.raises(UserError, match="is no Kaggle token"):
            KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_wrong_token_is_refused_without_repeating_it(self, web, tmp_path, status):
        web.answers["/datasets/download/ada/houses"] = (status, {}, b"")
        with pytest.raises(BackendError, match="Kaggle refused 'ada'") as error:
            KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)
        assert "key-of-ada" not in str(error.value)

    def test_what_is_no_archive_is_refused(self, web, tmp_path):
        self.answer(web, b"<html>")
        with pytest.raises(BackendError, match="did not send a zip archive"):
            KaggleSource("kaggle://ada/houses", api=web.url).fetch(tmp_path, silent)

    def test_an_archive_cannot_write_outside_of_the_folder(self, web, tmp_path):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as writing:
            writing.writestr("../../evil.csv", "x")
        self.answer(web, archive.getvalue())
        into = tmp_path / "deep" / "er"
        into.mkdir(parents=True)
        arrived = KaggleSource("kaggle://ada/houses", api=web.url).fetch(into, silent)
        assert arrived.is_relative_to(into)
        assert not (tmp_path / "evil.csv").exists()

    @pytest.mark.parametrize(
        "address", ["kaggle://ada", "kaggle://a/b/c", "kaggle://../x", "kaggle://"]
    )
    def test_an_address_that_names_no_dataset_is_refused(self, address):
        with pytest.raises(UserError, match="kaggle://owner/dataset"):
            KaggleSource(address)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("houses.csv", PathSource),
        ("~/houses.csv", PathSource),
        ("https://example.org/houses.csv", HttpsSource),
        ("s3://bucket/houses.csv", S3Source),
        ("kaggle://ada/houses", KaggleSource),
    ],
)
def test_the_address_says_which_source(tmp_path, address, kind):
    assert type(open_source(address, default_project(tmp_path))) is kind


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PathSource(Path("~/a.csv").expanduser()).path == tmp_path / "a.csv"


@pytest.mark.parametrize("address", ["ftp://example.org/a", "file:///etc/passwd", "gs://b/k"])
def test_an_unknown_kind_of_address_names_the_known_ones(tmp_path, address):
    with pytest.raises(UserError, match=r"kaggle://owner/dataset"):
        open_source(address, default_project(tmp_path))
