"""An Airflow for tests, which lives for as long as somebody holds a lock: `airflow_server.py FOLDER BIN PORT`.

All workers of a test session share one. Each holds FOLDER/alive together with the others; the kernel
takes that back when it ends, however it ends, and then this process gets the lock for itself.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARTS = (["api-server"], ["scheduler", "--skip-serve-logs"], ["dag-processor"])


def settings(folder, port):
    """Return Airflow's settings: small, quick to look, and patient with a machine that is busy."""
    bundle = {
        "name": "charkha",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder / "dags"), "refresh_interval": 1},
    }
    sections = {
        "core": {
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 4,
            "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
            "simple_auth_manager_users": "admin:admin",
            "simple_auth_manager_passwords_file": folder / "passwords.json",
            "min_serialized_dag_update_interval": 0,
        },
        "api": {
            "host": "127.0.0.1",
            "port": port,
            "base_url": f"http://127.0.0.1:{port}",
            "workers": 1,
        },
        "dag_processor": {
            "dag_bundle_config_list": json.dumps([bundle]),
            "bundle_refresh_check_interval": 1,
            "dag_file_processor_timeout": 300,
        },
        "scheduler": {"scheduler_idle_sleep_time": 0.3, "task_instance_heartbeat_timeout": 300},
        "workers": {"min_heartbeat_interval": 2, "execution_api_timeout": 120},
    }
    return {
        f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
        for section, values in sections.items()
        for name, value in values.items()
    }


def main(folder, binaries, port):
    """Run the parts of an Airflow until nobody holds the lock any more."""
    (folder / "dags").mkdir(exist_ok=True)
    (folder / "passwords.json").write_text(json.dumps({"admin": "not-a-secret"}))
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PYTHON", "CHARKHA"))
    }
    environment = {
        **kept,
        **settings(folder, port),
        "AIRFLOW_HOME": str(folder),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }

    def start(*words):
        with (folder / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [binaries / "airflow", *words], env=environment, stdout=log, stderr=log
            )

    started = []
    with (folder / "alive").open("w") as alive:
        try:
            if start("db", "migrate").wait() == 0:
                started += [start(*part) for part in PARTS]
            fcntl.flock(alive, fcntl.LOCK_EX)
        finally:
            (folder / "ready").unlink(missing_ok=True)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)  # a group of our own: its workers, and theirs
            until = time.monotonic() + 10
            while time.monotonic() < until and any(part.poll() is None for part in started):
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
