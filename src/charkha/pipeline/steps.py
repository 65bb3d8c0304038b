"""`@step` and `@pipeline`: functions that stay functions, and are traced into a graph.

While a pipeline is being traced, calling a step adds a node and returns a Ref that stands for the
value; at any other time a step is the plain function that it was made from.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from charkha.errors import ProjectError, UserError
from charkha.pipeline.codecs.json import JsonCodec
from charkha.pipeline.devices import problem
from charkha.pipeline.graph import Binding, Graph, Node, Options
from charkha.pipeline.loaded import remember
from charkha.pipeline.values import Source

if TYPE_CHECKING:
    from charkha.project import Project

P = ParamSpec("P")
R = TypeVar("R")

functions: dict[str, Callable[..., Any]] = {}  # "module:qualname" -> the plain function of a step

_tracing: _Trace | None = None
_json = JsonCodec()


class Ref:
    """Stands, while a pipeline is traced, for what a step will return."""

    def __init__(self, step: str, output: str) -> None:
        self.step, self.output = step, output

    def __repr__(self) -> str:
        return f"<{self.output!r} of step {self.step!r}, known once it has run>"

    def _refuse(self, *_: object) -> NoReturn:
        raise ProjectError(
            f"the pipeline looks into {self!r}",
            where=f"step {self.step!r}",
            fix="give it to a step and look into it there",
        )

    __bool__ = __iter__ = __len__ = __getitem__ = __call__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python itself asks for, to copy or to show
            raise AttributeError(name)
        self._refuse()


class Refs(tuple[Ref, ...]):
    """The outputs of a step with several: unpacked in order, or taken by name."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        for ref in self:
            if ref.output == name:
                return ref
        raise AttributeError(f"no output {name!r}; there are: {', '.join(r.output for r in self)}")


class Step(Generic[P, R]):
    """A function that can be a node of a pipeline."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None,
        outputs: tuple[str, ...] | None,
        env: tuple[str, ...],
        options: Options,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.env, self.options = function, env, options
        self.name = name or function.__name__
        self.outputs = outputs or _named_outputs(function) or ("result",)
        self.signature = inspect.signature(function)
        functions[reference(function)] = function
        remember(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if _tracing is None:
            return self.function(*args, **kwargs)
        return cast("R", _tracing.add(self, self._bind(args, kwargs), {}))

    def each(self, **lists: Any) -> Callable[..., Any]:
        """Run once for each element: `fit.each(alpha=[0.1, 1.0])(rows)` returns two models.

        Several lists are walked side by side and have to be of one length. A list may be one that a
        step returned. The result is a list, to be given to a step that takes them all.
        """
        if not lists:
            raise ProjectError("each() got no list", where=f"step {self.name!r}")

        def fan_out(*args: object, **kwargs: object) -> object:
            if _tracing is None:
                rows = zip(*lists.values(), strict=True)
                return [self(*args, **kwargs, **dict(zip(lists, row, strict=True))) for row in rows]  # type: ignore[arg-type]
            placeholders: dict[str, object] = dict.fromkeys(lists)
            given = self._bind(args, {**kwargs, **placeholders})
            return _tracing.add(self, {k: v for k, v in given.items() if k not in lists}, lists)

        return fan_out

    def __repr__(self) -> str:
        return f"<step {self.name!r} of {self.function.__module__}>"

    def __reduce__(self) -> str:
        return self.function.__qualname__

    def _bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as e:
            raise ProjectError(
                f"{e}",
                where=f"step {self.name!r}",
                fix=f"its signature is {self.name}{self.signature}",
            ) from e
        bound.apply_defaults()
        return dict(bound.arguments)


class Pipeline(Generic[P, R]):
    """A function that calls steps; `trace` walks it once without running any of them."""

    def __init__(self, function: Callable[P, R], name: str | None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.signature = inspect.signature(function)
        remember(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name!r} of {self.function.__module__}>"

    def trace(self, params: Mapping[str, object], project: Project) -> Graph:
        """Return the graph that the pipeline makes of these parameters.

        Raises:
            ProjectError: the definition is wrong (a name used twice, a value that is no JSON, …).
        """
        global _tracing
        if _tracing is not None:
            raise ProjectError("a pipeline calls another one", where=f"pipeline {self.name!r}")
        _tracing = trace = _Trace(project)
        try:
            self.function(**params)  # type: ignore[call-arg,arg-type]
        finally:
            _tracing = None
        if not trace.nodes:
            raise ProjectError(
                "calls no step",
                where=f"pipeline {self.name!r}",
                fix="mark the functions that it calls with @step",
            )
        graph = Graph(pipeline=reference(self.function), params=dict(params), nodes=trace.nodes)
        graph.order()
        return graph


class _Trace:
    """The graph as it grows while the pipeline's function runs."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.nodes: dict[str, Node] = {}
        self._calls: dict[str, tuple[str, int]] = {}  # step -> its function, how often it is called

    def add(
        self, step: Step[Any, Any], given: dict[str, object], each: dict[str, object]
    ) -> object:
        name = self._name(step)
        where = f"step {name!r}"
        if wrong := problem(step.options.gpu):
            raise ProjectError(wrong, where=where, fix="gpu=0.5, gpu=1, or gpu=2")
        self.nodes[name] = Node(
            name=name,
            function=reference(step.function),
            arguments=self._arguments(step, given, where),
            each={k: bind(v, self.project, f"{where}, each {k!r}") for k, v in each.items()},
            outputs=step.outputs,
            env=step.env,
            options=step.options,
        )
        refs = Refs(Ref(name, output) for output in step.outputs)
        return refs if len(refs) > 1 else refs[0]

    def _name(self, step: Step[Any, Any]) -> str:
        function = reference(step.function)
        first, serial = self._calls.get(step.name, (function, 0))
        if first != function:
            raise ProjectError(
                f"two steps are called {step.name!r}: {first} and {function}",
                where=f"step {step.name!r}",
                fix='give one of them another name: @step(name="…")',
            )
        if functions[function] is not step.function:
            raise ProjectError(
                "another step has the same function's name, so the two cannot be told apart",
                where=f"step {step.name!r}, {function}",
                fix="define each step by a function of its own at the top level of a module",
            )
        self._calls[step.name] = (function, serial + 1)
        name = f"{step.name}-{serial + 1}" if serial else step.name
        if name in self.nodes:
            raise ProjectError(
                f"is also what call {serial + 1} of step {step.name!r} would be called",
                where=f"step {name!r}",
                fix='give one of them another name: @step(name="…")',
            )
        return name

    def _arguments(
        self, step: Step[Any, Any], given: dict[str, object], where: str
    ) -> dict[str, Binding]:
        arguments = {}
        for name, value in given.items():
            kind = step.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD or kind is inspect.Parameter.VAR_POSITIONAL:
                raise ProjectError(
                    f"takes *{name}, so its inputs have no names",
                    where=where,
                    fix="name every parameter of a step",
                )
            arguments[name] = bind(value, self.project, f"{where}, argument {name!r}")
        return arguments


def bind(value: object, project: Project, where: str) -> Binding:
    """Return the plain-data form of an argument of a step.

    Raises:
        ProjectError: it is neither a step's output, a source, nor JSON.
    """
    if isinstance(value, Ref):
        return {"step": value.step, "output": value.output}
    if isinstance(value, Source):
        return value.bind(project).describe()
    if isinstance(value, list | tuple) and _holds_refs(value):
        return {"list": [bind(item, project, where) for item in value]}
    if isinstance(value, dict) and _holds_refs(value.values()):
        return {"dict": {str(k): bind(item, project, where) for k, item in value.items()}}
    try:
        return {"value": _json.encode(value).decode()}
    except UserError as e:
        raise ProjectError(
            f"{type(value).__name__} is not a value that a graph can hold",
            where=where,
            fix="pass numbers, text, lists, dicts, File, Dir or dataset; or return it from a step",
        ) from e


def _holds_refs(items: object) -> bool:
    return any(
        isinstance(item, Ref | Source)
        or (isinstance(item, list | tuple) and _holds_refs(item))
        or (isinstance(item, dict) and _holds_refs(item.values()))
        for item in items  # type: ignore[attr-defined]
    )


def _named_outputs(function: Callable[..., object]) -> tuple[str, ...] | None:
    """Return the fields where the function is declared to return a NamedTuple."""
    declared = function.__annotations__.get("return")
    if isinstance(declared, str):
        declared = getattr(function, "__globals__", {}).get(declared)
    return getattr(declared, "_fields", None)


def reference(function: Callable[..., object]) -> str:
    """Return "module:qualname", by which a worker finds the function again."""
    return f"{function.__module__}:{function.__qualname__}"


def current_project() -> Project | None:
    """Return the project for which a pipeline is being traced; None outside of a trace."""
    return _tracing.project if _tracing else None


@contextmanager
def not_tracing() -> Iterator[None]:
    """Make steps plain functions for a while, inside of a trace."""
    global _tracing
    before, _tracing = _tracing, None
    try:
        yield
    finally:
        _tracing = before


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    outputs: tuple[str, ...] | list[str] | None = None,
    env: tuple[str, ...] | list[str] = (),
    retries: int = 0,
    retry_wait_s: float = 0.0,
    timeout_s: float | None = None,
    cpu: float | None = None,
    memory: str | None = None,
    gpu: float | None = None,
    group: str | None = None,
    cache: bool = True,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    outputs: tuple[str, ...] | list[str] | None = None,
    env: tuple[str, ...] | list[str] = (),
    **options: Any,
) -> Any:
    """Make a step of a function; it can still be called as the function that it is.

    Args:
        function: the function, where `@step` is used without parentheses.
        name: what the step is called in a graph; the function's name by default.
        outputs: names of the values, where the function returns a tuple of several.
        env: environment variables that the result depends on.
        options: see `charkha.pipeline.graph.Options`.
    """
    if function is None:
        return functools.partial(step, name=name, outputs=outputs, env=env, **options)
    return Step(
        function,
        name=name,
        outputs=tuple(outputs) if outputs else None,
        env=tuple(env),
        options=Options(**options),
    )


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make a pipeline of a function that calls steps; its parameters are those of a run."""
    if function is None:
        return functools.partial(pipeline, name=name)
    return Pipeline(function, name)
