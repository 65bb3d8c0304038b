"""Graphs become tasks: groups are one, what they ask for adds up, and a round is refused."""

import json

import pytest

from charkha.errors import ProjectError
from charkha.pipeline.graph import Graph, Node, Options
from charkha.pipeline.plans import memory_bytes, shape_of, tasks_of


def graph(*nodes):
    return Graph(pipeline="m:p", params={}, nodes={node.name: node for node in nodes})


def node(name, *needs, each=(), **options):
    return Node(
        name=name,
        function=f"m:{name}",
        arguments={need: {"step": need, "output": "result"} for need in needs},
        each={need: {"step": need, "output": "result"} for need in each},
        options=Options(**options),
    )


def test_steps_of_one_group_are_one_task_that_waits_for_all_that_they_need():
    made = tasks_of(
        graph(
            node("a"),
            node("b"),
            node("c", "a", group="g"),
            node("d", "b", "c", group="g"),
            node("e", "d"),
        )
    )
    assert {name: (task.steps, task.needs) for name, task in made.items()} == {
        "a": (("a",), ()),
        "b": (("b",), ()),
        "g": (("c", "d"), ("a", "b")),
        "e": (("e",), ("g",)),
    }


def test_a_group_that_another_step_runs_between_is_refused():
    round = graph(node("a", group="g"), node("b", "a"), node("c", "b", group="g"))
    with pytest.raises(ProjectError, match="group 'g': waits for itself: b has to run between"):
        tasks_of(round)


def test_a_group_that_is_called_like_a_step_outside_of_it_is_refused():
    with pytest.raises(ProjectError, match="group 'a': is also the name of a step"):
        tasks_of(graph(node("a"), node("b", "a", group="a")))


def test_a_task_asks_for_the_most_of_its_steps_and_for_their_times_together():
    task = tasks_of(
        graph(
            node("a", group="g", retries=1, timeout_s=10, cpu=2, memory="1GB"),
            node("b", "a", group="g", retries=3, timeout_s=5, memory="2 GiB", retry_wait_s=4),
        )
    )["g"]
    assert (task.retries, task.retry_wait_s, task.timeout_s) == (3, 4, 15)
    assert (task.cpu, task.memory_bytes, task.gpu) == (2, 2 << 30, None)


def test_a_task_with_a_step_that_may_take_for_ever_has_no_limit():
    made = tasks_of(graph(node("a", group="g", timeout_s=10), node("b", "a", group="g")))
    assert made["g"].timeout_s is None


def test_only_a_fan_out_that_is_alone_can_be_one_task_for_each_element():
    made = tasks_of(
        graph(
            node("a"),
            node("b", each=("a",)),
            node("c", each=("b",), group="g"),
            node("d", "c", group="g"),
        )
    )
    assert {name: task.fan_out for name, task in made.items()} == {
        "a": False,
        "b": True,
        "g": False,
    }


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("2GB", 2_000_000_000), ("512MiB", 512 << 20), ("1.5 G", 1_500_000_000), ("64k", 64_000)],
)
def test_memory_is_read_as_people_write_it(text, bytes_):
    assert memory_bytes(text, "here") == bytes_


@pytest.mark.parametrize("text", ["much", "", "-1GB", "GB", "12Zi"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(ProjectError, match="is no amount of memory"):
        memory_bytes(text, "step 'a'")


def test_the_shape_of_a_graph_is_its_steps_and_not_its_values():
    one = node("a", each=("b",))
    assert shape_of(graph(node("b"), one)) == shape_of(graph(node("b", retries=3), one))
    assert shape_of(graph(node("b"), one)) != shape_of(graph(node("b"), node("a", "b")))


def test_a_graph_comes_back_from_json_as_it_was():
    made = graph(node("a", retries=2, timeout_s=1.5, gpu=0.5), node("b", each=("a",), group="g"))
    assert Graph.from_json(json.loads(json.dumps(made.as_json()))) == made
