"""Whether an address answers 200: asked without a thread, for the supervisor forks."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

_TIMEOUT_S = 5.0


async def answers(url: str) -> bool:
    """Whether GET on `http://host:port/path` is answered with 200."""
    where = urlsplit(url)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            try:
                asked = f"GET {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\nconnection: close\r\n\r\n"
                writer.write(asked.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
