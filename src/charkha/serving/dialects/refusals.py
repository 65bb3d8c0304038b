"""Refusals in the words of the protocols that have their own: MLflow's, Open Inference's."""

from __future__ import annotations

from charkha.serving.problems import Problem

_MLFLOW = {  # databricks.proto names what its clients know
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "INVALID_PARAMETER_VALUE",
    415: "INVALID_PARAMETER_VALUE",
    429: "RESOURCE_EXHAUSTED",
    503: "TEMPORARILY_UNAVAILABLE",
}


class Refusal(Problem):
    """A Problem with the members beside RFC 9457's that a protocol's clients look for."""

    members: dict[str, str]

    @classmethod
    def of(cls, problem: Problem, path: str) -> Problem:
        """Return the problem as it is told on a path; on most paths it is the same."""
        if isinstance(problem, Refusal) or not (path == "/invocations" or path.startswith("/v2")):
            return problem
        status = problem.status
        if path == "/invocations" and status == 422:
            status = 400  # MLflow says so of all that is wrong with rows
        told = cls(
            status,
            problem.kind,
            problem.title,
            problem.detail,
            problem.errors,
            headers=problem.headers,
        )
        where = "".join(f" (at {e['pointer']})" for e in problem.errors[:1] if e.get("pointer"))
        said = f"{problem.title}: {problem.detail}{where}"
        if path == "/invocations":
            told.members = {"error_code": _MLFLOW.get(status, "INTERNAL_ERROR"), "message": said}
        else:
            told.members = {"error": said}
        return told

    def as_json(self) -> dict[str, object]:
        return {**super().as_json(), **self.members}
