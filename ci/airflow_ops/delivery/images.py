"""The images that environments which Argo CD brings take from a registry, for ci/publish."""

from airflow_ops.environments.environment import Environment, read_entries
from airflow_ops.paths import ROOT


def images() -> dict[str, str]:
    """Each image that the values name, with the Dockerfile that makes it."""
    brought = [Environment.load(name) for name, entry in read_entries(ROOT).items() if entry.argocd]
    found = {each.image: "image/Dockerfile" for each in brought}
    found |= {each.values["platform"]["operations"]["image"]: "image/operations/Dockerfile" for each in brought}
    return {image: dockerfile for image, dockerfile in found.items() if image}


if __name__ == "__main__":
    for name, dockerfile in images().items():
        print(name, dockerfile)
