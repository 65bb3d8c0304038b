"""API keys: who may ask what, and how a server hears of a change."""

import json
import os
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from charkha.errors import UserError
from charkha.serving import keys
from charkha.serving.keys import Keys, add_key, expiry, keys_for, read_keys, revoke_key
from charkha.serving.problems import Problem


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "keys.json"


@pytest.fixture
def shop(file):
    """Return the kept key and its text: it may ask `houses` for predictions."""
    return add_key(file, "shop", models=["houses"])


def bearer(text):
    return {b"host": b"x", b"authorization": f"Bearer {text}".encode()}


def refused(known, headers, model="houses", scope="predict"):
    with pytest.raises(Problem) as told:
        known.allowed(headers, model, scope)
    return told.value


def challenge(problem):
    return dict(problem.headers)[b"www-authenticate"].decode()


@pytest.mark.parametrize(
    "headers",
    [
        lambda text: {b"authorization": f"Bearer {text}".encode()},
        lambda text: {b"authorization": f"bearer  {text} ".encode()},
        lambda text: {b"x-api-key": text.encode()},
        lambda text: {b"x-api-key": text.encode(), b"authorization": b"Basic eDp5"},
    ],
)
def test_a_key_is_known_in_either_header(file, shop, headers):
    made, text = shop
    assert Keys(file).allowed(headers(text), "houses") == made.id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Basic eDp5"},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer charkha_x"},
        {b"x-api-key": b""},
        {b"x-api-key": b"\xff\x00"},
        {b"x-api-key": b"x" * 100_000},
    ],
)
def test_without_a_known_key_it_is_401_with_a_challenge(file, shop, headers):
    problem = refused(Keys(file), headers)
    assert problem.status == 401
    assert challenge(problem).startswith('Bearer realm="charkha"')


def test_the_digest_that_is_kept_is_no_key(file, shop):
    made, _ = shop
    assert refused(Keys(file), bearer(made.sha256)).status == 401
    assert refused(Keys(file), bearer(made.id)).status == 401


def test_a_key_opens_its_models_and_no_other(file, shop):
    _, text = shop
    problem = refused(Keys(file), bearer(text), model="cars")
    assert problem.status == 403
    assert 'error="insufficient_scope"' in challenge(problem)
    made, every = add_key(file, "ops", models=["*"])
    assert Keys(file).allowed(bearer(every), "cars") == made.id


@pytest.mark.parametrize("scope", ["feedback", "admin"])
def test_a_key_allows_its_scopes_and_no_other(file, shop, scope):
    _, text = shop
    assert refused(Keys(file), bearer(text), scope=scope).status == 403
    made, wider = add_key(file, "truth", models=["houses"], scopes=[scope])
    assert Keys(file).allowed(bearer(wider), "houses", scope) == made.id
    assert refused(Keys(file), bearer(wider)).status == 403


def test_a_key_ends_when_it_expires(file, shop, monkeypatch):
    made, text = add_key(
        file, "guest", models=["houses"], expires=datetime.now(UTC) + timedelta(hours=1)
    )
    known = Keys(file)
    assert known.allowed(bearer(text), "houses") == made.id
    later = datetime.now(UTC).timestamp() + 3601
    monkeypatch.setattr(keys.time, "time", lambda: later)
    problem = refused(known, bearer(text))
    assert (problem.status, problem.kind) == (401, "key-ended")
    assert made.expires in problem.detail
    assert known.allowed(bearer(shop[1]), "houses") == shop[0].id


def test_a_running_server_hears_of_new_and_revoked_keys(file, shop):
    known = Keys(file)
    made, text = add_key(file, "second", models=["houses"])
    assert refused(known, bearer(text)).status == 401
    known.refresh()
    assert known.allowed(bearer(text), "houses") == made.id
    revoke_key(file, "shop")
    known.refresh()
    assert refused(known, bearer(shop[1])).kind == "key-ended"
    assert known.allowed(bearer(text), "houses") == made.id


@pytest.mark.parametrize(
    "break_it",
    [
        lambda file: file.write_text('{"charkha_keys": 1, "keys": ['),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text("7"),
        lambda file: file.write_text('{"charkha_keys": 1, "keys": 7}'),
        lambda file: file.write_text('{"charkha_keys": 1, "keys": [{"id": "x"}]}'),
        lambda file: file.write_text('{"charkha_keys": 2, "keys": []}'),
        lambda file: file.write_bytes(b"\xff\xfe"),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o602),
    ],
)
def test_a_file_that_breaks_changes_nothing_and_is_told_once(file, shop, caplog, break_it):
    made, text = shop
    known = Keys(file)
    break_it(file)
    os.utime(file.parent)
    if file.exists():
        os.utime(file, ns=(1, 1))
    known.refresh()
    known.refresh()
    assert known.allowed(bearer(text), "houses") == made.id
    [record] = caplog.records
    assert "stay as they were" in record.message
    with pytest.raises(UserError):
        Keys(file)


def change(file, **values):
    told = json.loads(file.read_text())
    told["keys"][0] |= values
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "values",
    [
        {"sha256": "abc"},
        {"sha256": "zz"},
        {"sha256": "abcd"},
        {"sha256": None},
        {"models": "*"},
        {"models": [1]},
        {"scopes": "predict"},
        {"expires": "soon"},
        {"expires": 7},
        {"colour": "red"},
    ],
)
def test_a_key_that_was_edited_wrongly_is_refused(file, shop, values):
    change(file, **values)
    with pytest.raises(UserError, match="no file of API keys"):
        read_keys(file)


def test_the_file_is_for_its_owner_alone_and_has_no_key_in_it(file, shop):
    _, text = shop
    assert file.stat().st_mode & 0o777 == 0o600
    assert text.removeprefix("charkha_") not in file.read_text()
    assert len(text) > 43  # 256 bits


def test_many_at_once_lose_no_key(file):
    def add():
        for _ in range(5):
            add_key(file, "many", models=["houses"])

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = read_keys(file)
    assert len({key.id for key in made}) == len({key.sha256 for key in made}) == 40
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_a_key_is_revoked_by_its_name_where_one_valid_key_has_it(file, shop):
    second, _ = add_key(file, "shop", models=["houses"])
    with pytest.raises(UserError, match="several") as told:
        revoke_key(file, "shop")
    assert second.id in told.value.fix
    assert revoke_key(file, shop[0].id).state == "revoked"
    assert revoke_key(file, "shop").id == second.id
    with pytest.raises(UserError, match="no valid key"):
        revoke_key(file, "shop")


def test_revoking_twice_keeps_the_first_moment(file, shop, monkeypatch):
    first = revoke_key(file, shop[0].id)
    monkeypatch.setattr(keys, "_iso", lambda moment: "2099-01-01T00:00:00Z")
    assert revoke_key(file, shop[0].id) == first


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 90 * 86400), ("12h", 12 * 3600), ("2w", 14 * 86400)]
)
def test_a_span_of_time_starts_now(text, seconds):
    assert abs((expiry(text) - datetime.now(UTC)).total_seconds() - seconds) < 60


def test_a_date_is_in_utc_unless_it_says_otherwise():
    assert expiry("2999-01-31") == datetime(2999, 1, 31, tzinfo=UTC)
    assert expiry("2999-01-31T12:00:00+02:00") == datetime(2999, 1, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "d", "0d", "-3d", "3y", "soon", "2020-01-01", "9" * 30 + "d"])
def test_what_is_no_time_to_come_is_refused(text):
    with pytest.raises(UserError):
        expiry(text)


LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
OPEN = ["0.0.0.0", "::", "192.168.1.7", "model.internal", ""]  # noqa: S104


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_no_key_is_needed_unless_it_is_said(file, host):
    assert keys_for("auto", host, file) is None
    with pytest.raises(UserError, match="requires API keys"):
        keys_for("required", host, file)


@pytest.mark.parametrize("host", OPEN)
def test_on_every_other_address_a_key_is_needed_unless_it_is_said(file, host):
    with pytest.raises(UserError, match="requires API keys") as told:
        keys_for("auto", host, file)
    assert told.value.fix == "charkha keys add NAME"
    assert keys_for("off", host, file) is None
    add_key(file, "shop", models=["houses"])
    assert keys_for("auto", host, file) is not None


def test_revoked_keys_alone_are_none(file, shop):
    revoke_key(file, shop[0].id)
    with pytest.raises(UserError, match="no valid key"):
        keys_for("required", "127.0.0.1", file)


def test_a_server_asks_for_keys_and_hears_of_changes_without_a_restart(serve, registered, tmp_path):
    root = tmp_path / "keyed"
    shutil.copytree(registered.root, root)
    with (root / "charkha.toml").open("a") as toml:
        toml.write('auth = "required"\n')
    file = root / ".charkha" / "keys.json"
    (_, first), (truth, feedback) = (
        add_key(file, "shop", models=["times"]),
        add_key(file, "truth", models=["times"], scopes=["feedback"]),
    )
    server = serve(root, "--port", "0")

    def asked(key, path="/predict"):
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.post(f"{server.url}{path}", json={"area": 3}, headers=headers).status_code

    assert [asked(None), asked("charkha_x"), asked(feedback), asked(first)] == [401, 401, 403, 200]
    assert [asked(first, "/feedback"), asked(None, "/feedback")] == [403, 401]
    assert asked(feedback, "/feedback") == 422  # let in, and no feedback
    assert all(
        httpx.get(f"{server.url}{path}").status_code == 200
        for path in ("/healthz", "/readyz", "/metrics")
    )
    _, second = add_key(file, "shop", models=["times"])
    until(lambda: asked(second) == 200)
    revoke_key(file, truth.id)
    until(lambda: asked(feedback, "/feedback") == 401)
    _, err = server.end()
    assert not [key for key in (first, second, feedback) if key in err]
    assert "the API keys have changed" in err


def until(reached, patience_s=20):
    end = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_server_that_needs_keys_and_has_none_does_not_start(serve, registered):
    with pytest.raises(AssertionError, match="charkha keys add NAME"):
        serve(registered.root, "--port", "0", "--host", "0.0.0.0")  # noqa: S104
