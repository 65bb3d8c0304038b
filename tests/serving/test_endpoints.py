"""The table of endpoints, from which the reference is made, against what a server answers."""

import httpx
import pytest

from charkha.serving.app import predicts
from charkha.serving.endpoints import ADMINISTRATION, BESIDE, PREDICT, Route

DOCUMENTATION = ("/docs", "/openapi.json")


def filled(path):
    return path.replace("{name}", "times").replace("{version}", "1")


def asked(url, route: Route, **how):
    return httpx.request(route.method, url + filled(route.path), timeout=30, **how).status_code


@pytest.mark.parametrize("route", PREDICT, ids=lambda route: route.path)
def test_what_predicts_is_the_endpoints_own(route):
    assert predicts(filled(route.path))


def test_every_path_of_the_table_is_answered(serve, registered):
    url = serve(registered.root, "--port", "0").url
    assert {r.path: asked(url, r) for r in BESIDE if r.method == "GET"} == {
        r.path: 200 for r in BESIDE if r.method == "GET"
    }
    refused = {r.path: asked(url, r, content=b"{") for r in (*PREDICT, *BESIDE) if r.scope}
    assert refused == dict.fromkeys(refused, 400)


def test_every_path_of_the_administration_is_in_the_table(serve, registered):
    told = serve(registered.root, "--port", "0", "--admin-port", "0").told
    url, token = told["admin_url"], {"authorization": f"Bearer {told['admin_token']}"}
    described = httpx.get(f"{url}/openapi.json", headers=token, timeout=30).json()["paths"]
    known = {(method.upper(), path) for path, methods in described.items() for method in methods}
    table = {(r.method, r.path) for r in ADMINISTRATION if r.path not in DOCUMENTATION}
    assert known == table
    for path in DOCUMENTATION:
        assert httpx.get(f"{url}{path}").status_code == 200
    assert all(asked(url, r) == 401 for r in ADMINISTRATION if r.path not in DOCUMENTATION)
