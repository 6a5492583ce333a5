"""A live Prometheus: its HTTP API, and the one of a cluster that watches an environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError, fail

GROUP, VERSION = "monitoring.coreos.com", "v1"
WEB_PORT = 9090
TIMEOUT_SECONDS = 30
TOKEN = "PROMETHEUS_TOKEN"  # noqa: S105  the name of the variable
Series = dict[str, str]
"""Labels of a series."""


class QueryError(Exception):
    """An expression that Prometheus does not evaluate; its own words are the message."""


class Prometheus:
    """The HTTP API of a Prometheus, or of whatever speaks like one (Thanos, Mimir)."""

    def __init__(self, url: str) -> None:
        """Talk to the Prometheus at `url`; a bearer token comes from the environment variable PROMETHEUS_TOKEN."""
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS)

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer.

        Args:
            path: Below /api/v1/.
            **parameters: Of the query string.

        Raises:
            QueryError: Prometheus refuses the request.
            ProblemError: There is no Prometheus at the address, or it asks for a token.
        """
        try:
            answer = self._client.get(f"{self.url}/api/v1/{path}", params=parameters)
        except httpx.HTTPError as error:
            raise fail(
                f"no Prometheus answers at {self.url}: {error}.", "Is the address right, and is it up?"
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
                "Give the address under which its page opens.",
            ) from error

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an expression now, as Prometheus gives them: metric and value.

        Raises:
            QueryError: It does not evaluate.
        """
        data = self.get("query", query=expr)
        return list(data["result"]) if data["resultType"] == "vector" else []

    def series(self, selector: str) -> list[Series]:
        """Labels of every series that a selector matches now, its name among them.

        Raises:
            QueryError: It is no selector.
        """
        return [sample["metric"] for sample in self.query(selector)]

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule: name, type, query, health, lastError, labels, and alerts where there are some."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes: labels, health, lastError."""
        return list(self.get("targets", state="active")["activeTargets"])

    def firing(self, namespace: str) -> set[str]:
        """Names of the alerts that fire in a namespace now."""
        found = self.series(f'ALERTS{{namespace="{namespace}", alertstate="firing"}}')
        return {series["alertname"] for series in found}


def selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector as the Kubernetes API takes it in a query."""
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
    """What the Prometheus operator of a cluster holds."""

    def __init__(self, cluster: Cluster) -> None:
        """Look through the API of the environment's cluster."""
        self.cluster = cluster
        self._objects = client.CustomObjectsApi(cluster.core.api_client)

    def prometheuses(self) -> list[dict[str, Any]]:
        """The Prometheus resources of all namespaces.

        Raises:
            ProblemError: The cluster has no Prometheus operator, or one may not look.
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
        """Whether a Prometheus resource takes the PrometheusRules of the environment."""
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
    """The Prometheus of the cluster that takes the environment's rules, by a forwarded port.

    Raises:
        ProblemError: There is none, or it cannot be reached.
    """
    operator = Operator(cluster)
    found = [one for one in operator.prometheuses() if operator.selects_rules(one)]
    if not found:
        raise fail(
            f"no Prometheus of the cluster takes PrometheusRules of {cluster.namespace}.",
            "Deploy them (`--overlay monitoring`), and give platform.monitoring.labels what its ruleSelector asks for.",
        )
    name, namespace = found[0]["metadata"]["name"], found[0]["metadata"]["namespace"]
    with cluster.forward(f"statefulset/prometheus-{name}", WEB_PORT, namespace) as address:
        yield Prometheus(address + found[0]["spec"].get("routePrefix", "").rstrip("/"))


def is_there(cluster: Cluster) -> bool:
    """Whether the cluster has a Prometheus operator."""
    try:
        Operator(cluster).prometheuses()
    except ProblemError:
        return False
    return True
