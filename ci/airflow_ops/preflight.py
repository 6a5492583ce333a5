"""What must hold before a deploy changes anything."""

import ast
import json
import time
from collections.abc import Iterator
from typing import Any

import yaml
from kubernetes.client.exceptions import ApiException

from airflow_ops import deps, tools
from airflow_ops.console import fail, out
from airflow_ops.evidence import pod_evidence
from airflow_ops.kube import Cluster
from airflow_ops.manifests import Manifest, render_environment
from airflow_ops.repository import DAGS, ROOT
from airflow_ops.values import Values, image_name

NAMESPACE = ROOT / "k8s/namespace.yaml"
PRIORITY_CLASSES = ROOT / "k8s/priority-classes.yaml"
PROBE = "airflow-preflight"
PROBE_LABELS = {
    "app.kubernetes.io/name": "airflow-platform",
    "app.kubernetes.io/component": "preflight",
    "app.kubernetes.io/part-of": "airflow",
}
"""Selected by charts/platform/files/network.yaml. Without the release's instance label: Helm did not make this pod."""
PROBE_SECONDS = 300
"""A node pulls an image of 1.5 GB in 1 to 3 minutes; a probe that has not started by then tells why."""

SCRATCH = "/tmp"  # noqa: S108 an emptyDir of the probe pod
SAID = "preflight: "
"""What the probe's own lines begin with; the rest is what libraries warn of."""
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
sys.exit(bool(broken))
"""


def check(cluster: Cluster, values: Values, overlays: list[str]) -> None:
    """Check everything that can be known before a change; print a line for each check that holds.

    Args:
        cluster: The environment.
        values: Its values.
        overlays: Names of files in values/overlays/.

    Raises:
        ProblemError: One does not hold; the object or key is named.
    """
    _passed(f"context {cluster.context} is one of {cluster.environment}'s")
    deps.ensure()
    _passed("the official chart is here and its digest is right")
    manifests = render_environment(cluster.environment, None, overlays)
    _passed(f"{len(manifests)} manifests render")
    check_kinds(cluster, manifests)
    _passed("the cluster knows every kind")
    check_namespace(cluster)
    check_priority_classes(cluster)
    _passed(f"namespace {cluster.namespace} and the priority classes are there")
    check_secrets(cluster, values, manifests)
    _passed("every Secret is there or will be made")
    probe_image(cluster, values)
    _passed("the image starts, imports what Airflow and the DAGs name, and reaches the database")


def _passed(what: str) -> None:
    out.print(f"[green]ok[/] {what}", highlight=False)


def check_kinds(cluster: Cluster, manifests: list[Manifest]) -> None:
    """Make sure that the cluster serves every kind that will be applied.

    Raises:
        ProblemError: A custom resource definition is missing.
    """
    served = set(tools.run("kubectl", ["--context", cluster.context, "api-versions"]).stdout.split())
    missing = sorted({f"{m.kind} ({m.api_version})" for m in manifests if m.api_version not in served})
    if missing:
        raise fail(
            f"the cluster does not know {', '.join(missing)}.",
            "Install the operator that defines it, or switch it off in values/.",
        )


def check_namespace(cluster: Cluster) -> None:
    """Make the environment's namespace from k8s/namespace.yaml where it is missing, and check that it restricts pods.

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
            f"sed s/ENVIRONMENT/{cluster.environment}/ k8s/namespace.yaml | "
            f"kubectl --context {cluster.context} apply -f -",
        )


def namespace_text(environment: str) -> str:
    """The namespace of an environment as YAML: k8s/namespace.yaml with the environment's name filled in."""
    return NAMESPACE.read_text().replace("ENVIRONMENT", environment)


def check_priority_classes(cluster: Cluster) -> None:
    """Make the priority classes of k8s/priority-classes.yaml where they are missing; they belong to the whole cluster.

    Raises:
        ProblemError: One is missing and may not be made with these rights; kubectl's own words are in the message.
    """
    wanted = {document["metadata"]["name"] for document in yaml.safe_load_all(PRIORITY_CLASSES.read_text()) if document}
    names = cluster.kubectl("get", "priorityclasses", "--output", "jsonpath={.items[*].metadata.name}")
    if wanted - set(names.split()):
        cluster.kubectl("apply", "-f", str(PRIORITY_CLASSES))


def _nodes(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a nested object with its value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _nodes(value)
    elif isinstance(node, list):
        for item in node:
            yield from _nodes(item)


def _named_secrets(manifests: list[Manifest]) -> set[str]:
    """Names of the Secrets that rendered pods need; optional ones are left out."""
    references = [
        value
        for manifest in manifests
        if manifest.kind in ("Deployment", "StatefulSet", "Job", "CronJob")
        for key, value in _nodes(manifest.object)
        if key in ("secretRef", "secretKeyRef", "secret") and isinstance(value, dict) and not value.get("optional")
    ]
    return {name for reference in references if (name := reference.get("name") or reference.get("secretName"))}


def check_secrets(cluster: Cluster, values: Values, manifests: list[Manifest]) -> None:
    """Make sure that each Secret which a pod names exists, or that something in the manifests makes it.

    Raises:
        ProblemError: Secrets are missing and nothing makes them; they are named.
    """
    mode = values["platform"]["secrets"]["mode"]
    made = {m.name for m in manifests if m.kind in ("ExternalSecret", "Secret")}
    if mode == "generated":
        made |= set(values["global"]["secrets"].values())
    present = {secret.metadata.name for secret in cluster.core.list_namespaced_secret(cluster.namespace).items}
    missing = sorted(_named_secrets(manifests) - made - present)
    if missing:
        raise fail(
            f"namespace {cluster.namespace} has no Secret {', '.join(missing)}, and secrets.mode is {mode!r}.",
            "Make them (charts/platform/README.md names their keys), or let platform.secrets make them.",
        )


def imports_of_dags() -> list[str]:
    """Modules of providers that DAGs and the library import, without importing anything."""
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
    """Classes of the secrets backends that the configuration names, of the control plane and of workers."""
    config = values["airflow"]["config"]
    named = (config.get("secrets", {}).get("backend"), config.get("workers", {}).get("secrets_backend"))
    return sorted({name for name in named if name})


def probe_image(cluster: Cluster, values: Values) -> None:
    """Start the environment's image once: pull it, import what it needs, reach the database if there is one.

    A migration can print a traceback and still succeed where the auth manager cannot be imported: seen here first.

    Raises:
        ProblemError: The image cannot be pulled, an import fails, or the database does not answer.
    """
    auth_manager = values["airflow"]["config"]["core"]["auth_manager"]
    names = [":".join(name.rsplit(".", 1)) for name in (auth_manager, *secrets_backends(values))]
    names.append("airflow.providers.cncf.kubernetes.executors.kubernetes_executor")
    _delete_probe(cluster)
    try:
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(_probe(values, [*names, *imports_of_dags()])))
        pod = _wait_for_probe(cluster)
        if pod.status.phase == "Succeeded":
            return
        log = ""
        if pod.status.phase == "Failed":
            lines = cluster.log(PROBE).splitlines()
            log = "\n".join(line.removeprefix(SAID) for line in lines if line.startswith(SAID)) or "\n".join(lines)
        raise fail(
            f"the image {image_name(values)} is not fit:\n" + (log or "\n".join(pod_evidence(cluster, pod))),
            "Mend the image or the database that the lines above name; nothing was changed.",
        )
    finally:
        _delete_probe(cluster)


def _delete_probe(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", PROBE, "--ignore-not-found", "--grace-period=0", "--wait=true")


def _wait_for_probe(cluster: Cluster) -> Any:
    end = time.monotonic() + PROBE_SECONDS
    while True:
        pod = cluster.core.read_namespaced_pod(PROBE, cluster.namespace)
        waiting = [s.state.waiting for s in pod.status.container_statuses or [] if s.state.waiting]
        stuck = any(state.reason in ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff") for state in waiting)
        if pod.status.phase in ("Succeeded", "Failed") or stuck or time.monotonic() > end:
            return pod
        time.sleep(0.5)


def _probe(values: Values, modules: list[str]) -> dict[str, Any]:
    secret = values["global"]["secrets"]["metadata"]
    database = {"name": secret, "key": "connection-direct", "optional": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": PROBE,
            "labels": PROBE_LABELS,
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": values["airflow"].get("imagePullSecrets", []),
            "securityContext": values["airflow"]["securityContexts"]["pod"],
            "containers": [
                {
                    "name": "probe",
                    "image": image_name(values),
                    "imagePullPolicy": values["global"]["image"]["pullPolicy"],
                    "command": ["python", "-c", PROBE_SCRIPT, *modules],
                    "securityContext": values["airflow"]["securityContexts"]["containers"],
                    "env": [
                        {"name": "AIRFLOW_HOME", "value": f"{SCRATCH}/airflow"},
                        {"name": "HOME", "value": SCRATCH},
                        {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": database}},
                    ],
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": SCRATCH}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
