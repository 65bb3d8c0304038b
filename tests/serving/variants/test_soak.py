"""Thousands of requests while versions are swapped and shares change: no error, no wrong answer."""

import asyncio
import itertools
import json
import math
from collections import Counter
from random import Random

from charkha.serving.variants import Rendezvous
from charkha.serving.wanted import read_asked

CLIENTS, SWAPS, SHARES = 16, 20, 50
RANDOM = Random(0)  # only the changes: who meets whom is up to the threads


class Client:
    """Asks one request after the other under one key, and remembers what was wrong."""

    def __init__(self, server, number):
        self.server, self.key = server, f"customer-{number}".encode()
        self.area = itertools.count(number)
        self.wrong, self.answered = [], Counter()

    async def ask(self, sticky):
        area = float(next(self.area) % 40 + 1)
        headers = {b"charkha-key": self.key} if sticky else {}
        future = asyncio.get_running_loop().create_future()
        routes = self.server.switch.routes
        self.server.endpoint.begin(
            "/predict",
            headers,
            b'{"area": %r}' % area,
            lambda status, body, own, request_id: future.set_result((status, body)),
        )
        status, body = await asyncio.wait_for(future, 20)
        told = json.loads(body)
        if status != 200 or abs(told["prediction"] - told["version"] * area) > 1e-2:
            self.wrong.append((status, told))
            return
        self.answered[told["variant"]] += 1
        if sticky:
            names = [variant.name for variant in routes.live]
            expected = names[Rendezvous(names, routes.shares).find(self.key)]
            if told["variant"] != expected:
                self.wrong.append((expected, told))

    async def run(self, stop):
        while not stop.is_set() and not self.wrong:
            await self.ask(sticky=RANDOM.random() < 0.5)


def test_nothing_goes_wrong_while_everything_changes(serving, models):
    async def test():
        async with serving("champion=50", "3=50", "+next:4") as server:
            stop = asyncio.Event()
            clients = [Client(server, number) for number in range(CLIENTS)]
            running = [asyncio.create_task(client.run(stop)) for client in clients]
            for turn in range(SHARES):
                if turn * SWAPS // SHARES != (turn - 1) * SWAPS // SHARES:
                    version = 2 + (turn * SWAPS // SHARES + 1) % 3
                    models.point("champion", version)
                    await server.until(lambda v=version: server.versions["champion"] == v)
                shares = {"champion": RANDOM.randint(0, 5), "v3": RANDOM.randint(1, 5)}
                await asyncio.to_thread(server.lead.set_shares, shares)
            stop.set()
            await asyncio.gather(*running)
            assert [wrong for client in clients for wrong in client.wrong] == []
            assert sum(sum(client.answered.values()) for client in clients) > 2000
            assert server.control.swaps >= SWAPS - 1
            await server.until(lambda: not server.control._leaving)
            assert len(server.made) == server.control.swaps + 3
            live = [record[0] for _, role, _, record in server.records if role == "live"]
            assert (
                len(live)
                == len(set(live))
                == sum(sum(client.answered.values()) for client in clients)
            )

    asyncio.run(test())


def test_shares_come_out_as_asked_and_keys_stay_while_versions_are_swapped(serving, models):
    async def test():
        async with serving("champion=80", "3=20") as server:
            clients = [Client(server, number) for number in range(300)]
            for version in (3, 4, 2):
                models.point("champion", version)
                await server.until(lambda v=version: server.versions["champion"] == v)
                await asyncio.gather(*(client.ask(sticky=True) for client in clients))
            assert all(len(client.answered) == 1 for client in clients)  # its variant, each time
            for client in clients:
                client.answered.clear()
            for _ in range(10):
                await asyncio.gather(*(client.ask(sticky=False) for client in clients))
            assert [wrong for client in clients for wrong in client.wrong] == []
            counted = sum((client.answered for client in clients), Counter())
            error = math.sqrt(0.8 * 0.2 / 3000)
            assert abs(counted["champion"] / 3000 - 0.8) < 4.5 * error

    asyncio.run(test())


def test_variants_come_and_go_under_load(serving):
    async def test():
        async with serving("champion=50", every_s=60.0) as server:
            stop = asyncio.Event()
            clients = [Client(server, number) for number in range(CLIENTS)]
            running = [asyncio.create_task(client.run(stop)) for client in clients]
            for turn in range(8):
                shadow = turn % 2 == 1
                asked = read_asked("next:3" if shadow else "next:4=50", shadow=shadow)
                await asyncio.to_thread(server.lead.add, asked)
                await asyncio.to_thread(server.lead.drop, "next")
            stop.set()
            await asyncio.gather(*running)
            assert [wrong for client in clients for wrong in client.wrong] == []

    asyncio.run(test())
