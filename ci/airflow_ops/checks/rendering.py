"""The checks of what the charts render: lint, notes, style of the YAML, policies, pod templates."""

import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import yaml
from yamllint import linter  # type: ignore[import-untyped]
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]

from airflow_ops import programs
from airflow_ops.archives import unpack
from airflow_ops.checks import policies
from airflow_ops.checks.outcome import Outcome
from airflow_ops.console import ProblemError
from airflow_ops.dags.inspection import Inspection, inspect_environments, loaded_tasks
from airflow_ops.delivery.pins import foreign_images
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import KUBERNETES_VERSIONS, Manifest, Release, airflow_config, releases, template
from airflow_ops.paths import DAGS

# In generated YAML only what changes its meaning matters: a duplicate key, a number that is read as octal.
OUTPUT_STYLE = YamlLintConfig("rules: {key-duplicates: enable, octal-values: {forbid-implicit-octal: true}}")


def check_lint(environment: Environment) -> Outcome:
    """`helm lint` of both charts with the environment's values: errors and warnings."""
    outcome = Outcome()
    for release in releases(environment):
        answer = programs.run(
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
            found = [programs.error_text(answer)]
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
    """The notes that Helm prints after the install of a chart and its dependencies.

    Helm renders notes only with a cluster, so a copy of the chart renders them as an object.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        copy = Path(folder) / "chart"
        shutil.copytree(release.chart_folder, copy)
        for archive in copy.glob("charts/*.tgz"):
            with tarfile.open(archive) as content:
                unpack(content, archive.parent)
            archive.unlink()
        for number, file in enumerate(sorted(copy.rglob("templates/NOTES.txt"))):
            text = NOTES_AS_OBJECT.format(chart=f"chart-{number}", text=file.read_text())
            file.with_name("zz-notes.yaml").write_text(text)
            file.unlink()
        objects = yaml.load_all(template(release, copy), Loader=yaml.CSafeLoader)
        return "\n".join(o["text"] for o in objects if o and o["kind"] == "Notes")


def check_notes(environment: Environment) -> Outcome:
    """The notes of both charts contain no warning, such as one about a deprecated key."""
    outcome = Outcome()
    for release in releases(environment):
        lines = [line.strip(" #") for line in notes(release).splitlines() if line.strip(" #")]
        outcome.breaches += [
            f"{release.name}: {line} {' '.join(lines[at + 1 : at + 2])}"
            for at, line in enumerate(lines)
            if re.search(r"\bWARNING\b|deprecat", line) and not re.search(r"\bWARNING\b", "".join(lines[at - 1 : at]))
        ]
    return outcome


def check_output_style(texts: dict[str, str]) -> Outcome:
    """The YAML that both charts render has no duplicate keys and no numbers that are read as octal."""
    return Outcome(
        [
            f"{release}: line {problem.line} of its rendering: {problem.message}"
            for release, text in texts.items()
            for problem in linter.run(text, OUTPUT_STYLE)
        ]
    )


def check_policies(environment: Environment, manifests: list[Manifest]) -> Outcome:
    """The rules of `policies.py`; and in an environment that follows a version, each foreign image has a digest."""
    outcome = Outcome([str(breach) for breach in policies.check(manifests)])
    if environment.is_brought_by_argocd:
        outcome.warnings = [
            f"image {image} has no digest, and a tag can be moved: run `airflow-ops pin-images {environment.name}`"
            for image in foreign_images(manifests, environment.values)
            if "@" not in image
        ]
    return outcome


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
