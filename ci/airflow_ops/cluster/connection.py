"""One environment on one cluster: kubectl, the Kubernetes API, and port-forwards to its Services."""

import base64
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3 import Retry

from airflow_ops import programs
from airflow_ops.console import TRY_AGAIN, fail
from airflow_ops.environments.environment import FILE, Environment

T = TypeVar("T")

RETRIES = Retry(
    total=5,
    backoff_factor=0.5,
    status_forcelist=[429, 500, 502, 503, 504],
    allowed_methods=["GET", "PATCH"],
    raise_on_status=False,
)
"""A control plane that is replaced, or an etcd that elects a leader, is away for seconds."""


NOT_FOUND = 404
IN_CLUSTER = "in-cluster"
"""The context of a Job in the cluster (charts/platform/files/scripts/run_operation.sh)."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""In a pod with a token of its service account: the namespace of both."""


def existing(read: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    """What the Kubernetes API answers to a read; None where the object does not exist.

    Args:
        read: A method of a client.
        *arguments: What it is called with.
        **options: What else it is called with, by name.
    """
    try:
        return read(*arguments, **options)
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise
        return None


@dataclass(frozen=True)
class StoredSecret:
    """A Secret as it was read.

    Attributes:
        content: Its content by key.
        version: Its `metadata.resourceVersion`, which every change of it replaces.
    """

    content: dict[str, str] = field(repr=False)
    version: str


@dataclass(frozen=True)
class Cluster:
    """An environment's namespace on the cluster of a kubectl context.

    Attributes:
        environment: The environment.
        context: Name of the kubectl context.
    """

    environment: Environment
    context: str

    @property
    def namespace(self) -> str:
        """The environment's namespace."""
        return self.environment.namespace

    def client(self, *, retries: bool) -> Any:
        """A client of the Kubernetes API.

        Args:
            retries: Whether requests that may be repeated are, for about 15 s.
        """
        # As kubectl has it, an empty KUBECONFIG is none.
        file = os.environ.get("KUBECONFIG") or "~/.kube/config"
        settings = client.Configuration()
        if self.context == IN_CLUSTER:
            # This one reads the token again when Kubernetes has replaced it; a kubeconfig's token file is read once.
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(file, context=self.context, client_configuration=settings)
        settings.retries = RETRIES if retries else False
        return client.ApiClient(settings)

    @cached_property
    def core(self) -> Any:
        """The Kubernetes API for pods, Secrets, events."""
        return client.CoreV1Api(self.client(retries=True))

    @cached_property
    def batch(self) -> Any:
        """The Kubernetes API for Jobs."""
        return client.BatchV1Api(self.core.api_client)

    @cached_property
    def apps(self) -> Any:
        """The Kubernetes API for Deployments and StatefulSets."""
        return client.AppsV1Api(self.core.api_client)

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: int | None = None) -> str:
        """Run kubectl in the environment's namespace.

        Args:
            *arguments: What follows context and namespace.
            stdin: Text for its standard input.
            seconds: How long it may take, where it waits for something; see `programs.run`.

        Returns:
            Its standard output.

        Raises:
            ProblemError: It fails; its error output is in the message.
        """
        command = ["--context", self.context, "--namespace", self.namespace, *arguments]
        answer = programs.run("kubectl", command, stdin=stdin, seconds=seconds)
        if answer.returncode != 0:
            raise fail(
                f"kubectl {' '.join(arguments[:3])}: {programs.error_text(answer)}",
                "Correct what kubectl names.",
            )
        return answer.stdout

    def secret(self, name: str) -> dict[str, str] | None:
        """Content of a Secret by key, or None where it does not exist."""
        stored = self.stored_secret(name)
        return stored.content if stored else None

    def stored_secret(self, name: str) -> StoredSecret | None:
        """A Secret with its version, or None where it does not exist."""
        secret = existing(self.core.read_namespaced_secret, name, self.namespace)
        if secret is None:
            return None
        content = {key: base64.b64decode(value).decode() for key, value in (secret.data or {}).items()}
        return StoredSecret(content, secret.metadata.resource_version)

    def log(self, pod: str, **options: Any) -> str:
        """A container's log.

        Args:
            pod: Name of the pod.
            **options: Of the API: container, tail_lines, previous.
        """
        # Without this the client returns the log as the text of a bytes literal.
        answer = self.core.read_namespaced_pod_log(pod, self.namespace, _preload_content=False, **options)
        text: str = answer.data.decode(errors="replace")
        return text

    @contextmanager
    def forward(self, service: str, port: int, namespace: str = "") -> Iterator[str]:
        """Forward a port of this machine to a Service for the duration of a `with` block.

        Args:
            service: Name of the Service, or kind/name of a workload.
            port: Its port.
            namespace: Where it is; empty for the environment's own.

        Yields:
            Its address, http://127.0.0.1:<free port>.

        Raises:
            ProblemError: The Service does not exist or has no ready pod.
        """
        namespace = namespace or self.namespace
        target = service if "/" in service else f"service/{service}"
        command = [programs.find("kubectl"), "--context", self.context, "--namespace", namespace]
        command += ["port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    said = process.stderr.read().strip() if process.stderr else ""
                    raise fail(
                        f"{target} of {namespace} cannot be reached: {said or 'no answer'}.",
                        f"Look at its pods: kubectl --context {self.context} -n {namespace} get pods.",
                    )
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                process.terminate()


def _is_in(environment: Environment, context: str) -> bool:
    """Whether this runs in a pod of the environment, with a context for the cluster that the pod is in."""
    return context == IN_CLUSTER and NAMESPACE_FILE.exists() and NAMESPACE_FILE.read_text() == environment.namespace


def _check_kubeconfig() -> None:
    """Check that what KUBECONFIG names can be read more than once: kubectl would wait for a pipe, or find it empty.

    Raises:
        ProblemError: One of its files is none.
    """
    for name in filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)):
        # kubectl ignores a file that does not exist, so this does too.
        if os.path.exists(name) and not os.path.isfile(name):  # noqa: PTH110, PTH113  they answer also where Path raises
            raise fail(f"KUBECONFIG names {name}, which is no file.", "Name files, separated by colons.", 2)


def connect(environment: Environment) -> Cluster:
    """The environment on the cluster of kubectl's current context.

    Raises:
        ProblemError: There is no current context, it is not one of this environment's, or the cluster does not answer.
    """
    _check_kubeconfig()
    answer = programs.run("kubectl", ["config", "current-context"])
    if answer.returncode != 0:
        raise fail(
            f"kubectl has no current context: {programs.error_text(answer)}.",
            "Point KUBECONFIG at one, or make one: make cluster-up.",
            exit_code=2,
        )
    context = answer.stdout.strip()
    if context not in environment.contexts and not _is_in(environment, context):
        raise fail(
            f"context {context!r} is not a cluster of {environment.name}: "
            f"{FILE} allows {', '.join(environment.contexts) or 'none'}.",
            f"Switch with `kubectl config use-context`, or add {context!r} to that file.",
            exit_code=2,
        )
    cluster = Cluster(environment, context)
    reached = programs.run("kubectl", ["--context", context, "get", "--raw", "/version", "--request-timeout=10s"])
    if reached.returncode != 0:
        raise fail(
            f"the cluster of {context!r} does not answer: {programs.error_text(reached)}.",
            f"Start it, or renew the login that kubeconfig has for it: kubectl --context {context} version.",
            TRY_AGAIN,
        )
    return cluster
