"""The checks before a deploy changes anything; only a missing namespace is made, for the lock and the probe's pod."""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import plain_pods
from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import pod_evidence
from airflow_ops.cluster.secrets import named_secrets
from airflow_ops.console import counted, fail, out, styled
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.values import Values
from airflow_ops.manifests.objects import Manifest, render_environment
from airflow_ops.manifests.objects import pods as pods_of
from airflow_ops.paths import DAGS, ROOT
from airflow_ops.waiting import wait_until

NAMESPACE = ROOT / "k8s/namespace.yaml"
PRIORITY_CLASSES = ROOT / "k8s/priority-classes.yaml"
PROBE = "airflow-preflight"
PROBE_SECONDS = 300
"""A node pulls an image of 1.5 GB in 1 to 3 minutes; after that, the pod's events say why it has not started."""

PREFIX = "preflight: "
"""Prefix of what is wrong in the probe's output; the other lines are warnings of libraries."""
SCHEMA = "schema: "
"""Prefix of the line with the revisions of the schema."""
PROBE_SCRIPT = """
import importlib, os, sys
broken = []
for name in sys.argv[1:]:
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        attribute and getattr(found, attribute)
    except Exception as error:
        broken.append(f"{name}: {error!r}")
url = os.environ.get("DATABASE_URL")
if url:
    import sqlalchemy
    try:
        sqlalchemy.create_engine(url, connect_args={"connect_timeout": 10}).connect().close()
    except Exception as error:
        broken.append(f"metadata database: {error.__cause__ or error}".strip())
for line in broken:
    print("preflight: " + " ".join(line.split()))
if not broken:
    from importlib.resources import files
    import json
    from alembic.script import ScriptDirectory
    revisions = {"alembic_version": "airflow.migrations", "alembic_version_fab": "airflow.providers.fab.migrations"}
    image, database, unknown, comment = {}, {}, [], ""
    scripts = {table: ScriptDirectory(str(files(package))) for table, package in revisions.items()}
    for table, script in scripts.items():
        image[table] = script.get_current_head()
    if url:
        with sqlalchemy.create_engine(url).connect() as connection:
            for table in revisions:
                if sqlalchemy.inspect(connection).has_table(table):
                    database[table] = connection.scalar(sqlalchemy.text("SELECT version_num FROM " + table))
                    if database[table] not in {script.revision for script in scripts[table].walk_revisions()}:
                        unknown.append(table)
            if database:
                query = sqlalchemy.text("SELECT obj_description(to_regclass('alembic_version'))")
                comment = connection.scalar(query) or ""
    print("schema: " + json.dumps({"image": image, "database": database, "unknown": unknown, "comment": comment}))
sys.exit(bool(broken))
"""


def check_files(cluster: Cluster) -> list[Manifest]:
    """Check what this checkout holds, and make the namespace if it is missing; print a line for each check.

    Args:
        cluster: The environment.

    Returns:
        The environment's manifests.

    Raises:
        ProblemError: A check fails; the object or key is named.
    """
    environment = cluster.environment
    _passed(f"context {cluster.context} is one of {environment.name}'s")
    official_chart.ensure()
    _passed("the official chart is in place and its digest is right")
    manifests = render_environment(environment)
    _passed(f"{counted(len(manifests), 'manifest')} can be rendered")
    check_kinds(cluster, manifests)
    _passed("the cluster knows every kind")
    check_namespace(cluster)
    _passed(f"namespace {cluster.namespace} is there and restricts pods")
    return manifests


@dataclass(frozen=True)
class Schema:
    """Revisions of the metadata database's schema by the table that keeps them: Airflow's and that of its auth manager.

    Attributes:
        image: What the image needs.
        database: What the database has; empty before the first migration.
        unknown: The tables whose revision in the database the image does not know: a newer Airflow has migrated it.
        comment: Which older version was seen to work on it; airflow_ops/upgrades/migration_program.py writes it.
    """

    image: dict[str, str]
    database: dict[str, str]
    unknown: list[str] = field(default_factory=list)
    comment: str = ""

    @property
    def is_migrated(self) -> bool:
        """Whether the database has a schema, and the one that the image needs."""
        return bool(self.database) and all(self.image[table] == found for table, found in self.database.items())

    @property
    def is_ahead(self) -> bool:
        """Whether the database has a newer schema than the image."""
        return bool(self.unknown)

    def was_tried_with(self, version: str) -> bool:
        """Whether a version works on this schema, though it is newer: an upgrade with a migration was rolled back."""
        return self.comment == f"Airflow {version} works on it"

    def __str__(self) -> str:
        """Where the two differ."""
        differ = {table: (found, self.image[table]) for table, found in self.database.items()}
        said = [
            f"{table} is {found}, it needs {needed}" for table, (found, needed) in differ.items() if found != needed
        ]
        return ", ".join(said) or "there is none"


def check_cluster(cluster: Cluster, manifests: list[Manifest]) -> Schema:
    """Check what the manifests need on the cluster, then make missing priority classes; print a line for each check.

    Args:
        cluster: The environment; its namespace exists.
        manifests: What will be applied.

    Returns:
        The schema that the image needs and the one that the database has.

    Raises:
        ProblemError: A check fails; the object or key is named.
    """
    check_secrets(cluster, manifests)
    _passed("every Secret is there or will be made")
    check_pooler(cluster)
    schema = probe_image(cluster)
    _passed("the image starts, imports what Airflow and the DAGs name, and reaches the database")
    # At last, because it makes those that are missing.
    check_priority_classes(cluster)
    _passed("the priority classes are there")
    return schema


def _passed(what: str) -> None:
    out.print(styled("ok", "green"), what)


def check_kinds(cluster: Cluster, manifests: list[Manifest]) -> None:
    """Check that the cluster serves every kind that will be applied.

    Raises:
        ProblemError: A custom resource definition is missing.
    """
    served = set(cluster.kubectl("api-versions").split())
    missing = sorted({f"{m.kind} ({m.api_version})" for m in manifests if m.api_version not in served})
    if missing:
        raise fail(
            f"the cluster does not know {', '.join(missing)}.",
            "Install the operator that defines it, or switch it off in values/.",
        )


def check_namespace(cluster: Cluster) -> None:
    """Create the environment's namespace from k8s/namespace.yaml where it is missing, and check that it restricts pods.

    Raises:
        ProblemError: The namespace does not enforce the `restricted` Pod Security standard.
    """
    try:
        labels = cluster.core.read_namespace(cluster.namespace).metadata.labels or {}
    except ApiException as error:
        if error.status != 404:
            raise
        cluster.kubectl("apply", "-f", "-", stdin=namespace_text(cluster.environment))
        return
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        raise fail(
            f"namespace {cluster.namespace} does not enforce Pod Security `restricted`.",
            f"sed s/ENVIRONMENT/{cluster.environment.name}/ k8s/namespace.yaml | "
            f"kubectl --context {cluster.context} apply -f -",
        )


def namespace_text(environment: Environment) -> str:
    """The namespace of an environment as YAML: k8s/namespace.yaml with the environment's name filled in."""
    return NAMESPACE.read_text().replace("ENVIRONMENT", environment.name)


def check_priority_classes(cluster: Cluster) -> None:
    """Create the priority classes of k8s/priority-classes.yaml that are missing; they belong to the whole cluster.

    Raises:
        ProblemError: One is missing and this user may not create it; kubectl's error is in the message.
    """
    wanted = {document["metadata"]["name"] for document in yaml.safe_load_all(PRIORITY_CLASSES.read_text()) if document}
    names = cluster.kubectl("get", "priorityclasses", "--output", "jsonpath={.items[*].metadata.name}")
    if wanted - set(names.split()):
        cluster.kubectl("apply", "-f", str(PRIORITY_CLASSES))


def check_secrets(cluster: Cluster, manifests: list[Manifest]) -> None:
    """Check that each Secret that a pod names exists, or that something in the manifests will make it.

    Raises:
        ProblemError: Secrets are missing and nothing makes them; they are named.
    """
    values = cluster.environment.values
    mode = values["platform"]["secrets"]["mode"]
    made = {m.name for m in manifests if m.kind in ("ExternalSecret", "Secret")}
    if mode == "generated":
        made |= set(values["global"]["secrets"].values())
    present = {secret.metadata.name for secret in cluster.core.list_namespaced_secret(cluster.namespace).items}
    pods = [pod.spec for manifest in manifests for pod in pods_of(manifest) if not pod.where]
    missing = sorted(set().union(*(named_secrets(spec, optional=False) for spec in pods)) - made - present)
    if missing:
        raise fail(
            f"namespace {cluster.namespace} has no Secret {', '.join(missing)}, and secrets.mode is {mode!r}.",
            "Make them (charts/platform/README.md names their keys), or let platform.secrets make them.",
        )


def check_pooler(cluster: Cluster) -> None:
    """Check that PgBouncer knows the login of DAG processor and triggerer, as far as the Secrets are there already.

    Raises:
        ProblemError: It does not: both would start again and again.
    """
    environment = cluster.environment
    login, pooler = (cluster.stored_secret(environment.secret(purpose)) for purpose in ("metadataDagCode", "pgbouncer"))
    if not environment.values["platform"]["pgbouncer"]["enabled"] or login is None or pooler is None:
        return
    name = unquote(urlsplit(login.content.get("connection", "")).username or "")
    known = {line.partition(" ")[0].strip('"') for line in pooler.content.get("users.txt", "").splitlines()}
    if "auth_query" not in pooler.content.get("pgbouncer.ini", "") and name not in known:
        raise fail(
            f"users.txt of Secret {environment.secret('pgbouncer')} does not have the login {name!r} of Secret "
            f"{environment.secret('metadataDagCode')}.",
            'Add a line "login" "password" for it and restart PgBouncer (docs/secrets.md), then run this again.',
        )
    _passed(f"PgBouncer knows the login {name} of DAG processor and triggerer")


def imports_of_dags() -> list[str]:
    """Modules of providers that DAGs and the library import, found without importing anything."""
    found: set[str] = set()
    for path in DAGS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            names: Iterator[str] = iter(())
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = iter([node.module])
            elif isinstance(node, ast.Import):
                names = (alias.name for alias in node.names)
            found |= {name for name in names if name.startswith("airflow.providers.")}
    return sorted(found)


def secrets_backends(values: Values) -> list[str]:
    """Classes of the secrets backends in the configuration, of the control plane and of workers."""
    config = values["airflow"]["config"]
    named = (config.get("secrets", {}).get("backend"), config.get("workers", {}).get("secrets_backend"))
    return sorted({name for name in named if name})


def probe_image(cluster: Cluster) -> Schema:
    """Start the environment's image once: pull it, import what it needs, reach the database if there is one.

    The auth manager is imported too: where it cannot be, a migration prints a traceback and still succeeds.

    Returns:
        The schema that the image needs and the one that the database has.

    Raises:
        ProblemError: The image cannot be pulled, an import fails, or the database does not answer.
    """
    environment, values = cluster.environment, cluster.environment.values
    auth_manager = values["airflow"]["config"]["core"]["auth_manager"]
    names = [":".join(name.rsplit(".", 1)) for name in (auth_manager, *secrets_backends(values))]
    names.append("airflow.providers.cncf.kubernetes.executors.kubernetes_executor")
    _delete_probe(cluster)
    try:
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(_probe(environment, [*names, *imports_of_dags()])))
        pod = _wait_for_probe(cluster)
        if pod.status.phase == "Succeeded":
            said = next(line for line in cluster.log(PROBE).splitlines() if line.startswith(SCHEMA))
            return Schema(**json.loads(said.removeprefix(SCHEMA)))
        log = ""
        if pod.status.phase == "Failed":
            lines = cluster.log(PROBE).splitlines()
            log = "\n".join(line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)) or "\n".join(lines)
        raise fail(
            f"the image {environment.image} does not work:\n" + (log or "\n".join(pod_evidence(cluster, pod))),
            "Correct the image or the database as the lines above say; nothing was changed.",
        )
    finally:
        _delete_probe(cluster)


def _delete_probe(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", PROBE, "--ignore-not-found", "--grace-period=0", "--wait=true")


def _wait_for_probe(cluster: Cluster) -> Any:
    def pod() -> Any:
        return cluster.core.read_namespaced_pod(PROBE, cluster.namespace)

    def is_decided() -> bool:
        status = pod().status
        waiting = [s.state.waiting for s in status.container_statuses or [] if s.state.waiting]
        stuck = any(state.reason in ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff") for state in waiting)
        return status.phase in ("Succeeded", "Failed") or stuck

    wait_until(is_decided, PROBE_SECONDS, 0.5)
    return pod()


def _probe(environment: Environment, modules: list[str]) -> dict[str, Any]:
    database = {"name": environment.secret("metadata"), "key": "connection-direct", "optional": True}
    command = ["python", "-c", PROBE_SCRIPT, *modules]
    return plain_pods.pod(environment, PROBE, "preflight", command, {"DATABASE_URL": database})
