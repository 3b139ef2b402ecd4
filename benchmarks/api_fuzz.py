"""
Requests that nobody would think of, made from the OpenAPI document by schemathesis, against a real server.

`python -m benchmarks.api_fuzz [--seconds 600] [--phase stateful]` needs
`.venv/bin/pip install -r benchmarks/requirements.txt`. First come requests of each operation for
itself, then, for as long, stories in which one request uses what another has answered. It ends
with 1 if an answer is not in the document: a status from 500 on, another status, media type or
schema than is written there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from pipeline.config.database import open_configured
from tests.support.api import serving
from tests.support.api_examples import EXAMPLES, fill
from tests.support.databases import SESSION_FOLDER, SqliteFiles, copy_world
from tests.support.worlds import BACKFILLED

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# They end the session, the token or the user that the requests are made with.
SPARED = ("log_out", "revoke_token", "undo_run", "undo_batch")
PHASES = {"single": "examples,coverage,fuzzing", "stateful": "stateful"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz a server over a world of the tests in each phase; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each phase")
    parser.add_argument("--phase", choices=PHASES, action="append")
    options = parser.parse_args(arguments)
    return max(fuzz(PHASES[phase], options.seconds) for phase in options.phase or PHASES)


def fuzz(phases: str, seconds: int) -> int:
    """Fuzz a new server; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SESSION_FOLDER] = folder
        engine = SqliteFiles(Path(folder))
        copy_world(engine, BACKFILLED, "fuzzed")
        storage = EXAMPLES.storage.model_copy(update={"url": SecretStr(engine.url("fuzzed"))})
        config = EXAMPLES.model_copy(update={"storage": storage})
        with open_configured(config) as store, serving(store, config) as api:
            fill(store)
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/api/v1/openapi.json", "--checks", CHECKS, "--max-time", str(seconds), "--phases", phases,
                "--continue-on-failure", "--warnings", "off", "--header", f"Authorization: Bearer {api.token('administrator')}",
                *(part for name in SPARED for part in ("--exclude-operation-id", name)),
            ]  # fmt: skip
            return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
