"""The files that deploy it: valid for Kubernetes, hardened, and their commands run on a read-only root as they are written."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click import Context

from pipeline.cli.main import cli
from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.daemon.daemon import STOP_WITHIN_S
from tests.support.databases import PostgresServer

FOLDER = Path(__file__).parents[1] / "docs" / "deploy"
OBJECTS = [
    each for file in sorted((FOLDER / "kubernetes").glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())
]  # fmt: skip
IDS = [f"{each['kind']} {each['metadata']['name']}" for each in OBJECTS]
VERSIONS = ("1.31", "1.37")  # of Kubernetes
UNSHARE = [shutil.which("unshare") or "", "-m" if os.getuid() == 0 else "-rm"]  # mounts of its own


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod of each workload, with the name of its kind."""
    for each in OBJECTS:
        spec = each.get("spec", {}).get("jobTemplate", each).get("spec", {})
        if "template" in spec:
            yield each["kind"], spec["template"]["spec"]


PODS = dict(pods())
TOML = named("ConfigMap", "fraudwatch")["data"]["config.toml"]


def environ(pod: Mapping[str, Any]) -> dict[str, str]:
    """The environment that a pod's secrets give its container."""
    (container,) = pod["containers"]
    secrets = [named("Secret", source["secretRef"]["name"])["stringData"] for source in container["envFrom"]]
    return {name: value for secret in secrets for name, value in secret.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", OBJECTS, ids=IDS)
def test_kubernetes_knows_every_field(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    kubernetes_validate.validate(manifest, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest | {"specs": {}}, version, strict=True)
    assert "namespace" not in manifest["metadata"]


def test_there_is_a_pod_for_each_part() -> None:
    assert set(PODS) == {"Job", "Deployment", "CronJob"}
    assert [pod["containers"][0]["args"][0] for pod in PODS.values()].count(
        "init"
    ) == 1  # no pod but the job changes tables
    assert (PODS["Job"]["containers"][0]["args"], environ(PODS["Job"])) == (
        ["init"],
        named("Secret", "fraudwatch-owner")["stringData"],
    )
    assert named("Deployment", "fraudwatch")["spec"]["replicas"] == 2


@pytest.mark.parametrize("kind", PODS)
def test_every_container_is_hardened_and_limited(kind: str) -> None:
    pod = PODS[kind]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    for part in ("requests", "limits"):
        assert set(container["resources"][part]) == {"cpu", "memory"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    writable = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert {mounted[name] for name in writable} == {"/tmp"}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": 1}) for volume in pod["volumes"])


@pytest.mark.parametrize("kind", PODS)
def test_every_command_exists_and_its_settings_load(kind: str, tmp_path: Path) -> None:
    pod = PODS[kind]
    name, *arguments = pod["containers"][0]["args"]
    command = cli.get_command(Context(cli), name)
    assert command is not None
    command.make_context(name, list(arguments))
    config = loaded(tmp_path, environ(pod))
    assert config.storage_url == environ(pod)["FRAUDWATCH_STORAGE__URL"]
    assert "change-me" not in config.public_text()
    if kind == "Deployment":
        assert config.health_token() == environ(pod)["FRAUDWATCH_HEALTH_TOKEN"]
        assert len(config.model_keys()) == 1


def loaded(folder: Path, variables: Mapping[str, str]) -> Config:
    (folder / "config.toml").write_text(TOML)
    return load_config(folder / "config.toml", variables)


def test_probes_ask_the_health_port_and_the_grace_period_is_longer_than_a_stop() -> None:
    pod, config = PODS["Deployment"], Config.model_validate({})
    (container,) = pod["containers"]
    (port,) = container["ports"]
    settings = re.search(r"port = (\d+)", TOML)
    assert settings is not None
    assert port["containerPort"] == int(settings[1]) != config.health.port
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert f"127.0.0.1:{port['containerPort']}/readyz" in container["readinessProbe"]["exec"]["command"][-1]
    assert pod["terminationGracePeriodSeconds"] > STOP_WITHIN_S


def test_labels_select_the_pods() -> None:
    deployment, budget = named("Deployment", "fraudwatch"), named("PodDisruptionBudget", "fraudwatch")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]
    assert selector["matchLabels"] == labels
    assert budget["spec"]["selector"] == selector
    assert PODS["Deployment"]["topologySpreadConstraints"][0]["labelSelector"] == selector
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]


def test_the_image_runs_one_command_as_the_user_of_the_pods() -> None:
    instructions = [
        line.partition(" ") for line in (FOLDER / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    ]
    of = {name: rest for name, _, rest in instructions if name.isupper()}
    assert json.loads(of["ENTRYPOINT"]) == ["fraudwatch"]
    assert json.loads(of["CMD"]) == PODS["Deployment"]["containers"][0]["args"]
    assert int(of["USER"]) == PODS["Deployment"]["securityContext"]["runAsUser"]
    variables = dict(part.split("=", 1) for part in shlex.split(of["ENV"]))
    mounted = PODS["Deployment"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert variables["FRAUDWATCH_CONFIG"] == f"{mounted}/config.toml"
    assert variables["NUMBA_CACHE_DIR"].startswith("/tmp/")
    assert "init" not in of["CMD"] + of["ENTRYPOINT"]
    copied = [rest.split()[:-1] for name, _, rest in instructions if name == "COPY" and "--from" not in rest]
    assert all((FOLDER.parents[1] / source).exists() for sources in copied for source in sources)


class ReadOnlyRoot:
    """Runs the commands of the manifests where only a folder can be written to, as in their pods."""

    def __init__(self, folder: Path, urls: Mapping[str, str]) -> None:
        self.writable, self.config, self._urls = folder / "tmp", folder / "config.toml", urls
        self.writable.mkdir()
        self.config.write_text(TOML)

    def start(self, kind: str, port: int = 0, command: list[str] | None = None) -> "subprocess.Popen[str]":
        (container,) = PODS[kind]["containers"]
        role = container["envFrom"][0]["secretRef"]["name"]
        program = command or [sys.executable, "-m", "pipeline", *container["args"]]
        mounts = f"mount --bind {self.writable} {self.writable} && mount -o remount,bind,ro / && cd / && ! touch /here 2> /dev/null"
        variables = environ(PODS[kind]) | {
            "FRAUDWATCH_STORAGE__URL": self._urls[role],
            "FRAUDWATCH_CONFIG": str(self.config),
            "FRAUDWATCH_HEALTH__PORT": str(port),
            "FRAUDWATCH_HEALTH__HOST": "127.0.0.1",
            "HOME": "/nonexistent",
            "TMPDIR": str(self.writable),
            "NUMBA_CACHE_DIR": str(self.writable / "numba"),
            "PYTHONPATH": str(Path.cwd()),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": os.environ["PATH"],
        }
        return subprocess.Popen(
            [*UNSHARE, "sh", "-c", f"{mounts} && exec {shlex.join(program)}"],
            env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, kind: str, command: list[str] | None = None, port: int = 0) -> tuple[int, str]:
        with self.start(kind, port, command) as process:
            output, _ = process.communicate(timeout=120)
            return process.returncode, output

    def ready(self, port: int) -> bool:
        """What the readiness probe of the manifest finds."""
        _, *rest = PODS["Deployment"]["containers"][0]["readinessProbe"]["exec"]["command"]
        code, _ = self.run("Deployment", [sys.executable, *rest[:-1], rest[-1].replace("9464", str(port))])
        return code == 0


@pytest.fixture
def read_only_root(postgres: PostgresServer, tmp_path: Path) -> Iterator[ReadOnlyRoot]:
    """A database of the owner, where the runtime role may read and write rows and nothing else."""
    if not UNSHARE[0] or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have mounts of its own (unshare -m)")
    name = f"deploy_{os.getpid()}"
    owner, runtime = f"{name}_owner", f"{name}_runtime"
    with psycopg.connect(postgres.address, autocommit=True) as server:
        for statement in (
            f"CREATE ROLE {owner} LOGIN", f"CREATE ROLE {runtime} LOGIN", f"CREATE DATABASE {name} OWNER {owner}",
        ):  # fmt: skip
            server.execute(statement)  # type: ignore[arg-type]
    url = postgres.url(name).replace("//postgres:@", "//@").replace("//postgres@", "//@")
    urls = {f"fraudwatch-{role}": url.replace("//@", f"//{name}_{role}@") for role in ("owner", "runtime")}
    with psycopg.connect(urls["fraudwatch-owner"], autocommit=True) as owned:
        for statement in (
            "CREATE SCHEMA fraudwatch",
            f"GRANT USAGE ON SCHEMA fraudwatch TO {runtime}",
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {runtime}",
            f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {runtime}",
        ):
            owned.execute(statement)  # type: ignore[arg-type]
    yield ReadOnlyRoot(tmp_path, urls)
    postgres.drop(name)
    with psycopg.connect(postgres.address, autocommit=True) as server:
        server.execute(f"DROP ROLE {owner}")  # type: ignore[arg-type]
        server.execute(f"DROP ROLE {runtime}")  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.long
def test_the_job_and_two_daemons_run_on_a_read_only_root(read_only_root: ReadOnlyRoot) -> None:
    code, output = read_only_root.run("CronJob")
    assert (code, "has no tables of fraudwatch" in output) == (1, True), output
    code, output = read_only_root.run("CronJob", [sys.executable, "-m", "pipeline", "init"])
    assert (code, "Traceback" in output) == (1, False), output  # the runtime role makes no tables
    for printed in ("is in place", "nothing to do"):
        code, output = read_only_root.run("Job")
        assert (code, printed in output) == (0, True), output
    ports = [free_port(), free_port()]
    daemons = [read_only_root.start("Deployment", port) for port in ports]
    try:
        deadline = time.monotonic() + 60
        while not all(read_only_root.ready(port) for port in ports):
            assert time.monotonic() < deadline
            assert all(daemon.poll() is None for daemon in daemons)
            time.sleep(0.5)
    finally:
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        logs = [daemon.communicate(timeout=STOP_WITHIN_S)[0] for daemon in daemons]
    assert [daemon.returncode for daemon in daemons] == [0, 0], logs
    events = [[json.loads(line)["action"] for line in log.splitlines()] for log in logs]
    assert sum("standby" in each for each in events) == 1, events
    assert not any("change-me" in log for log in logs)
    assert not list(read_only_root.writable.rglob("core*"))
