"""What a worker does with what is wanted, in one process with its lead."""

import asyncio
import gc
import json
import logging
import os
import threading
import weakref

import pytest

from charkha.errors import CharkhaError, Refused
from charkha.serving.wanted import Files, Report, Wanted, read, write


def run(test):
    return asyncio.run(test)


def test_it_answers_with_the_champion_and_names_it(serving):
    async def test():
        async with serving() as server:
            said = (await server.ask(3)).json()
            assert (said["prediction"], said["version"]) == (pytest.approx(6), 2)
            assert said["variant"] == "champion"
            assert server.control.ready

    run(test())


def test_an_alias_that_moves_is_followed(serving, models):
    async def test():
        async with serving() as server:
            models.point("champion", 3)
            await server.until(lambda: server.versions == {"champion": 3})
            said = (await server.ask(3)).json()
            assert (said["prediction"], said["version"]) == (pytest.approx(9), 3)
            assert server.control.swaps == 1

    run(test())


def test_a_version_that_was_asked_for_by_number_stays(serving, models):
    async def test():
        async with serving("2") as server:
            models.point("champion", 3)
            await asyncio.sleep(0.3)
            assert server.versions == {"v2": 2}

    run(test())


def test_other_shares_load_nothing_and_keep_the_lanes(serving):
    async def test():
        async with serving("champion=90", "3=10") as server:
            before = server.switch.routes
            await asyncio.to_thread(server.lead.set_shares, {"champion": 1, "v3": 3})
            now = server.switch.routes
            assert now.live == before.live
            assert now.shares == (1, 3)
            assert len(server.made) == 2

    run(test())


def test_a_change_is_answered_once_it_holds(serving):
    async def test():
        async with serving("champion=1", "3=1") as server:
            for share in range(5):
                await asyncio.to_thread(server.lead.set_shares, {"champion": share, "v3": 1})
                assert server.switch.routes.shares == (share, 1)

    run(test())


def test_a_version_that_answers_otherwise_than_recorded_changes_nothing(serving, models, caplog):
    models.broken(5, 5.0)

    async def test():
        async with serving() as server:
            models.point("champion", 5)
            await server.until(lambda: server.control.failures == 1)
            await server.until(lambda: server.lead.status()["troubles"])
            assert server.versions == {"champion": 2}
            assert (await server.ask(3)).json()["version"] == 2
            (trouble,) = server.lead.status()["troubles"]
            assert (trouble["variant"], trouble["version"], trouble["tries"]) == ("champion", 5, 1)
            assert "answers its recorded examples otherwise" in trouble["why"]
            assert "answers its recorded examples otherwise" in caplog.text
            await asyncio.sleep(0.5)  # many looks at the registry
            assert server.control.failures == 1  # it waits before it tries again
            models.point("champion", 4)
            await server.until(lambda: server.versions == {"champion": 4})
            await server.until(lambda: not server.lead.status()["troubles"])

    run(test())


def test_a_version_whose_bytes_are_gone_changes_nothing(serving, models):
    digest = models.add(5, 5.0)
    for blob in (models.project.state / "blobs").rglob(f"*{digest[4:]}*"):
        blob.unlink()

    async def test():
        async with serving() as server:
            models.point("champion", 5)
            await server.until(lambda: server.lead.status()["troubles"])
            assert server.versions == {"champion": 2}

    run(test())


def test_a_model_whose_library_raises_changes_nothing(serving, models, caplog):
    models.add(5, 5.0, "native")

    class Raising:
        form = "native"

        def predict(self, rows):
            raise ZeroDivisionError

    async def test():
        async with serving() as server:

            def refuse(name, role, model):
                raise ZeroDivisionError("no lane")

            server.control._make = refuse
            models.point("champion", 5)
            await server.until(lambda: server.lead.status()["troubles"])
            assert "ZeroDivisionError: no lane" in server.lead.status()["troubles"][0]["why"]
            assert (await server.ask(3)).json()["version"] == 2

    run(test())


def test_a_package_without_recorded_examples_is_warmed_and_said_to_be_unchecked(
    serving, models, package, caplog, tmp_path
):
    old = tmp_path / "old" / "package"
    old.mkdir(parents=True)
    for path in package("line", 5.0).iterdir():
        if path.is_file() and path.name != "examples.json":
            (old / path.name).write_bytes(path.read_bytes())
    about = json.loads((old / "package.json").read_text())
    del about["examples"]
    (old / "package.json").write_text(json.dumps(about | {"format": 1}))
    models.add_package(5, old)
    models.point("champion", 5)

    async def test():
        with caplog.at_level(logging.WARNING):
            async with serving() as server:
                assert (await server.ask(3)).json()["prediction"] == pytest.approx(15)
                # The worker answers as soon as it can; what it holds it tells a moment later.
                await server.until(lambda: "variants" in server.lead.status()["workers"][0])
                held = server.lead.status()["workers"][0]["variants"][0]
                assert held["examples"] == 0

    run(test())
    assert "prices@5 has no recorded examples: it is warmed, and not checked" in caplog.text


def test_what_left_answers_what_it_was_asked_for(serving, models):
    release, asked = threading.Event(), threading.Event()

    class Slow:
        form = "onnx"

        def __init__(self, predictor):
            self.predictor = predictor

        def predict(self, rows):
            asked.set()
            release.wait(20)
            return self.predictor.predict(rows)

    async def test():
        async with serving(wrap=lambda predictor, role: Slow(predictor)) as server:
            waiting = asyncio.create_task(server.ask(3))
            await server.until(asked.is_set)
            server.wrap = lambda predictor, role: predictor
            models.point("champion", 3)
            await server.until(lambda: server.versions == {"champion": 3})
            assert (await server.ask(3)).json()["version"] == 3
            assert server.made[0].in_flight == 1
            release.set()
            said = (await waiting).json()
            assert (said["prediction"], said["version"]) == (pytest.approx(6), 2)
            await server.until(lambda: not server.control._leaving)

    run(test())


@pytest.mark.parametrize("kind", ["line", "native"])
def test_the_memory_of_what_left_is_free_without_a_collection(serving, models, kind):
    models.add(5, 5.0, kind)
    models.point("champion", 5)

    async def test():
        async with serving() as server:
            await server.ask(3)
            left = weakref.ref(server.made[0].model.predictor)
            server.made.clear()
            gc.disable()  # after gc.freeze() a cycle would stay for ever
            try:
                models.point("champion", 3)
                await server.until(lambda: server.versions == {"champion": 3})
                server.made.clear()
                await server.until(lambda: left() is None)
            finally:
                gc.enable()

    run(test())


def test_two_variants_of_one_version_share_a_twin_and_not_a_native_model(serving, models):
    models.add(5, 5.0, "native")

    async def test():
        async with serving("a:2", "b:2", "c:5", "d:5") as server:
            a, b, c, d = server.switch.routes.live
            assert a.model is b.model
            assert c.model is not d.model
            assert len({(await server.ask(1)).json()["variant"] for _ in range(60)}) == 4

    run(test())


def test_a_server_that_comes_up_again_has_the_shares_that_were_set(serving, models):
    async def test():
        async with serving("champion=90", "3=10") as server:
            await asyncio.to_thread(server.lead.set_shares, {"champion": 1, "v3": 2})
        async with serving("champion=90", "3=10") as server:
            assert server.switch.routes.shares == (1, 2)
        async with serving("champion=50", "3=50") as server:  # another command line begins anew
            assert server.switch.routes.shares == (50, 50)

    run(test())


def test_a_champion_that_moved_meanwhile_is_served_from_the_start(serving, models):
    async def test():
        async with serving():
            pass
        models.point("champion", 3)
        async with serving() as server:
            assert server.versions == {"champion": 3}

    run(test())


def test_one_that_moved_meanwhile_and_cannot_be_loaded_leaves_the_old_one(serving, models):
    async def test():
        async with serving():
            pass
        models.broken(5, 5.0)
        models.point("champion", 5)
        async with serving() as server:
            assert server.versions == {"champion": 2}
            await server.until(lambda: server.lead.status()["troubles"])
            await server.until(lambda: server.lead.status()["workers"][0]["done"])
            assert server.lead.status()["variants"][0]["version"] == 2
            assert server.control.failures == 1

    run(test())


def test_a_first_start_with_a_version_that_fails_is_refused_with_its_reason(serving, models):
    models.broken(5, 5.0)

    async def test():
        with pytest.raises(Refused, match="row .* of .* off by"):
            async with serving("5"):
                pass

    run(test())
    files = Files(models.project.state / "serving", "prices")
    wanted = read(files.wanted, Wanted)
    assert "off by" in read(files.report(wanted.server, 0), Report).failed


def test_a_registry_that_is_down_keeps_what_is_served_and_says_so_once(serving, models, caplog):
    async def test():
        async with serving() as server:
            models.path.rename(models.path.with_suffix(".away"))
            models.path.write_bytes(b"no database" * 200)
            await server.until(lambda: not server.lead.registry_answers)
            assert (await server.ask(3)).json()["version"] == 2
            await asyncio.sleep(0.4)
            assert caplog.text.count("the registry does not answer") == 1
            status = server.lead.status()["registry"]
            assert not status["reachable"]
            assert "not MLflow's database" in status["why"]
            models.path.with_suffix(".away").rename(models.path)
            models.point("champion", 3)
            await server.until(lambda: server.versions == {"champion": 3})
            assert caplog.text.count("the registry answers again") == 1

    with caplog.at_level(logging.INFO):
        run(test())


def test_a_registry_that_is_not_to_be_followed_is_asked_for_what_is_added_only(serving, models):
    async def test():
        async with serving(every_s=0) as server:
            models.point("champion", 3)
            await asyncio.sleep(0.4)
            assert server.versions == {"champion": 2}
            await asyncio.to_thread(server.lead.add, _asked("next:champion"))
            assert server.versions == {"champion": 2, "next": 3}

    run(test())


def test_a_server_comes_up_without_its_registry(serving, models):
    async def test():
        async with serving():
            pass
        models.path.unlink()
        models.path.write_bytes(b"no database" * 200)
        async with serving() as server:
            assert (await server.ask(3)).json()["version"] == 2

    run(test())


def test_an_alias_that_is_taken_away_keeps_what_is_served(serving, models):
    async def test():
        async with serving() as server:
            models._execute("DELETE FROM registered_model_aliases")
            await asyncio.sleep(0.3)
            assert server.versions == {"champion": 2}
            assert server.lead.registry_answers

    run(test())


def test_a_second_server_in_the_same_folder_is_refused(serving, models):
    pid = os.fork()  # a lock of its own process does not stop it
    if pid == 0:
        from charkha.serving.wanted import take_lock

        held = take_lock(Files(models.project.state / "serving", "prices"))
        (models.project.root / "held").touch()
        while not (models.project.root / "done").exists():
            pass
        held.close()
        os._exit(0)
    try:
        while not (models.project.root / "held").exists():
            pass

        async def test():
            with pytest.raises(Refused, match=f"by process {pid}"):
                async with serving():
                    pass

        run(test())
    finally:
        (models.project.root / "done").touch()
        os.waitpid(pid, 0)


def test_a_worker_that_drains_leaves_the_file_of_its_successor_alone(serving, models):
    async def test():
        async with serving() as server:
            server.lead.close()  # it gives the lead up, and drains
            files = Files(models.project.state / "serving", "prices")
            mine = read(files.wanted, Wanted)
            theirs = Wanted(
                model="prices", server="another", generation=99, variants=mine.variants[:0]
            )
            write(files.wanted, theirs)
            await asyncio.sleep(0.4)
            assert (await server.ask(3)).status_code == 200
            assert read(files.report("another", 0), Report) is None

    run(test())


def test_what_is_loading_is_given_up_where_something_newer_is_wanted(serving, models, monkeypatch):
    release = threading.Event()
    from charkha.serving import control

    load = control.load_checked

    def slow(project, model, variant):
        if variant.version == 3:
            release.wait(20)
        return load(project, model, variant)

    monkeypatch.setattr(control, "load_checked", slow)

    async def test():
        async with serving("2=1", load_s=0.5) as server:
            with pytest.raises(CharkhaError, match=r"worker 0 has not done it within 0\.5 s"):
                await asyncio.to_thread(server.lead.add, _asked("3"))
            await asyncio.to_thread(server.lead.add, _asked("4"))  # while 3 is still at it
            assert server.versions == {"v2": 2, "v4": 4}
            release.set()
            await asyncio.sleep(0.2)
            assert server.versions == {"v2": 2, "v4": 4}

    run(test())


def _asked(text, **how):
    from charkha.serving.wanted import read_asked

    return read_asked(text, **how)
