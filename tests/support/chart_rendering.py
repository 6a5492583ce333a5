"""What tests of the charts look at: the manifests of an environment, and what Helm answers."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import yaml

from airflow_ops import deps
from airflow_ops.console import ProblemError
from airflow_ops.manifests import Manifest, Object, Pod, parse, pods, releases, template

ENVIRONMENTS = ("dev", "staging", "prod")
CHARTS = {"airflow-platform": "platform", "airflow-blue": "airflow"}


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
        return {key.removesuffix(".yaml"): yaml.safe_load(text) for key, text in data.items()}

    def pods(self) -> Iterator[Pod]:
        """Every pod that a component, Job or template describes."""
        for manifest in self.manifests:
            yield from pods(manifest)


def needs_chart() -> None:
    """Skip where Helm or the official chart is not to be had."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    try:
        deps.ensure()
    except ProblemError as problem:
        pytest.skip(problem.message)


@cache
def rendered(environment: str) -> Rendered:
    """An environment's manifests; a second test that asks gets the same."""
    found: list[Manifest] = []
    for release in releases(environment):
        found += parse(release, template(release))
    return Rendered(environment, found)


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


Render = Callable[..., HelmOutput]
