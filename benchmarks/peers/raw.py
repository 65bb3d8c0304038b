"""Raw ASGI: the body is read, and answered with a constant or with itself; the limit of a server."""

CONSTANT = (
    b'{"id":"0192f0c1-7e1a-7000-8000-000000000000","model":"forest","version":1,'
    b'"prediction":123.45678901234567}'
)
_KIND = (b"content-type", b"application/json")
_HEADERS = [_KIND, (b"content-length", b"%d" % len(CONSTANT))]


async def constant(scope, receive, send):
    """Answer every request with the same bytes."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": CONSTANT})


async def echo(scope, receive, send):
    """Answer every request with its own body."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    headers = [_KIND, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
