"""Stands for Python where a process starts another: has the zygote fork it, and ends as that ends."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress


def open_files():
    for number in range(64):
        with suppress(OSError):
            os.fstat(number)
            yield number


given = list(open_files())
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(f"{sys.argv[0]}.link")
order = {"words": sys.argv[1:], "files": given, "folder": os.getcwd(), "environ": dict(os.environ)}
socket.send_fds(link, [json.dumps(order).encode()], given)
said = link.recv(16)
if not said:  # it was killed
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(int(said))
