"""What tests of several rooms stand on: an S3 endpoint on loopback (moto's)."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.request import urlopen

import boto3
import pytest

_names = count()


@dataclass(frozen=True, kw_only=True)
class S3:
    endpoint_url: str
    access_key: str = "charkha"
    secret_key: str = "not-a-secret"  # noqa: S105
    page_keys: int = 50  # that a listing brings; AWS's 1,000 would take a minute to exceed

    def make_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"bucket-{os.getpid()}-{next(_names)}"
        self.client.create_bucket(Bucket=name)
        return name

    @property
    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )


@pytest.fixture(scope="session")
def s3():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(S3.page_keys)},
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(f"{endpoint}/moto-api/", server)
        yield S3(endpoint_url=endpoint)
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url, server, timeout_s=60):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    raise RuntimeError(f"moto_server does not answer at {url}")


def pytest_collection_modifyitems(items):
    """Begin with the pages of the docs: a minute or two each, and nobody else left at the end."""
    items.sort(key=lambda item: "test_docs.py" not in item.nodeid)
