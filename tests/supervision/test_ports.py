"""Ports that are free: the wanted one, or the next."""

import contextlib
import socket
import subprocess
import sys

import pytest

from charkha.errors import UserError
from charkha.supervision.ports import HIGHEST, Ports


@pytest.fixture
def listening():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        yield taken.getsockname()[1]


def test_a_taken_port_gives_the_next_free_one(listening):
    with Ports() as ports:
        assert ports.find("127.0.0.1", listening) > listening


def test_a_port_is_given_once_though_nobody_listens_yet():
    with Ports() as ports:
        first = ports.find("127.0.0.1", 0)
        assert ports.find("127.0.0.1", first) > first


LOOKS = """
import sys
from charkha.supervision.ports import Ports
with Ports() as ports:
    print(ports.find("127.0.0.1", int(sys.argv[1])))
"""


def looked(port):
    done = subprocess.run(
        [sys.executable, "-c", LOOKS, str(port)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_another_supervisor_gets_another_port_until_the_first_has_ended():
    with Ports() as ports:
        first = ports.find("127.0.0.1", 0)
        assert looked(first) > first
    assert looked(first) == first


def test_an_address_of_another_machine_is_refused():
    with Ports() as ports, pytest.raises(UserError, match=r"192\.0\.2\.1 is no address"):
        ports.find("192.0.2.1", 0)


def test_a_name_that_nobody_knows_is_refused():
    with Ports() as ports, pytest.raises(UserError, match="no address of this machine"):
        ports.find("no-such-host.invalid", 0)


def test_no_port_is_above_the_highest():
    with Ports() as ports, contextlib.suppress(UserError):
        assert ports.find("127.0.0.1", HIGHEST) == HIGHEST
