"""`pin-images`: the digests of the images that are not ours, as an overlay; and those of the Dockerfiles' bases."""

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from airflow_ops import programs
from airflow_ops.console import fail, out, styled
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import FILE, Environment
from airflow_ops.environments.values import Values, merge
from airflow_ops.manifests.objects import Manifest, dump, pods, render_environment
from airflow_ops.options import EnvironmentName
from airflow_ops.paths import ROOT

OVERLAY = "image-digests"
FOLDER = Path("values/overlays")
HEADER = """\
# Written by `airflow-ops pin-images {name}`: images that are not ours, each with the digest that its tag had, because a
# tag can be moved. The tags stay as they are here: write it again after an upgrade of the official chart.
"""
BASE = re.compile(r"^ARG (?P<argument>\w+_IMAGE)=(?P<image>\S+)$", re.MULTILINE)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
Keys = tuple[str, ...]
"""The way to a value."""


def foreign_images(manifests: Iterable[Manifest], values: Values) -> list[str]:
    """The images of some manifests that `publish` does not make, in the order of their names.

    Args:
        manifests: The objects of an environment.
        values: Its values, which name ours.
    """
    ours = (values["global"]["image"]["repository"], _repository(values["platform"]["operations"]["image"]))
    found = {str(spec["image"]) for each in manifests for pod in pods(each) for spec, _ in pod.containers()}
    return sorted(image for image in found if _repository(image) not in ours)


def digest_of(image: str) -> str:
    """The digest that an image's tag has in its registry at this moment; of all platforms together.

    Raises:
        ProblemError: The registry does not say.
    """
    answer = programs.run("crane", ["digest", image])
    found = answer.stdout.strip()
    if answer.returncode != 0 or not DIGEST.fullmatch(found):
        raise fail(
            f"the digest of {image} was not found out: {programs.error_text(answer)}",
            "Check the name, and your login at its registry (docker login).",
        )
    return found


def pinned(image: str) -> str:
    """An image with its tag and its digest; one that has a digest stays as it is.

    Raises:
        ProblemError: See `digest_of`.
    """
    return image if "@" in image else f"{image}@{digest_of(image)}"


def bases(dockerfile: Path) -> dict[str, str]:
    """The images that a Dockerfile begins with, by the build argument that names each."""
    return {found["argument"]: found["image"] for found in BASE.finditer(dockerfile.read_text())}


def pin_images(
    name: EnvironmentName,
    only_list: Annotated[
        bool, typer.Option("--list", help="Print the images as they are now, and write nothing.")
    ] = False,
) -> None:
    """Write the digests of all images that are not ours into values/overlays/image-digests.yaml.

    The images are those that the environment renders with its other overlays:
    PgBouncer, statsd-exporter, PostgreSQL for backups. Their registries are asked
    by `crane`, with the logins of docker. An environment uses the file once its
    overlays in k8s/environments.yaml name it.

    Example: airflow-ops pin-images prod
    """
    present = Environment.load(name)
    if only_list:
        for image in foreign_images(render_environment(present), present.values):
            out.print(image, soft_wrap=True)
        return
    # Without the digests of before, so that the tags are asked for.
    environment = Environment.load(name, own=[each for each in present.overlays if each != OVERLAY])
    values = merge({"airflow": _official_values()}, environment.values)
    wanted = foreign_images(render_environment(environment), environment.values)
    layers: dict[str, Any] = {}
    for image in wanted:
        digest = digest_of(image) if "@" not in image else ""
        for path, text in _keys(values, image):
            _set(layers, path, f"{text}@{digest}" if digest else text)
            out.print(f"{'.'.join(path)}: {text} {digest}")
    (ROOT / FOLDER / f"{OVERLAY}.yaml").write_text(HEADER.format(name=name) + dump(layers))
    out.print(styled("ok", "green"), f"{FOLDER / OVERLAY}.yaml has the digests of {len(wanted)} images")
    if OVERLAY not in present.overlays:
        out.print(f"{name} does not use it yet: add {OVERLAY} to its overlays in {FILE}")


def _repository(image: str) -> str:
    """An image without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _official_values() -> Values:
    """The values of the official chart, which its images have their names from."""
    with tarfile.open(official_chart.ensure()) as archive:
        file = archive.extractfile("airflow/values.yaml")
        content: Values = yaml.load(file.read(), yaml.CSafeLoader) if file else {}
    return content


def _keys(values: Values, image: str) -> list[tuple[Keys, str]]:
    """The keys that make an image, and what each of them says now.

    Raises:
        ProblemError: No key does.
    """
    found = [(path, text) for path, text in _named(values["platform"], ("platform",)) if text == image]
    for name, entry in values["airflow"]["images"].items():
        if isinstance(entry, dict) and f"{entry.get('repository')}:{entry.get('tag')}" == image:
            # The official chart writes repository, colon and tag, so the digest follows the tag.
            found.append((("airflow", "images", name, "tag"), str(entry["tag"])))
    if not found:
        raise fail(
            f"no key of the values was found that names {image}.",
            "Give it by platform.*.image or airflow.images, or with its digest where it is named.",
        )
    return found


def _named(node: Mapping[str, Any], path: Keys) -> Iterator[tuple[Keys, str]]:
    """Every text below a key `image`, with its path."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _named(value, (*path, key))
        elif key == "image" and isinstance(value, str):
            yield (*path, key), value


def _set(layer: dict[str, Any], path: Keys, value: str) -> None:
    """Set a key of nested maps."""
    for key in path[:-1]:
        layer = layer.setdefault(key, {})
    layer[path[-1]] = value
