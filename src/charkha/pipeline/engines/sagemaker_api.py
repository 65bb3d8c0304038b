"""Amazon SageMaker by boto3: a pipeline written and started, asked how far it is, and stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from charkha.errors import (
    BackendError,
    CharkhaError,
    NotFound,
    ProjectError,
    Unavailable,
    UserError,
)

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.client import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import (
        DescribePipelineExecutionResponseTypeDef,
        PipelineExecutionStepTypeDef,
    )

    from charkha.project import Project

_CLIENT = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 3},
)
_LARGEST = 1_048_576  # letters of a definition that a request carries
_WRONG_KEY = {
    *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"),
    *("SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException"),
    *("IncompleteSignature", "MissingAuthenticationToken", "InvalidAccessKeyId"),
}
_REFUSED = {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
_LATER = {
    *("ThrottlingException", "Throttling", "ServiceUnavailable", "RequestLimitExceeded"),
    *("InternalFailure", "InternalServerError", "InternalError"),
}
_GROUPS = {
    "processing-job": "/aws/sagemaker/ProcessingJobs",
    "training-job": "/aws/sagemaker/TrainingJobs",
}
_LINES = 10_000  # of a job's log, at most


class SagemakerApi:
    """SageMaker of one region, as AWS's own chain of credentials lets us in."""

    def __init__(self, project: Project) -> None:
        self._settings = project.sagemaker

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(region_name=self._settings.region)

    @cached_property
    def _client(self) -> SageMakerClient:
        session, endpoint = self._session, self._settings.endpoint_url
        region = session.region_name or ("us-east-1" if endpoint else None)  # it takes any
        return session.client(
            "sagemaker", endpoint_url=endpoint, region_name=region, config=_CLIENT
        )

    @property
    def where(self) -> str:
        """What to call it in a message."""
        region = self._settings.region or self._session.region_name or "no region"
        return f"SageMaker at {self._settings.endpoint_url or region}"

    def put(self, name: str, text: str, tags: list[Any], *, about: str) -> int | None:
        """Make or change a pipeline; return which version of it that is, where SageMaker has some.

        Raises:
            BackendError: SageMaker refuses the definition, or does not answer.
            UserError: nobody is let in, or not for that.
        """
        settings = self._settings
        if len(text) > _LARGEST:
            raise UserError(
                f"the definition has {len(text):,} letters, and SageMaker takes {_LARGEST:,}",
                fix="put steps that take no time into one task, with group=",
            )
        given: dict[str, Any] = {
            "PipelineName": name,
            "PipelineDefinition": text,
            "PipelineDescription": about,
            "RoleArn": settings.role or "",
        }
        if settings.parallel:
            given["ParallelismConfiguration"] = {"MaxParallelExecutionSteps": settings.parallel}
        with self._asked():
            try:
                tagged: dict[str, Any] = {"Tags": tags} if tags else {}
                self._client.create_pipeline(
                    **given, **tagged, ClientRequestToken=_token(name, text)
                )
            except ClientError as e:
                if "already exists" not in str(e):
                    raise
                answer = self._client.update_pipeline(**given)
                return answer.get("PipelineVersionId")
        return None

    def start(self, name: str, run: str, params: Mapping[str, str], version: int | None) -> str:
        """Start a pipeline; return the ARN of the execution. The same run is started once."""
        given: dict[str, Any] = {"PipelineVersionId": version} if version else {}
        with self._asked():
            answer = self._client.start_pipeline_execution(
                PipelineName=name,
                PipelineExecutionDisplayName=run,
                PipelineParameters=[{"Name": n, "Value": v} for n, v in params.items()],
                ClientRequestToken=_token(name, run),
                **given,
            )
        return answer["PipelineExecutionArn"]

    def execution(self, arn: str) -> DescribePipelineExecutionResponseTypeDef:
        """Return what SageMaker says of an execution."""
        with self._asked():
            return self._client.describe_pipeline_execution(PipelineExecutionArn=arn)

    def steps(self, arn: str) -> list[PipelineExecutionStepTypeDef]:
        """Return what it says of the execution's steps that were started."""
        with self._asked():
            pages = self._client.get_paginator("list_pipeline_execution_steps").paginate(
                PipelineExecutionArn=arn
            )
            return [step for page in pages for step in page["PipelineExecutionSteps"]]

    def stop(self, arn: str) -> None:
        """Have it stop an execution; its jobs get SIGTERM, and two minutes."""
        with self._asked():
            self._client.stop_pipeline_execution(
                PipelineExecutionArn=arn, ClientRequestToken=_token(arn, "stop")
            )

    def lines(self, job: str) -> Iterator[str]:
        """Yield what CloudWatch has of a job's output, by the job's ARN."""
        kind, _, name = job.rpartition(":")[2].partition("/")
        stream = f"{name}/"
        with self._asked():
            client = self._session.client("logs", config=_CLIENT)
            pages = client.get_paginator("filter_log_events").paginate(
                logGroupName=_GROUPS[kind],
                logStreamNamePrefix=stream,
                PaginationConfig={"MaxItems": _LINES},
            )
            with suppress(client.exceptions.ResourceNotFoundException):  # it has said nothing yet
                for page in pages:
                    # Not every endpoint that stands in for CloudWatch holds to the prefix.
                    own = (e for e in page["events"] if e["logStreamName"].startswith(stream))
                    yield from (event["message"] for event in own)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what boto3 raises into our errors."""
        try:
            yield
        except (BotoCoreError, ClientError, ValueError) as e:
            raise self._ours(e) from e

    def _ours(self, error: Exception) -> CharkhaError:
        said = str(error).removeprefix("An error occurred ")
        code = _code(error)
        if isinstance(error, NoRegionError):
            return UserError(
                "AWS's region is not known",
                fix='[sagemaker] region = "eu-central-1" in charkha.toml, or AWS_DEFAULT_REGION',
            )
        if code in _WRONG_KEY or isinstance(
            error, NoCredentialsError | PartialCredentialsError | TokenRetrievalError
        ):
            return UserError(
                f"{self.where} does not know who asks: {said}",
                fix="aws configure, aws sso login, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        if code in _REFUSED:
            return UserError(
                f"{self.where} forbids it: {said}",
                fix="let this user create, update, start, describe and stop pipelines, and pass them "
                f"the role {self._settings.role}",
            )
        if isinstance(error, ParamValidationError):
            return ProjectError(said, where="[sagemaker]", fix="correct it in charkha.toml")
        if code in _LATER or isinstance(error, ConnectionError | HTTPClientError):
            return Unavailable(
                f"{self.where} does not answer: {said}",
                fix="correct [sagemaker] region or endpoint_url, or try again later",
            )
        if code == "ResourceNotFound":
            return NotFound(f"{self.where}: {said}")
        if code == "ResourceLimitExceeded":
            return BackendError(
                f"{self.where}: {said}",
                fix="ask AWS for a higher quota, or set [sagemaker] parallel",
            )
        return BackendError(f"{self.where} refused it: {said}")


def _code(error: Exception) -> str | None:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return None


def _token(*words: str) -> str:
    """Return what tells SageMaker that a request came twice."""
    return sha256("\n".join(words).encode()).hexdigest()
