"""The HTTP API of a Prometheus, and how to find the one that watches an environment on its cluster."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail

GROUP, VERSION = "monitoring.coreos.com", "v1"
WEB_PORT = 9090
TIMEOUT_SECONDS = 30
TOKEN = "PROMETHEUS_TOKEN"  # noqa: S105  the name of the variable
Series = dict[str, str]
"""Labels of a series."""


class QueryError(Exception):
    """An expression that Prometheus refuses; the message is the error that it returned."""


class Prometheus:
    """The HTTP API of a Prometheus, or of a compatible server (Thanos, Mimir)."""

    def __init__(self, url: str) -> None:
        """Query the Prometheus at `url`, with the bearer token of the environment variable PROMETHEUS_TOKEN.

        Raises:
            ProblemError: The token cannot be one.
        """
        token = os.environ.get(TOKEN)
        # Checked here because httpx would show it in its error.
        if token and not re.fullmatch(r"[!-~]+", token):
            raise fail(f"{TOKEN} holds a sign that no header may have.", "Set it to one line of ASCII, no blanks.", 2)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS)

    def get(self, path: str, **parameters: str) -> Any:
        """Send a GET request and return the `data` of the answer.

        Args:
            path: Path below /api/v1/.
            **parameters: Parameters of the query string.

        Raises:
            QueryError: Prometheus refuses the request.
            ProblemError: There is no Prometheus at the address, or it requires a token.
        """
        try:
            answer = self._client.get(f"{self.url}/api/v1/{path}", params=parameters)
        # httpx raises InvalidURL or ValueError for a text that it cannot read as a URL.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise fail(
                f"no Prometheus answers at {self.url!r}: {error}.", "Correct --url, or start that Prometheus."
            ) from error
        if answer.status_code in (401, 403):
            raise fail(f"{self.url} refuses the request ({answer.status_code}).", f"Set {TOKEN} to a bearer token.")
        try:
            content = answer.json()
            if content["status"] == "success":
                return content["data"]
            raise QueryError(content["error"])
        except (ValueError, KeyError, TypeError) as error:
            said = answer.text[:80].replace("\n", " ")
            raise fail(
                f"{answer.url.copy_with(query=None)} is not the API of a Prometheus: {answer.status_code} {said!r}.",
                "Give the URL under which its web page opens.",
            ) from error

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The present samples of an expression, each with metric and value.

        Raises:
            QueryError: Prometheus cannot evaluate it.
        """
        data = self.get("query", query=expr)
        return list(data["result"]) if data["resultType"] == "vector" else []

    def series(self, selector: str) -> list[Series]:
        """Labels of every series that a selector matches now, including its name.

        Raises:
            QueryError: It is not a selector.
        """
        return [sample["metric"] for sample in self.query(selector)]

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule: name, type, query, health, lastError, labels, and its alerts if it has any."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Its scrape targets: labels, health, lastError."""
        return list(self.get("targets", state="active")["activeTargets"])

    def firing(self, namespace: str) -> set[str]:
        """Names of the alerts that fire in a namespace now."""
        found = self.series(f'ALERTS{{namespace="{namespace}", alertstate="firing"}}')
        return {series["alertname"] for series in found}


def selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector as text for a query of the Kubernetes API."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for item in selector.get("matchExpressions") or []:
        key, values = item["key"], ",".join(item.get("values") or [])
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(forms[item["operator"]])
    return ",".join(parts)


class Operator:
    """The resources of the Prometheus operator on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Use the API of the environment's cluster."""
        self.cluster = cluster
        self._objects = client.CustomObjectsApi(cluster.core.api_client)

    def prometheuses(self) -> list[dict[str, Any]]:
        """The Prometheus resources of all namespaces.

        Raises:
            ProblemError: The cluster has no Prometheus operator, or this user may not list its resources.
        """
        try:
            found = self._objects.list_cluster_custom_object(GROUP, VERSION, "prometheuses")
        except ApiException as error:
            if error.status == 404:
                raise fail(
                    f"the cluster of {self.cluster.context!r} has no Prometheus operator.",
                    "Install one (kube-prometheus-stack), or name a Prometheus with --url.",
                ) from error
            raise fail(
                f"the Prometheus resources of {self.cluster.context!r} cannot be listed: {error.reason}.",
                "Name the Prometheus with --url.",
            ) from error
        return list(found["items"])

    def selects_rules(self, prometheus: dict[str, Any]) -> bool:
        """Whether a Prometheus resource selects the PrometheusRules of the environment."""
        spec, home = prometheus["spec"], prometheus["metadata"]["namespace"]
        if spec.get("ruleSelector") is None:
            return False
        if spec.get("ruleNamespaceSelector") is None:
            if home != self.cluster.namespace:
                return False
        else:
            wanted = selector_text(spec["ruleNamespaceSelector"])
            names = self.cluster.core.list_namespace(label_selector=wanted).items
            if self.cluster.namespace not in [one.metadata.name for one in names]:
                return False
        rules = self._objects.list_namespaced_custom_object(
            GROUP,
            VERSION,
            self.cluster.namespace,
            "prometheusrules",
            label_selector=selector_text(spec["ruleSelector"]),
        )
        return bool(rules["items"])


@contextmanager
def connect(cluster: Cluster) -> Iterator[Prometheus]:
    """Connect to the Prometheus on the cluster that selects the environment's rules, by a forwarded port.

    Raises:
        ProblemError: There is none, or it cannot be reached.
    """
    operator = Operator(cluster)
    found = [one for one in operator.prometheuses() if operator.selects_rules(one)]
    if not found:
        raise fail(
            f"no Prometheus of the cluster selects the PrometheusRules of {cluster.namespace}.",
            "Deploy them (`--overlay monitoring`), with the labels of its ruleSelector in platform.monitoring.labels.",
        )
    name, namespace = found[0]["metadata"]["name"], found[0]["metadata"]["namespace"]
    with cluster.forward(f"statefulset/prometheus-{name}", WEB_PORT, namespace) as address:
        yield Prometheus(address + found[0]["spec"].get("routePrefix", "").rstrip("/"))
