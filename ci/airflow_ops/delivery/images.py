"""What environments that Argo CD brings take from a version of this repository: images and the tag of their DAGs."""

import re
from pathlib import Path

from airflow_ops.console import fail
from airflow_ops.environments.environment import Environment, read_entries
from airflow_ops.paths import ROOT

TAG = re.compile(r"v(?P<version>\d+\.\d+\.\d+)", re.ASCII)
PLATFORM, OPERATIONS = "image/Dockerfile", "image/operations/Dockerfile"


def brought(root: Path = ROOT) -> list[Environment]:
    """The environments of a checkout that Argo CD brings, in the order in which they take a version."""
    return [Environment.load(name, root=root) for name, entry in read_entries(root).items() if entry.argocd]


def images(root: Path = ROOT) -> dict[str, str]:
    """Each image that the values of a checkout name, with the Dockerfile that makes it."""
    environments = brought(root)
    found = {each.image: PLATFORM for each in environments}
    found |= {each.values["platform"]["operations"]["image"]: OPERATIONS for each in environments}
    return {image: dockerfile for image, dockerfile in found.items() if image}


def check_names(version: str, root: Path = ROOT) -> None:
    """Check that the values name images, and DAGs, of a version.

    A tag that no version has would never be built again, or be built from another commit. An environment whose DAGs
    follow a branch keeps it.

    Raises:
        ProblemError: They name something else; the key is named.
    """
    for environment in brought(root):
        name, values = environment.name, environment.values
        operations = values["platform"]["operations"]["image"]
        named = {"global.image.tag": values["global"]["image"]["tag"], "platform.operations.image": operations}
        for key, text in named.items():
            if text and not re.search(rf"(^|[-:]){re.escape(version)}$", text):
                raise fail(
                    f"{key} of {name} is {text!r}, which does not end in {version}.",
                    f"End it in the present version, and name its line in tool.commitizen of pyproject.toml, so that "
                    f"a release writes it (values/{name}.yaml).",
                    2,
                )
        bundle = values["global"]["dagBundle"]
        if bundle["kind"] != "local" and TAG.fullmatch(ref := bundle["trackingRef"]) and ref != f"v{version}":
            raise fail(
                f"global.dagBundle.trackingRef of {name} is {ref}: DAGs would not be those of v{version}.",
                "Name its line in tool.commitizen of pyproject.toml, so that a release writes it.",
                2,
            )
