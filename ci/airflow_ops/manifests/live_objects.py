"""The objects of an environment on a cluster, reduced to the fields that the charts set."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from kubernetes import dynamic
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError
from kubernetes.utils.quantity import parse_quantity

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail
from airflow_ops.manifests.objects import Manifest, Object, Release, parse


def is_hook(manifest: Manifest) -> bool:
    """Whether an object is a Helm hook, which exists only during an upgrade."""
    return "helm.sh/hook" in (manifest.object["metadata"].get("annotations") or {})


def as_stored(manifest: Manifest) -> Manifest:
    """A manifest in the form that the API server stores: a Secret's stringData becomes data."""
    texts = manifest.object.get("stringData") if manifest.kind == "Secret" else None
    if not texts:
        return manifest
    coded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}
    rest = {key: value for key, value in manifest.object.items() if key != "stringData"}
    return replace(manifest, object=rest | {"data": (manifest.object.get("data") or {}) | coded})


def deployed(cluster: Cluster, release: Release) -> list[Manifest]:
    """The manifests that Helm deployed last for a release; none if it is not installed.

    Raises:
        ProblemError: The cluster cannot be reached.
    """
    text = ask_helm(cluster, release, "get", "manifest")
    return [] if text is None else parse(release, text)


def ask_helm(cluster: Cluster, release: Release, *words: str) -> str | None:
    """What Helm has recorded about a release; None if it is not installed.

    Args:
        cluster: The environment.
        release: The release.
        *words: The command of Helm that reads it.

    Raises:
        ProblemError: The cluster cannot be reached.
    """
    where = ["--kube-context", cluster.context, "--namespace", release.namespace]
    answer = programs.run("helm", [*words, release.name, *where])
    if answer.returncode == 0:
        return answer.stdout
    if "not found" in answer.stderr:
        return None
    raise fail(
        f"release {release.name} cannot be read: {programs.error_text(answer)}.",
        "Point KUBECONFIG at a cluster that you may read.",
    )


class LiveObjects:
    """Reads the objects of an environment from its cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Use the API of a cluster that `connect` has reached."""
        self._client = dynamic.DynamicClient(cluster.core.api_client)

    def existing(self, rendered: Iterable[Manifest], before: Iterable[Manifest]) -> list[Manifest]:
        """The objects that exist on the cluster, each reduced to the fields that a chart sets or has set.

        Fields that the API server and controllers add are left out, because no chart decides on them.

        Args:
            rendered: The objects that the charts render now, from `as_stored`.
            before: The objects that Helm deployed last, from `as_stored`; those that are only here would be removed.

        Raises:
            ProblemError: An object may not be read.
        """
        wanted: dict[tuple[str, str, str, str], tuple[Manifest, Object]] = {}
        for fields, manifest in [*((filled(m.object), m) for m in before), *((m.object, m) for m in rendered)]:
            if not is_hook(manifest):
                key = (manifest.api_version, manifest.kind, manifest.namespace, manifest.name)
                wanted[key] = (manifest, union(wanted[key][1], fields) if key in wanted else fields)
        found = []
        for manifest, fields in wanted.values():
            if (object_ := self._get(manifest)) is not None:
                found.append(Manifest(manifest.release, manifest.namespace, cut(object_, fields)))
        return found

    def _get(self, manifest: Manifest) -> Object | None:
        try:
            resource = self._client.resources.get(api_version=manifest.api_version, kind=manifest.kind)
            place = {"namespace": manifest.namespace} if resource.namespaced else {}
            answer: Object = resource.get(name=manifest.name, **place).to_dict()
        except (NotFoundError, ResourceNotFoundError):
            return None
        except DynamicApiError as error:
            raise fail(
                f"{manifest.identity} cannot be read: {error.reason}.", "Ask for the right to get it."
            ) from error
        return answer


def filled(value: Any) -> Any:
    """A structure without its empty fields: the API server does not store them, so they cannot be removed."""
    if isinstance(value, dict):
        return {key: kept for key, inner in value.items() if not _is_empty(kept := filled(inner))}
    return [filled(inner) for inner in value] if isinstance(value, list) else value


def union(one: Any, other: Any) -> Any:
    """Two structures merged; the second wins where both have a value."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: union(one[key], other[key]) if key in one and key in other else (other | one)[key]
            for key in one | other
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [union(*pair) for pair in zip(one, other, strict=True)]
    return other


def cut(live: Any, fields: Any) -> Any:
    """Reduce a live structure to the fields of a chart, in the chart's notation where both mean the same.

    Args:
        live: A value from the API server.
        fields: The value that a chart sets, or the union of two.
    """
    if isinstance(fields, dict) and isinstance(live, dict):
        kept = {key: cut(live[key], wanted) for key, wanted in fields.items() if key in live}
        # The API server does not store a field that the chart leaves empty, so that it is missing is no difference.
        return kept | {key: wanted for key, wanted in fields.items() if key not in live and _is_empty(wanted)}
    if isinstance(fields, list) and isinstance(live, list):
        return _cut_list(live, fields)
    return fields if _same(live, fields) or (_is_empty(live) and _is_empty(fields)) else live


def _cut_list(live: list[Any], fields: list[Any]) -> list[Any]:
    by_name = {item["name"]: item for item in fields if isinstance(item, dict) and "name" in item}
    if len(by_name) == len(fields) and all(isinstance(item, dict) and "name" in item for item in live):
        return [cut(item, by_name.get(item["name"], item)) for item in live]
    if len(live) == len(fields):
        return [cut(*pair) for pair in zip(live, fields, strict=True)]
    return live


def _is_empty(value: Any) -> bool:
    return value in (None, "", 0, False) or (isinstance(value, dict | list) and not value)


def _same(live: Any, written: Any) -> bool:
    """Whether two values mean the same to Kubernetes: 1 and "1", 1000m and 1, 0.5 and 500m."""
    if live == written:
        return True
    if isinstance(live, str | int) and isinstance(written, str | int | float):
        return _amount(live) is not None and _amount(live) == _amount(written)
    return False


def _amount(value: str | float) -> Decimal | None:
    try:
        return Decimal(parse_quantity(value))
    except ValueError:
        return None
