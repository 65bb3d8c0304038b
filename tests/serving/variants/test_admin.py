"""The administration over HTTP, with a lead and a worker behind it."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import httpx
import jsonschema
import pytest

from charkha.serving.fastapi_admin import MOST_BYTES, hashed, make_admin

TOKEN = "a long secret"  # noqa: S105


def run(test):
    return asyncio.run(test)


@pytest.fixture
def administered(serving):
    """Return `administered(*asked)`, a context manager with a server and a client that has the token."""

    @asynccontextmanager
    async def administered(*asked, token=TOKEN, **how):
        async with serving(*asked, **how) as server:
            app = make_admin(server.lead, tokens=[hashed("another"), hashed(TOKEN)])
            headers = {"content-type": "application/json"}
            if token is not None:
                headers["authorization"] = f"Bearer {token}"
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://admin", headers=headers
            ) as admin:
                yield server, admin

    return administered


def problem(answer, status, says="", pointer=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert says in told["detail"], told
    if pointer is not None:
        assert pointer in [error["pointer"] for error in told["errors"]], told
    return told


def test_status_tells_what_is_wanted_and_what_each_worker_holds(administered):
    async def test():
        async with administered("champion=90", "3=10", "+next:4") as (server, admin):
            for n in range(4):
                await server.ask(n)
            told = (await admin.get("/status")).json()
            assert told["model"] == "prices"
            assert [(v["name"], v["version"], v["part"]) for v in told["variants"]] == [
                ("champion", 2, 0.9),
                ("v3", 3, 0.1),
                ("next", 4, 0.0),
            ]
            assert told["variants"][0]["follows"] == "champion"
            (worker,) = told["workers"]
            assert (worker["worker"], worker["alive"], worker["done"]) == (0, True, True)
            assert [(v["name"], v["form"], v["shadow"]) for v in worker["variants"]] == [
                ("champion", "onnx", False),
                ("v3", "onnx", False),
                ("next", "onnx", True),
            ]
            assert all(v["examples"] > 0 and v["in_flight"] == 0 for v in worker["variants"])
            assert told["registry"]["reachable"] is True
            assert told["troubles"] == []

    run(test())


def test_shares_hold_once_they_are_answered(administered):
    async def test():
        async with administered("champion=90", "3=10") as (server, admin):
            answer = await admin.put("/shares", json={"champion": 0, "v3": 1})
            assert answer.status_code == 200
            assert [v["share"] for v in answer.json()["variants"]] == [0, 1]
            assert {(await server.ask(n)).json()["version"] for n in range(20)} == {3}

    run(test())


def test_the_same_shares_twice_change_nothing(administered):
    async def test():
        async with administered("champion=90", "3=10") as (_, admin):
            first = (await admin.put("/shares", json={"champion": 1, "v3": 1})).json()
            again = (await admin.put("/shares", json={"champion": 1, "v3": 1})).json()
            assert first["generation"] == again["generation"]

    run(test())


def test_a_variant_comes_answers_and_goes(administered, models):
    models.point("challenger", 3)

    async def test():
        async with administered("champion=100") as (server, admin):
            new = {"name": "challenger", "alias": "challenger", "share": 100}
            answer = await admin.post("/variants", json=new)
            assert answer.status_code == 201
            assert answer.json()["variants"][1]["follows"] == "challenger"
            assert {(await server.ask(n)).json()["variant"] for n in range(40)} == {
                "champion",
                "challenger",
            }
            models.point("challenger", 4)  # it follows
            await server.until(lambda: server.versions == {"champion": 2, "challenger": 4})
            assert (await admin.delete("/variants/challenger")).status_code == 200
            assert server.versions == {"champion": 2}

    run(test())


def test_a_shadow_comes_by_number(administered):
    async def test():
        async with administered() as (server, admin):
            answer = await admin.post(
                "/variants", json={"name": "next", "version": 4, "shadow": True}
            )
            assert answer.status_code == 201
            assert server.switch.routes.shadows[0].model.version == 4
            assert {(await server.ask(n)).json()["version"] for n in range(20)} == {2}

    run(test())


def test_a_version_that_fails_its_check_is_refused_with_the_reason_and_nothing_changes(
    administered, models
):
    models.broken(5, 5.0)

    async def test():
        async with administered() as (server, admin):
            answer = await admin.post("/variants", json={"name": "next", "version": 5})
            told = problem(answer, 409, "answers its recorded examples otherwise")
            assert told["title"] == "A worker cannot take it; nothing has changed"
            assert server.versions == {"champion": 2}
            assert (await admin.get("/status")).json()["coming"] == []
            answer = await admin.post("/variants", json={"name": "next", "version": 4})
            assert answer.status_code == 201

    run(test())


@pytest.mark.parametrize(
    ("body", "status", "says", "pointer"),
    [
        ({"champion": 1, "other": 1}, 422, "no variant is called 'other'", "#/other"),
        ({"champion": 1}, 422, "'v3' has no share", "#/v3"),
        ({"champion": 0, "v3": 0}, 409, "none would have a share", None),
        ({"champion": -1, "v3": 1}, 422, "greater than or equal to 0", "#/champion"),
        ({"champion": "90", "v3": 1}, 422, "valid number", "#/champion"),
        ({"champion": True, "v3": 1}, 422, "valid number", "#/champion"),
        ({"champion": None, "v3": 1}, 422, "valid number", "#/champion"),
        ({"champion": 10**400, "v3": 1}, 422, "", "#/champion"),
        ({"a/b~": "x"}, 422, "", "#/a~1b~0"),
        ({}, 422, "at least 1 item", "#"),
        ([], 422, "dictionary", "#"),
        ("x", 422, "dictionary", "#"),
        (None, 422, "", None),
    ],
)
def test_shares_that_cannot_be_are_refused_naming_the_field(
    administered, body, status, says, pointer
):
    async def test():
        async with administered("champion=90", "3=10") as (server, admin):
            answer = await admin.put("/shares", content=json.dumps(body))
            problem(answer, status, says, pointer)
            assert server.switch.routes.shares == (90, 10)

    run(test())


@pytest.mark.parametrize(
    ("body", "status", "says", "pointer"),
    [
        (
            {"name": "n", "version": 9},
            422,
            "has no version 9; use one of: champion, 4, 3, 2",
            "#/version",
        ),
        ({"name": "n", "alias": "best"}, 422, "has no best", "#/alias"),
        ({"name": "n"}, 422, "give version or alias, and not both", "#/alias"),
        ({"name": "n", "version": 3, "alias": "champion"}, 422, "and not both", "#/version"),
        ({"name": "n", "alias": "3"}, 422, "an alias is no number", "#/alias"),
        ({"name": "n", "version": 3, "share": 5, "shadow": True}, 422, "no share", "#/share"),
        ({"name": "champion", "version": 3}, 409, "there is a variant 'champion'", "#/name"),
        ({"name": "a/b", "version": 3}, 422, "name: ", "#/name"),
        ({"name": "", "version": 3}, 422, "name: ", "#/name"),
        ({"name": "n\n", "version": 3}, 422, "name: ", "#/name"),
        ({"name": 5, "version": 3}, 422, "name: ", "#/name"),
        ({"version": 3}, 422, "name: Field required", "#/name"),
        ({"name": "n", "version": "3"}, 422, "version: ", "#/version"),
        ({"name": "n", "version": 0}, 422, "version: ", "#/version"),
        ({"name": "n", "version": 3.5}, 422, "version: ", "#/version"),
        ({"name": "n", "version": True}, 422, "version: ", "#/version"),
        ({"name": "n", "version": 3, "share": -1}, 422, "share: ", "#/share"),
        ({"name": "n", "version": 3, "shadow": "yes"}, 422, "shadow: ", "#/shadow"),
        ({"name": "n", "version": 3, "more": 1}, 422, "more: ", "#/more"),
        ([1], 422, "", None),
    ],
)
def test_a_variant_that_cannot_be_is_refused_naming_the_field(
    administered, body, status, says, pointer
):
    async def test():
        async with administered() as (server, admin):
            answer = await admin.post("/variants", content=json.dumps(body))
            problem(answer, status, says, pointer)
            assert server.versions == {"champion": 2}

    run(test())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b'{"champion": NaN, "v3": 1}', 422),
        (b'{"champion": Infinity, "v3": 1}', 422),
        (b"\xff\xfe", 400),
        (b"[" * 50_000, 400),
        (b" " * (MOST_BYTES + 1), 413),
    ],
)
def test_no_body_is_an_error_of_ours(administered, body, status):
    async def test():
        async with administered("champion=90", "3=10") as (_, admin):
            problem(await admin.put("/shares", content=body), status)

            async def in_parts():
                yield body

            problem(await admin.put("/shares", content=in_parts()), status)
            problem(await admin.post("/variants", content=in_parts()), status)

    run(test())


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read_for_any_web_page_can_send_the_rest(administered, kind):
    async def test():
        async with administered("champion=90", "3=10") as (server, admin):
            body = '{"champion": 1, "v3": 1}'
            answer = await admin.put("/shares", content=body, headers={"content-type": kind})
            problem(answer, 415, "curl: --json")
            assert server.switch.routes.shares == (90, 10)

    run(test())


def test_the_last_one_that_answers_cannot_be_dropped(administered):
    async def test():
        async with administered("champion=1", "+next:3", "4=0") as (server, admin):
            problem(await admin.delete("/variants/champion"), 409, "no variant would answer")
            problem(await admin.delete("/variants/other"), 404, "no variant is called 'other'")
            problem(await admin.delete("/variants/%2e%2e%2f"), 404)
            problem(await admin.delete("/variants/" + "x" * 5000), 422)
            assert len(server.versions) == 3

    run(test())


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Basic " + TOKEN, "bearer " + hashed(TOKEN)]
)
def test_who_has_no_token_sees_and_changes_nothing(administered, header):
    async def test():
        async with administered("champion=90", "3=10", token=None) as (server, admin):
            headers = {} if header is None else {"authorization": header}
            for method, path in (("GET", "/status"), ("PUT", "/shares"), ("GET", "/nothing")):
                answer = await admin.request(
                    method, path, headers=headers, json={"champion": 1, "v3": 1}
                )
                told = problem(answer, 401, "Bearer TOKEN")
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "champion" not in json.dumps(told)
            assert server.switch.routes.shares == (90, 10)

    run(test())


def test_each_token_opens_and_none_is_asked_where_there_is_none(serving):
    async def test():
        async with serving() as server:
            for tokens, headers in (
                ([hashed("a"), hashed("b")], {"authorization": "bearer b"}),
                ([], {}),
            ):
                transport = httpx.ASGITransport(app=make_admin(server.lead, tokens=tokens))
                async with httpx.AsyncClient(transport=transport, base_url="http://a") as admin:
                    assert (await admin.get("/status", headers=headers)).status_code == 200

    run(test())


def test_other_paths_and_methods_are_problems_too(administered):
    async def test():
        async with administered() as (_, admin):
            problem(await admin.get("/nothing"), 404)
            answer = await admin.post("/shares", json={})
            problem(answer, 405)
            assert answer.headers["allow"] == "PUT"

    run(test())


def test_a_worker_that_does_not_answer_is_named_after_a_while(administered):
    async def test():
        async with administered("champion=90", "3=10", swap_s=0.3) as (server, admin):
            server.control._watching.cancel()
            answer = await admin.put("/shares", json={"champion": 1, "v3": 1})
            problem(answer, 503, "worker 0 has not done it within 0.3 s")
            assert answer.headers["retry-after"] == "5"
            assert (await admin.get("/status")).json()["workers"][0]["done"] is False

    run(test())


def test_one_change_waits_for_another_and_not_for_ever(administered, monkeypatch):
    from charkha.serving import control

    release, load = threading.Event(), control.load_checked

    def slow(*given):
        release.wait(20)
        return load(*given)

    async def test():
        async with administered("champion=90", "3=10", swap_s=0.3) as (server, admin):
            monkeypatch.setattr(control, "load_checked", slow)
            adding = asyncio.create_task(
                admin.post("/variants", json={"name": "next", "version": 4})
            )
            await server.until(lambda: server.lead.status()["coming"])
            answer = await admin.put("/shares", json={"champion": 1, "v3": 1})
            problem(answer, 503, "another change is under way")
            assert (await server.ask(3)).status_code == 200
            release.set()
            assert (await adding).status_code == 201

    run(test())


def test_openapi_describes_what_is_answered(administered):
    async def test():
        async with administered("champion=90", "3=10", token=None) as (_, admin):
            document = (await admin.get("/openapi.json")).json()
            assert set(document["paths"]) == {"/status", "/shares", "/variants", "/variants/{name}"}
            assert document["security"] == [{"token": []}]
            put = document["paths"]["/shares"]["put"]
            assert set(put["responses"]) == {"200", "400", "401", "409", "413", "415", "422", "503"}
            schema = document["components"]["schemas"]["Problem"]
            jsonschema.Draft202012Validator.check_schema(schema)
            answer = await admin.put("/shares", json={"champion": 1})
            jsonschema.validate(answer.json(), schema)
            assert "ValidationError" not in json.dumps(document)

    run(test())
