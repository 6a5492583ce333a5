"""The check of objects against the API of each supported Kubernetes, by kubeconform."""

import json
import re
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from airflow_ops import programs
from airflow_ops.checks.outcome import Outcome
from airflow_ops.console import fail


def prepare_schemas(version: str, folder: Path) -> set[str]:
    """Write the schemas of one Kubernetes version in the layout that kubeconform reads.

    The package kubernetes-validate gives its schemas an $id on kubernetes.io, against which kubeconform would resolve
    their references over the network.

    Args:
        version: A version in `KUBERNETES_VERSIONS`.
        folder: Where to write; it is created.

    Returns:
        The API groups that are part of Kubernetes in that version.
    """
    folder.mkdir(parents=True)
    groups: set[str] = set()
    with as_file(files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict") as source:
        if not source.is_dir():
            raise fail(
                f"the package kubernetes-validate has no schemas of Kubernetes {version}.",
                "Lock a newer one in ci/requirements.in, or correct the versions in charts/platform/Chart.yaml.",
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
    """Check with kubeconform -strict that every object fits the API of a Kubernetes version.

    Args:
        version: A version in `KUBERNETES_VERSIONS`.
        texts: Environment to release to what Helm rendered.
        crds: Folder of schemas of custom resources; None if there is none.

    Returns:
        The outcome of each environment. One run checks all, because compiling the schemas is most of the work.
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
        answer = programs.run("kubeconform", [*arguments, *paths])
        for result in _kubeconform_results(answer.stdout, programs.error_text(answer)):
            path = Path(result["filename"])
            _judge(result, path.stem, groups, outcomes[path.parent.name])
    return outcomes


def _kubeconform_results(text: str, error: str) -> list[dict[str, str]]:
    try:
        return list(json.loads(text)["resources"] or [])
    except (json.JSONDecodeError, KeyError) as broken:
        raise fail(
            f"kubeconform did not answer: {error}", "Check that `kubeconform -v` prints 0.6 or newer."
        ) from broken


def _judge(result: dict[str, str], release: str, groups: set[str], outcome: Outcome) -> None:
    group = result["version"].rpartition("/")[0]
    if result["msg"].startswith("could not find schema") and group not in groups:
        skipped = f"{result['kind']} ({result['version']}): no schema of this custom resource"
        if skipped not in outcome.skipped:
            outcome.skipped.append(skipped)
        return
    # kubeconform quotes the path of a temporary schema file, which does not help the reader.
    message = re.sub(r"^problem validating schema.*?validation failed with '[^']*' - ", "", result["msg"])
    outcome.breaches.append(f"{release}/{result['kind']}/{result['name']}: {message}")
