"""The manifests of an environment: the objects that Helm renders from both charts."""

import configparser
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from airflow_ops import programs
from airflow_ops.console import fail
from airflow_ops.environments import official_chart
from airflow_ops.environments.configuration import read_yaml
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import ROOT


def _kubernetes_versions() -> tuple[str, ...]:
    chart = read_yaml(ROOT / "charts/platform/Chart.yaml", "charts/platform/Chart.yaml")
    listed = chart["annotations"]["airflow-platform.io/kubernetes-versions"]
    return tuple(f"{version.strip()}.0" for version in listed.split(","))


KUBERNETES_VERSIONS = _kubernetes_versions()
"""The supported versions of Kubernetes, oldest first; manifests are rendered for the newest one."""

PARALLEL = 4
"""How many programs run at once: one Helm keeps about half of two cores busy."""

Object = dict[str, Any]


class Colour(StrEnum):
    """The colour of one of the two sets of Airflow processes of an environment."""

    BLUE = "blue"
    GREEN = "green"


@dataclass(frozen=True)
class Release:
    """One Helm release of an environment.

    Attributes:
        name: airflow-platform, airflow-blue or airflow-green.
        chart: Folder of the chart under charts/: platform or airflow.
        environment: The environment.
        settings: Values over those of the files, as arguments of Helm's --set.
    """

    name: str
    chart: str
    environment: Environment
    settings: tuple[str, ...] = ()

    @property
    def namespace(self) -> str:
        """The namespace of the environment."""
        return self.environment.namespace

    @property
    def chart_folder(self) -> Path:
        """The chart's folder."""
        return self.environment.root / "charts" / self.chart

    def value_arguments(self) -> list[str]:
        """The `--values` and `--set` arguments for Helm, in their order."""
        files = [word for file in self.environment.value_files for word in ("--values", str(file))]
        colour = self.environment.active_colour
        settings = [*([f"global.activeColour={colour}"] if colour else []), *self.settings]
        return [*files, *(word for setting in settings for word in ("--set", setting))]


@dataclass(frozen=True)
class Manifest:
    """One object of a release.

    Attributes:
        release: Name of its release.
        namespace: Its namespace; empty for a kind without namespace that names none.
        object: The object as Helm rendered it.
    """

    release: str
    namespace: str
    object: Object

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def api_version(self) -> str:
        """Its apiVersion."""
        return str(self.object["apiVersion"])

    @property
    def identity(self) -> str:
        """Its name in an error, which no other object of the environment has."""
        return f"{self.release}/{self.kind}/{self.name}"

    def yaml(self) -> str:
        """The object as YAML, with keys in Helm's order."""
        return dump(self.object)


def dump(content: Object, *, sort_keys: bool = False) -> str:
    """The object as YAML that Kubernetes reads as the same object."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=sort_keys, width=120, allow_unicode=True))


class _Dumper(yaml.CSafeDumper):
    """Writes texts of several lines as blocks, and repeats a value instead of writing an alias for it."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


# PyYAML writes these texts without quotes, and Go's YAML parser then reads them as numbers or booleans.
QUOTED_FOR_GO = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+|0o[0-7]+|[yYnN]")


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if QUOTED_FOR_GO.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def releases(environment: Environment, colour: Colour | None = None) -> tuple[Release, Release]:
    """The two releases of an environment: the platform, which both colours share, then one colour of Airflow.

    Args:
        environment: The environment.
        colour: The colour of Airflow; by default its active one.

    Raises:
        ProblemError: See `active_colour`.
    """
    return (
        Release("airflow-platform", "platform", environment),
        Release(f"airflow-{colour or active_colour(environment)}", "airflow", environment),
    )


def active_colour(environment: Environment) -> Colour:
    """The colour that users reach, by `global.activeColour`.

    Raises:
        ProblemError: It is neither blue nor green.
    """
    named = environment.values.get("global", {}).get("activeColour")
    try:
        return Colour(named)
    except ValueError as error:
        raise fail(f"global.activeColour is {named!r}.", "Set it to blue or green.") from error


def template(release: Release, chart: Path | None = None) -> str:
    """The output of `helm template` for a release, with the official chart in place.

    Args:
        release: The release.
        chart: A changed copy of its chart; by default the chart itself.

    Raises:
        ProblemError: Helm refuses: a template fails, or a value breaks a schema.
    """
    if release.chart == "airflow":
        official_chart.ensure(release.environment.root)
    answer = programs.run(
        "helm",
        [
            "template",
            release.name,
            chart or release.chart_folder,
            "--namespace",
            release.namespace,
            "--kube-version",
            KUBERNETES_VERSIONS[-1],
            *release.value_arguments(),
        ],
    )
    if answer.returncode != 0:
        raise fail(
            f"release {release.name} of {release.environment.name} cannot be rendered: {programs.error_text(answer)}",
            f"Correct the key that Helm names in values/ or charts/{release.chart}.",
        )
    return answer.stdout


def parse(release: Release, text: str) -> list[Manifest]:
    """The objects in Helm's output.

    Raises:
        ProblemError: It is not YAML, contains something that is not an object, or the same object twice.
    """
    try:
        documents = [d for d in yaml.load_all(text, Loader=yaml.CSafeLoader) if d is not None]
    except yaml.YAMLError as error:
        raise fail(
            f"release {release.name} renders to something that is not YAML: {error}", "Correct the template."
        ) from error
    found: dict[tuple[str, str, str, str], Manifest] = {}
    for document in documents:
        if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= document.keys():
            raise fail(
                f"release {release.name} renders something that is not an object: {document!r:.200}",
                "Correct the template.",
            )
        manifest = Manifest(release.name, document["metadata"].get("namespace", release.namespace), document)
        key = (manifest.api_version, manifest.kind, manifest.namespace, manifest.name)
        if key in found:
            raise fail(
                f"{manifest.identity} is rendered twice.", "Rename one of them, because Helm would apply only one."
            )
        found[key] = manifest
    return list(found.values())


def render_environment(environment: Environment, colour: Colour | None = None) -> list[Manifest]:
    """Every object of an environment, both charts, in Helm's order.

    Args:
        environment: The environment.
        colour: The colour of Airflow; by default its active one.

    Raises:
        ProblemError: See `releases`, `template` and `parse`.
    """
    with ThreadPoolExecutor(PARALLEL) as pool:
        both = releases(environment, colour)
        return [manifest for rendered in pool.map(lambda r: parse(r, template(r)), both) for manifest in rendered]


@dataclass(frozen=True)
class Pod:
    """The pod of a workload, or a pod template from which Airflow makes worker pods.

    Attributes:
        manifest: The object that contains it.
        where: Empty for the object's own pod; else the key of the ConfigMap.
        metadata: The pod's metadata.
        spec: The pod's spec.
        runs_on: Whether its containers are meant to run until they are stopped.
    """

    manifest: Manifest
    where: str
    metadata: Object
    spec: Object
    runs_on: bool

    @property
    def identity(self) -> str:
        """Name of the object, and the key if it is a pod template in a ConfigMap."""
        return f"{self.manifest.identity}[{self.where}]" if self.where else self.manifest.identity

    def containers(self) -> Iterator[tuple[Object, bool]]:
        """Every container, init containers first, and whether it runs until it is stopped."""
        for container in self.spec.get("initContainers") or []:
            yield container, container.get("restartPolicy") == "Always"
        for container in self.spec.get("containers") or []:
            yield container, self.runs_on


WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}


def pods(manifest: Manifest) -> Iterator[Pod]:
    """The pods of an object, including pod templates that a ConfigMap contains as text.

    Raises:
        ProblemError: A ConfigMap has a key that names a YAML file and whose content is not YAML.
    """
    spec = manifest.object.get("spec") or {}
    match manifest.kind:
        case "Pod":
            yield Pod(manifest, "", manifest.object["metadata"], spec, False)
        case "CronJob":
            inner = spec["jobTemplate"]["spec"]["template"]
            yield Pod(manifest, "", inner.get("metadata") or {}, inner["spec"], False)
        case "ConfigMap":
            yield from _pod_templates(manifest)
        case kind if kind in WORKLOADS or kind == "Job":
            inner = spec["template"]
            yield Pod(manifest, "", inner.get("metadata") or {}, inner["spec"], kind != "Job")


def _pod_templates(manifest: Manifest) -> Iterator[Pod]:
    for key, text in (manifest.object.get("data") or {}).items():
        if not key.endswith((".yaml", ".yml")):
            continue
        try:
            document = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise fail(f"{manifest.identity}: its key {key} is not YAML: {error}", "Correct the template.") from error
        if isinstance(document, dict) and document.get("kind") == "Pod":
            yield Pod(manifest, key, document.get("metadata") or {}, document.get("spec") or {}, False)


def airflow_config(manifests: Iterable[Manifest]) -> configparser.ConfigParser:
    """The airflow.cfg that the official chart renders for all components.

    Raises:
        ProblemError: No ConfigMap contains one.
    """
    for manifest in manifests:
        text = (manifest.object.get("data") or {}).get("airflow.cfg") if manifest.kind == "ConfigMap" else None
        if text:
            config = configparser.ConfigParser(interpolation=None, strict=False)
            config.read_string(text)
            return config
    raise fail(
        "no ConfigMap of the environment contains airflow.cfg.", "See the manifests of `airflow-ops render ENV OUT`."
    )
