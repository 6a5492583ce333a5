"""What tests of the charts look at: the manifests of an environment, and what Helm answers to other values."""

import configparser
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.console import ProblemError
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import KUBERNETES_VERSIONS, Manifest, Object, Pod, parse, pods, releases, template
from airflow_ops.paths import CHARTS, DAGS, ROOT, VALUES
from support.once import digest, folder_digest, once

ENVIRONMENTS = ("dev", "staging", "prod")
RELEASES = {"airflow-platform": "platform", "airflow-blue": "airflow"}
"""Release to the folder of its chart."""


@dataclass(frozen=True)
class Rendered:
    """The manifests of an environment, both releases.

    Attributes:
        environment: Its name.
        manifests: What Helm made.
    """

    environment: str
    manifests: list[Manifest]

    def all(self, kind: str) -> dict[str, Object]:
        """Objects of a kind by name."""
        return {m.name: m.object for m in self.manifests if m.kind == kind}

    def one(self, kind: str, name: str) -> Object:
        """An object, which must be there."""
        found = self.all(kind)
        assert name in found, f"{self.environment} has no {kind} {name}, only {sorted(found)}"
        return found[name]

    def starting(self, kind: str, prefix: str) -> Object:
        """The one object of a kind whose name begins so."""
        found = {name: each for name, each in self.all(kind).items() if name.startswith(prefix)}
        assert len(found) == 1, f"{self.environment}: {kind} {prefix}* is {sorted(found)}"
        return next(iter(found.values()))

    def workers(self) -> dict[str, Object]:
        """Worker pod templates by size."""
        data = self.starting("ConfigMap", "airflow-blue-pod-templates")["data"]
        return {key.removesuffix(".yaml"): yaml.load(text, yaml.CSafeLoader) for key, text in data.items()}

    def pods(self) -> Iterator[Pod]:
        """Every pod that a component, Job or template describes."""
        for manifest in self.manifests:
            yield from pods(manifest)


def needs_chart() -> None:
    """Skip where there is no Helm, or no official chart."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    try:
        official_chart.ensure()
    except ProblemError as problem:
        pytest.skip(problem.message)


@dataclass(frozen=True)
class HelmOutput:
    """What Helm answered.

    Attributes:
        code: Its exit code.
        error: What it said about what is wrong.
        objects: What it rendered.
    """

    code: int
    error: str
    objects: list[Object]

    def one(self, kind: str, name: str) -> Object:
        """An object, which must be there; `name` may be the beginning."""
        found = [o for o in self.objects if o["kind"] == kind and o["metadata"]["name"].startswith(name)]
        assert len(found) == 1, [o["metadata"]["name"] for o in found] or self.error
        return found[0]

    def config(self) -> configparser.ConfigParser:
        """Airflow's configuration in the release."""
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.read_string(self.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"])
        return parsed


Render = Callable[..., HelmOutput]


class Charts:
    """Helm on this repository's charts; what was rendered once in this session is not rendered again.

    A rendering is kept under a digest of the charts, the values and the arguments, in a folder that all processes of
    the session share and the next session does not have.
    """

    def __init__(self, folder: Path) -> None:
        """Keep renderings in `folder`."""
        self._folder = folder
        self._sources = folder_digest(CHARTS, VALUES, DAGS / "config", ROOT / "k8s", ROOT / "pod_templates")
        self._environments: dict[tuple[str, ...], Rendered] = {}

    def environment(self, name: str, *overlays: str) -> Rendered:
        """The manifests of an environment; with overlays, those in place of its own."""
        key = (name, *overlays)
        if key not in self._environments:
            environment = Environment(name, overlays=overlays) if overlays else Environment.load(name)
            both = {release.name: release for release in releases(environment)}
            texts: dict[str, str] = once(
                self._folder,
                digest([self._sources, "environment", *key]),
                lambda: {release.name: template(release) for release in both.values()},
            )
            manifests = [m for release, text in texts.items() for m in parse(both[release], text)]
            self._environments[key] = Rendered(name, manifests)
        return self._environments[key]

    def render(
        self, release: str, values: dict[str, Any] | None = None, environment: str = "dev", only: str | None = None
    ) -> HelmOutput:
        """Render one release as a user would.

        Args:
            release: Its name.
            values: Laid over those of the environment.
            environment: Its name.
            only: The one template to give, below templates/.
        """
        command = ["helm", "template", release, str(CHARTS / RELEASES.get(release, "airflow"))]
        command += ["-n", f"airflow-{environment}"]
        command += ["--kube-version", KUBERNETES_VERSIONS[-1]]
        for file in Environment.load(environment).value_files:
            command += ["-f", str(file)]
        command += ["-f", "-", *(["--show-only", f"templates/{only}"] if only else [])]
        own = yaml.safe_dump(values or {})

        def run() -> dict[str, Any]:
            done = subprocess.run(command, input=own, capture_output=True, text=True, check=False)
            return {"code": done.returncode, "error": done.stderr, "text": done.stdout}

        answer = once(self._folder, digest([self._sources, own, *command]), run)
        documents = yaml.load_all(answer["text"], Loader=yaml.CSafeLoader) if answer["code"] == 0 else []
        return HelmOutput(answer["code"], answer["error"], [document for document in documents if document])
