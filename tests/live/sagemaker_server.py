"""A SageMaker on loopback, whose jobs are really run: moto keeps what is made, processes do the work.

moto says of every execution that it has succeeded, and runs nothing. This server stands before it: it
hands on what moto can do, and adds what it cannot. An execution is walked in the order of DependsOn,
from the definition that moto has; each job is created in moto, so botocore and moto have read its
request, and its command is run as a process in a copy of the image's folder, with the job's environment.

Not emulated: roles, networks, the kind of machine, spot, warm pools, the time until a machine is there,
retry policies, and that a job ends when its time is over.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3

GRACE_S = 10  # between SIGTERM and SIGKILL; SageMaker's are 120
PAGE = 3  # steps of a page, so that whoever lists them has to turn some
KINDS = {"Processing": "ProcessingJob", "Training": "TrainingJob"}
GROUPS = {"Processing": "/aws/sagemaker/ProcessingJobs", "Training": "/aws/sagemaker/TrainingJobs"}


class Sagemaker(ThreadingHTTPServer):
    """Listens on loopback. `images` says which folder an image's name means."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, moto, port=0):
        super().__init__(("127.0.0.1", port), Api)
        self.moto, self.url = moto, f"http://127.0.0.1:{self.server_address[1]}"
        self.images, self.executions, self.tokens, self.jobs = {}, {}, {}, {}
        self.client_lock = threading.Lock()  # to make a group of logs once
        self.refuses = None  # or (status, type, message), for every request
        self.client, self.s3, self.logs = map(self._client, ("sagemaker", "s3", "logs"))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def _client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.moto,
            region_name="us-east-1",
            aws_access_key_id="charkha",
            aws_secret_access_key="not-a-secret",  # noqa: S106
        )

    def stop(self):
        for execution in self.executions.values():
            execution.stop()
        for execution in self.executions.values():
            execution.thread.join(2 * GRACE_S)
        self.shutdown()
        self.server_close()


class Execution:
    """An execution of a pipeline, walked by a thread."""

    def __init__(self, server, arn):
        self.server, self.arn, self.id = server, arn, arn.rpartition("/")[2]
        told = server.client.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
        self.definition = json.loads(told["PipelineDefinition"])
        asked = server.client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
        self.values = values_of(self.definition, asked["PipelineParameters"], self.id)
        self.status, self.because, self.stopping = "Executing", None, threading.Event()
        self.jobs = {}  # by the step's name
        self.thread = threading.Thread(target=self._walk, daemon=True)
        self.thread.start()

    def stop(self):
        if self.thread.is_alive():
            self.status = "Stopping"
        self.stopping.set()

    def _walk(self):
        waiting = {step["Name"]: step for step in self.definition["Steps"]}
        while waiting or any(job.status == "Executing" for job in self.jobs.values()):
            ended = {job.status for job in self.jobs.values()}
            if self.stopping.is_set() or "Failed" in ended:
                waiting.clear()
            for name, step in list(waiting.items()):
                before = [self.jobs.get(need) for need in step.get("DependsOn", [])]
                if all(job and job.status == "Succeeded" for job in before):
                    self.jobs[name] = Job(self, waiting.pop(name))
            time.sleep(0.02)
        statuses = {job.status for job in self.jobs.values()}
        if "Failed" in statuses:
            self.because = "Step failure: One or multiple steps failed."
        word = "Stopped" if self.stopping.is_set() else "Succeeded"
        self.status = "Failed" if "Failed" in statuses else word


class Job:
    """A job: known to moto, and a process."""

    def __init__(self, execution, step):
        self.execution, self.server, self.step = execution, execution.server, step
        self.status, self.because, self.metrics = "Executing", None, []
        self.began = time.time()
        self.ended = None
        self.kind = step["Type"]
        self.name = f"pipelines-{execution.id}-{step['Name'][:20]}-{uuid4().hex[:8]}"
        self.request = resolved(step["Arguments"], execution.values)
        client = self.server.client
        if self.kind == "Processing":
            made = client.create_processing_job(ProcessingJobName=self.name, **self.request)
        else:
            made = client.create_training_job(TrainingJobName=self.name, **self.request)
        self.arn = made[f"{KINDS[self.kind]}Arn"]
        self.server.jobs[self.name] = self
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        specification = (
            self.request.get("AppSpecification") or self.request["AlgorithmSpecification"]
        )
        image = specification.get("ImageUri") or specification["TrainingImage"]
        command = [*specification["ContainerEntrypoint"], *specification["ContainerArguments"]]
        with tempfile.TemporaryDirectory(prefix="sagemaker-") as machine:
            project, model, out = (Path(machine, name) for name in ("project", "model", "out"))
            ignore = shutil.ignore_patterns(".charkha", "__pycache__")
            shutil.copytree(self.server.images[image], project, ignore=ignore)
            model.mkdir()
            code = self._process(command, project, model, out)
            said = out.read_text(errors="replace")
            self._log(said)
            if self.kind == "Training":
                self._keep(model)
                self.metrics = measured(specification, said)
        self.ended = time.time()
        if code == 0:
            self.status = "Succeeded"
        elif self.execution.stopping.is_set():
            self.status = "Stopped"
        else:
            code = 128 - code if code < 0 else code
            self.because = f"AlgorithmError: , exit code: {code}"
            self.status = "Failed"

    def _process(self, command, project, model, out):
        assert all(command), f"SageMaker takes no empty words: {command}"
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SM_MODEL_DIR": str(model),
            "AWS_REGION": "us-east-1",
            **self.request.get("Environment", {}),
        }
        with out.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        told_at = None
        while process.poll() is None:
            if self.execution.stopping.is_set():
                number = signal.SIGKILL
                if told_at is None:
                    told_at, number = time.monotonic(), signal.SIGTERM
                if number == signal.SIGTERM or time.monotonic() - told_at > GRACE_S:
                    os.killpg(process.pid, number)
            time.sleep(0.02)
        return process.returncode

    def _log(self, said):
        client, group, stream = self.server.logs, GROUPS[self.kind], f"{self.name}/algo-1-1"
        with self.server.client_lock:
            if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
                client.create_log_group(logGroupName=group)
        client.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [
            {"timestamp": int(time.time() * 1000), "message": m} for m in said.splitlines() if m
        ]
        if events:
            client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    def _keep(self, model):
        """Leave what the container has in its folder for models where a job of SageMaker would."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path in sorted(model.iterdir()):
                tar.add(path, path.name)
        place = urlsplit(self.request["OutputDataConfig"]["S3OutputPath"])
        key = f"{place.path.strip('/')}/{self.name}/output/model.tar.gz"
        self.server.s3.put_object(Bucket=place.netloc, Key=key, Body=packed.getvalue())


class Api(BaseHTTPRequestHandler):
    """What moto lacks, and all else handed on to it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        asked = self.headers.get("X-Amz-Target", "").partition(".")[2]
        if self.server.refuses:
            status, kind, message = self.server.refuses
            return self.answer({"__type": kind, "message": message}, status)
        return getattr(self, f"on_{asked}", self.hand_on)(body)

    def on_StartPipelineExecution(self, body):
        token = json.loads(body)["ClientRequestToken"]
        if token in self.server.tokens:
            return self.answer({"PipelineExecutionArn": self.server.tokens[token]})
        status, told = self.moto(body)
        if status == 200:
            arn = told["PipelineExecutionArn"]
            self.server.tokens[token] = arn
            self.server.executions[arn] = Execution(self.server, arn)
        return self.answer(told, status)

    def on_DescribePipelineExecution(self, body):
        status, told = self.moto(body)
        if status == 200:
            execution = self.server.executions[told["PipelineExecutionArn"]]
            told["PipelineExecutionStatus"] = execution.status
            if execution.because:
                told["FailureReason"] = execution.because
        return self.answer(told, status)

    def on_StopPipelineExecution(self, body):
        arn = json.loads(body)["PipelineExecutionArn"]
        self.server.executions[arn].stop()
        return self.answer({"PipelineExecutionArn": arn})

    def on_ListPipelineExecutionSteps(self, body):
        asked = json.loads(body)
        jobs = list(self.server.executions[asked["PipelineExecutionArn"]].jobs.values())
        at = int(asked.get("NextToken", 0))
        told = {"PipelineExecutionSteps": [as_step(job) for job in jobs[at : at + PAGE]]}
        if at + PAGE < len(jobs):
            told["NextToken"] = str(at + PAGE)
        return self.answer(told)

    def on_DescribeTrainingJob(self, body):
        status, told = self.moto(body)
        if job := self.server.jobs.get(told.get("TrainingJobName")):
            word = {"Succeeded": "Completed", "Executing": "InProgress"}
            told["TrainingJobStatus"] = word.get(job.status, job.status)
            told["FinalMetricDataList"] = job.metrics
        return self.answer(told, status)

    def hand_on(self, body):
        status, told = self.moto(body)
        return self.answer(told, status)

    def moto(self, body):
        """Return moto's answer."""
        kept = {
            n: v for n, v in self.headers.items() if n.lower() not in ("host", "content-length")
        }
        request = Request(self.server.moto + self.path, body, kept, method="POST")  # noqa: S310
        try:
            with urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except HTTPError as e:
            return e.code, json.load(e)

    def answer(self, told, status=200):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def values_of(definition, given, execution):
    """Return what `Get` gives: the parameters, and who the execution is."""
    types = {"Integer": int, "Float": float, "Boolean": lambda text: text.lower() == "true"}
    declared = {one["Name"]: one for one in definition["Parameters"]}
    values = {name: one["DefaultValue"] for name, one in declared.items()}
    for one in given or []:
        values[one["Name"]] = types.get(declared[one["Name"]]["Type"], str)(one["Value"])
    named = {f"Parameters.{name}": value for name, value in values.items()}
    return {**named, "Execution.PipelineExecutionId": execution}


def resolved(value, values):
    """Return arguments with what their functions give."""
    match value:
        case {"Get": name}:
            return values[name]
        case {"Std:Join": {"On": separator, "Values": parts}}:
            return separator.join(as_text(resolved(part, values)) for part in parts)
        case dict():
            return {name: resolved(inner, values) for name, inner in value.items()}
        case list():
            return [resolved(inner, values) for inner in value]
    return value


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)


def measured(specification, said):
    """Return the last value of each metric that its regular expression finds."""
    found = []
    for metric in specification.get("MetricDefinitions", []):
        if values := re.findall(metric["Regex"], said):
            at = time.time()
            found.append(
                {"MetricName": metric["Name"], "Value": float(values[-1]), "Timestamp": at}
            )
    return found


def as_step(job):
    told = {
        "StepName": job.step["Name"],
        "StepDisplayName": job.step.get("DisplayName", job.step["Name"]),
        "StartTime": job.began,
        "StepStatus": job.status,
        "AttemptCount": 1,
        "Metadata": {KINDS[job.kind]: {"Arn": job.arn}},
    }
    ended = {"EndTime": job.ended} if job.ended else {}
    return {**told, **ended, **({"FailureReason": job.because} if job.because else {})}


def main():
    """Serve until Ctrl-C, for a project that is tried by hand."""
    options = argparse.ArgumentParser(description="SageMaker before a moto_server")
    options.add_argument("--moto", default="http://127.0.0.1:5000")
    options.add_argument("--port", type=int, default=5001)
    options.add_argument("--image", action="append", metavar="NAME=FOLDER", default=[])
    given = options.parse_args()
    server = Sagemaker(given.moto, given.port)
    server.images = dict(one.split("=", 1) for one in given.image)
    print(f"SageMaker at {server.url}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
