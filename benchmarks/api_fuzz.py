"""
Requests that nobody would think of, made from the OpenAPI document by schemathesis, against a real server.

`python -m benchmarks.api_fuzz [SECONDS]` (default: 600) needs
`.venv/bin/pip install -r benchmarks/requirements.txt`. It ends with 1 if an answer is not in
the document: a status from 500 on, another status, media type or schema than is written there.
"""

import os
import subprocess
import sys
import tempfile
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


def main() -> int:
    """Fuzz a server over a world of the tests; returns the exit code."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SESSION_FOLDER] = folder
        engine = SqliteFiles(Path(folder))
        copy_world(engine, BACKFILLED, "fuzzed")
        storage = EXAMPLES.storage.model_copy(update={"url": SecretStr(engine.url("fuzzed"))})
        config = EXAMPLES.model_copy(update={"storage": storage})
        with open_configured(config) as store, serving(store, config) as api:
            fill(store)
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/api/v1/openapi.json", "--checks", CHECKS, "--max-time", str(seconds),
                "--continue-on-failure", "--warnings", "off", "--header", f"Authorization: Bearer {api.token('administrator')}",
                *(part for name in SPARED for part in ("--exclude-operation-id", name)),
            ]  # fmt: skip
            return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
