"""The plain-data graph: its order, and what is wrong with one that has none."""

import json

import pytest

from charkha.errors import ProjectError
from charkha.pipeline.graph import Graph, Node


def node(name, *needs):
    arguments = {need: {"step": need, "output": "result"} for need in needs}
    return Node(name=name, function=f"m:{name}", arguments=arguments)


def graph(*nodes):
    return Graph(pipeline="m:p", params={}, nodes={n.name: n for n in nodes})


def test_every_step_stands_after_what_it_needs():
    order = graph(node("d", "b", "c"), node("b", "a"), node("c", "a"), node("a")).order()
    assert order == ["a", "b", "c", "d"]


def test_what_is_needed_inside_of_lists_and_dicts_counts():
    nested = {"list": [{"dict": {"x": {"step": "a", "output": "result"}}}]}
    made = graph(Node(name="b", function="m:b", arguments={"xs": nested}), node("a"))
    assert made.order() == ["a", "b"]
    assert made.dependents() == {"a": ["b"], "b": []}


def test_a_cycle_is_named_step_by_step():
    with pytest.raises(ProjectError, match="wait for each other: b → d → c → b"):
        graph(node("a"), node("b", "d"), node("c", "b"), node("d", "c", "a")).order()


def test_a_step_that_needs_what_nobody_makes_is_named():
    with pytest.raises(ProjectError, match="step 'b': reads 'ghost', which no step makes"):
        graph(node("b", "ghost")).order()


def test_a_graph_is_json():
    made = graph(node("a"), node("b", "a"))
    assert json.loads(json.dumps(made.as_json()))["nodes"]["b"]["options"]["retries"] == 0


def test_a_thousand_steps_in_a_row_have_an_order():
    nodes = [node("s0"), *(node(f"s{i}", f"s{i - 1}") for i in range(1, 1000))]
    assert graph(*reversed(nodes)).order() == [n.name for n in nodes]
