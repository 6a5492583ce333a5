"""The checks behind `airflow-ops validate`: each looks at one environment without a cluster."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml
from yamllint import linter  # type: ignore[import-untyped]
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]

from airflow_ops import policies, tools
from airflow_ops.console import ProblemError, fail
from airflow_ops.dag_inspection import Inspection, inspect_environments, loaded_tasks
from airflow_ops.manifests import KUBERNETES_VERSIONS, Manifest, Release, airflow_config, releases, template
from airflow_ops.repository import DAGS, ROOT
from airflow_ops.values import merge, read_yaml, value_files

# Of generated YAML only what changes its meaning counts: a key that stands twice, a number read as octal.
OUTPUT_STYLE = YamlLintConfig("rules: {key-duplicates: enable, octal-values: {forbid-implicit-octal: true}}")


@dataclass
class Outcome:
    """What one check found in one environment.

    Attributes:
        breaches: What is wrong, one line each.
        skipped: What could not be checked, and why.
    """

    breaches: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def check_values(environment: str, overlays: tuple[str, ...]) -> Outcome:
    """The values files: their YAML, and that each fact stands in one layer only.

    Helm replaces a list as a whole: one that stands in two files loses the entries of the lower one without a word.
    """
    chain = value_files(environment, overlays)
    outcome = Outcome(_yamllint(chain))
    below: dict[str, Any] = {}
    for file in chain:
        name = file.relative_to(ROOT)
        layer = read_yaml(file)
        outcome.breaches += [f"{name}: {message}" for message in _repeats(layer, below, "")]
        below = merge(below, layer)
    return outcome


def _yamllint(paths: list[Path]) -> list[str]:
    """What yamllint says about files, by the repository's own .yamllint.yaml."""
    command = [sys.executable, "-m", "yamllint", "--strict", "--format", "parsable"]
    command += [str(path.relative_to(ROOT)) for path in paths]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (answer.stdout + answer.stderr).splitlines()


def _repeats(layer: Mapping[str, Any], below: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in layer.items():
        if key not in below:
            continue
        here, other = f"{path}{key}", below[key]
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _repeats(value, other, f"{here}.")
        elif isinstance(value, list) and isinstance(other, list):
            yield f"the list {here} stands in a layer below too, and Helm would drop that one: keep it in one file"
        elif value == other:
            yield f"{here} repeats what the layer below says: remove it"


def check_lint(environment: str, overlays: tuple[str, ...]) -> Outcome:
    """`helm lint` of both charts with the environment's values: errors and warnings."""
    outcome = Outcome()
    for release in releases(environment, overlays=overlays):
        answer = tools.run(
            "helm",
            [
                "lint",
                release.chart_folder,
                "--namespace",
                release.namespace,
                "--kube-version",
                KUBERNETES_VERSIONS[-1],
                *release.value_arguments(),
            ],
        )
        found = [line for line in answer.stdout.splitlines() if line.startswith(("[ERROR]", "[WARNING]"))]
        if answer.returncode != 0 and not found:
            found = [tools.error_text(answer)]
        outcome.breaches += [f"charts/{release.chart}: {line}" for line in found]
    return outcome


NOTES_AS_OBJECT = """\
{{{{- define "airflow-ops.notes.{chart}" -}}}}
{text}
{{{{- end -}}}}
kind: Notes
apiVersion: v1
metadata: {{name: {chart}}}
text: {{{{ include "airflow-ops.notes.{chart}" . | toJson }}}}
"""


def notes(release: Release) -> str:
    """What Helm prints after an install, of a chart and its dependencies.

    Helm shows notes only against a cluster, so a copy of the chart renders them as an object.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        copy = Path(folder) / "chart"
        shutil.copytree(release.chart_folder, copy)
        for archive in copy.glob("charts/*.tgz"):
            with tarfile.open(archive) as content:
                content.extractall(archive.parent, filter="data")
            archive.unlink()
        for number, file in enumerate(sorted(copy.rglob("templates/NOTES.txt"))):
            text = NOTES_AS_OBJECT.format(chart=f"chart-{number}", text=file.read_text())
            file.with_name("zz-notes.yaml").write_text(text)
            file.unlink()
        objects = yaml.load_all(template(release, copy), Loader=yaml.CSafeLoader)
        return "\n".join(o["text"] for o in objects if o and o["kind"] == "Notes")


def check_notes(environment: str, overlays: tuple[str, ...]) -> Outcome:
    """The notes of both charts carry no warning, of a deprecated key or otherwise."""
    outcome = Outcome()
    for release in releases(environment, overlays=overlays):
        lines = [line.strip(" #") for line in notes(release).splitlines() if line.strip(" #")]
        outcome.breaches += [
            f"{release.name}: {line} {' '.join(lines[at + 1 : at + 2])}"
            for at, line in enumerate(lines)
            if re.search(r"\bWARNING\b|deprecat", line) and not re.search(r"\bWARNING\b", "".join(lines[at - 1 : at]))
        ]
    return outcome


def check_output_style(texts: dict[str, str]) -> Outcome:
    """The YAML that both charts render: nothing in it is read otherwise than it looks."""
    return Outcome(
        [
            f"{release}: line {problem.line} of its rendering: {problem.message}"
            for release, text in texts.items()
            for problem in linter.run(text, OUTPUT_STYLE)
        ]
    )


def check_policies(manifests: list[Manifest]) -> Outcome:
    """The rules of `policies.py`."""
    return Outcome([str(breach) for breach in policies.check(manifests)])


def check_pod_templates(manifests: dict[str, list[Manifest]]) -> dict[str, Outcome]:
    """Every pod template that a DAG or the configuration names is mounted in the scheduler.

    Args:
        manifests: Environment to its objects.

    Returns:
        The outcome of each environment. One process loads the DAGs of all: importing Airflow is most of the work.
    """
    executors = {name: airflow_config(objects).get("core", "executor") for name, objects in manifests.items()}
    inspected = inspect_environments(DAGS, executors)
    return {name: _pod_templates(inspected[name], objects) for name, objects in manifests.items()}


def _pod_templates(inspected: Inspection, manifests: list[Manifest]) -> Outcome:
    named: dict[str, str] = {}
    try:
        tasks = loaded_tasks(inspected)
    except ProblemError as problem:
        return Outcome([f"{problem.message} {problem.fix}"])
    for task in tasks:
        if task.pod_template_file:
            named.setdefault(task.pod_template_file, f"task {task.identity}")
    return Outcome([str(breach) for breach in policies.missing_pod_templates(manifests, named)])


def prepare_schemas(version: str, folder: Path) -> set[str]:
    """Lay out the schemas of one Kubernetes version as kubeconform reads them.

    The package kubernetes-validate gives its schemas an $id on kubernetes.io, against which kubeconform would resolve
    their references over the network.

    Args:
        version: A version in `KUBERNETES_VERSIONS`.
        folder: Where to write; made here.

    Returns:
        The API groups of Kubernetes itself in that version.
    """
    folder.mkdir(parents=True)
    groups: set[str] = set()
    with as_file(files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict") as source:
        if not source.is_dir():
            raise fail(
                f"the package kubernetes-validate has no schemas of Kubernetes {version}.",
                "Lock a newer one in ci/requirements.in, or mend KUBERNETES_VERSIONS in ci/airflow_ops/manifests.py.",
                exit_code=2,
            )
        for file in source.iterdir():
            schema = json.loads(file.read_text())
            schema.pop("$id", None)
            groups |= {kind["group"] for kind in schema.get("x-kubernetes-group-version-kind", [])}
            text = json.dumps(schema).replace('"/api/_definitions.json', '"_definitions.json')
            (folder / file.name).write_text(text)
    return groups


def check_kubernetes(version: str, texts: dict[str, dict[str, str]], crds: Path | None) -> dict[str, Outcome]:
    """Every object fits the API of a Kubernetes version, by kubeconform -strict.

    Args:
        version: A version in `KUBERNETES_VERSIONS`.
        texts: Environment to release to what Helm rendered.
        crds: Folder of schemas of custom resources; None if there is none.

    Returns:
        The outcome of each environment. One run for all, because compiling the schemas is most of the work.
    """
    outcomes = {environment: Outcome() for environment in texts}
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        schemas, rendered = Path(folder) / "schemas", Path(folder) / "rendered"
        groups = prepare_schemas(version, schemas)
        paths = []
        for environment, of_release in texts.items():
            (rendered / environment).mkdir(parents=True)
            for release, text in of_release.items():
                paths.append(rendered / environment / f"{release}.yaml")
                paths[-1].write_text(text)
        locations = [f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]
        if crds:
            locations.append(f"{crds}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json")
        # Each worker of kubeconform compiles the schemas for itself: four take more than twice the CPU time of one.
        arguments = ["-strict", "-n", "1", "-output", "json", "-kubernetes-version", version]
        for location in locations:
            arguments += ["-schema-location", location]
        answer = tools.run("kubeconform", [*arguments, *paths])
        for result in _kubeconform_results(answer.stdout, tools.error_text(answer)):
            path = Path(result["filename"])
            _judge(result, path.stem, groups, outcomes[path.parent.name])
    return outcomes


def _kubeconform_results(text: str, error: str) -> list[dict[str, str]]:
    try:
        return list(json.loads(text)["resources"] or [])
    except (json.JSONDecodeError, KeyError) as broken:
        raise fail(
            f"kubeconform did not answer: {error}", "Run it by hand; version 0.6 or newer is needed."
        ) from broken


def _judge(result: dict[str, str], release: str, groups: set[str], outcome: Outcome) -> None:
    group = result["version"].rpartition("/")[0]
    if result["msg"].startswith("could not find schema") and group not in groups:
        skipped = f"{result['kind']} ({result['version']}): no schema of this custom resource"
        if skipped not in outcome.skipped:
            outcome.skipped.append(skipped)
        return
    # kubeconform quotes the path of the schema, which says nothing to a reader.
    message = re.sub(r"^problem validating schema.*?validation failed with '[^']*' - ", "", result["msg"])
    outcome.breaches.append(f"{release}/{result['kind']}/{result['name']}: {message}")
