"""`publish`: the images of a version that was released on main, then its tag."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from airflow_ops import programs
from airflow_ops.commits import checkout, git
from airflow_ops.console import fail, out, styled
from airflow_ops.delivery.changelog import sections
from airflow_ops.delivery.follow import MAIN
from airflow_ops.delivery.images import OPERATIONS, PLATFORM, check_names, images
from airflow_ops.delivery.pins import bases, pinned
from airflow_ops.delivery.release import version_in
from airflow_ops.environments import official_chart
from airflow_ops.paths import ROOT

BUILDER = "airflow-platform"
"""A builder in a container: the one of the engine itself cannot attach a bill of materials."""
NOT_THERE = ("no such manifest", "manifest unknown", ": not found")


@dataclass(frozen=True)
class Published:
    """An image in the registry that has no tag yet.

    Attributes:
        name: The name that it is to have.
        digest: Repository and digest.
    """

    name: str
    digest: str


def publish() -> None:
    """Publish the version that was last released on main: its images, signed, and last its tag with its notes.

    Everything is built from the commit that brought the version, whatever has
    been merged since. An image gets its tag once all of them were looked at and
    it is signed, so what was cut off goes on from there, and a tag never moves.
    The variables REGISTRY_USER and REGISTRY_PASSWORD log in to the images'
    registries. The workflow `release` runs this.

    Example: airflow-ops publish
    """
    git("fetch", "--quiet", "--tags", "origin", "main")
    version = version_in(git("show", f"{MAIN}:pyproject.toml"))
    tag = f"v{version}"
    if git("tag", "--list", tag):
        out.print(f"nothing to publish: {tag} exists")
        return
    notes = sections(git("show", f"{MAIN}:CHANGELOG.md")).get(version, "")
    if not notes:
        _check_never_released(version)
        out.print(f"nothing to publish: CHANGELOG.md has no section of {version}")
        return
    # The commit that wrote the section.
    history = git("log", "-1", "--first-parent", "--format=%H", f"-S## {version} (", MAIN, "--", "CHANGELOG.md")
    commit = history.strip()
    with checkout(commit) as root:
        check_names(version, root)
        _publish_images(root)
    _make_tag(tag, commit, notes)
    out.print(styled("ok", "green"), f"{tag} is published")


def _check_never_released(version: str) -> None:
    """Check that a version without a section in the changelog is the one from before the first release.

    Raises:
        ProblemError: Others were released.
    """
    if git("tag", "--list", "v*"):
        raise fail(
            f"pyproject.toml says {version}, which has neither a tag nor a section in CHANGELOG.md.",
            "Make releases with airflow-ops release, which writes both.",
        )


def _publish_images(root: Path) -> None:
    """Build all images, look at them, and only then sign them and give them their tags.

    Raises:
        ProblemError: A program fails, or an image is not what it should be.
    """
    wanted = images(root)
    if not wanted:
        raise fail("no environment that Argo CD brings names an image.", "Write global.image into its values.")
    for host in sorted({name.split("/")[0] for name in wanted}):
        _log_in(host)
    _builder()
    missing = {name: dockerfile for name, dockerfile in wanted.items() if not _is_there(name)}
    if OPERATIONS in missing.values():
        # It holds the official chart, which is not in Git.
        official_chart.ensure(root)
    pushed = [_build(root, name, dockerfile) for name, dockerfile in missing.items()]
    for each in pushed:
        programs.show(["docker", "pull", "--quiet", each.digest])
        programs.show(
            [str(ROOT / "ci/check-image"), each.digest, *([str(root)] if missing[each.name] == PLATFORM else [])]
        )
    for each in pushed:
        # By digest: only what is signed gets the name.
        programs.show(["cosign", "sign", "--yes", each.digest])
        programs.show(["docker", "buildx", "imagetools", "create", "--tag", each.name, each.digest])


def _log_in(host: str) -> None:
    user, password = (os.environ.get(f"REGISTRY_{key}") for key in ("USER", "PASSWORD"))
    if user and password:
        programs.show(["docker", "login", "--username", user, "--password-stdin", host], stdin=password)


def _builder() -> None:
    if programs.run("docker", ["buildx", "inspect", BUILDER]).returncode != 0:
        programs.show(["docker", "buildx", "create", "--name", BUILDER, "--driver", "docker-container"])


def _is_there(image: str) -> bool:
    """Whether a registry has an image.

    Raises:
        ProblemError: It does not say.
    """
    answer = programs.run("docker", ["buildx", "imagetools", "inspect", image])
    if answer.returncode == 0:
        out.print(f"{image} is published already")
        return True
    said = answer.stderr.strip()
    if not said.endswith(NOT_THERE) and not any(word in said for word in NOT_THERE[:2]):
        raise fail(f"the registry of {image} does not say whether it is there: {said}", "Check it and your login.")
    return False


def _build(root: Path, name: str, dockerfile: str) -> Published:
    """Build an image and push it without a tag, with its bill of materials and where it comes from.

    Each base is given with the digest that its tag has now. It stands in the log and, because its mode is max, in the
    provenance that is pushed with the image.

    Raises:
        ProblemError: A registry does not know a base, or the build fails.
    """
    repository = name.rpartition(":")[0]
    arguments = [f"{argument}={pinned(image)}" for argument, image in bases(root / dockerfile).items()]
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "metadata.json"
        programs.show(
            [
                *("docker", "buildx", "build", "--builder", BUILDER, "--file", str(root / dockerfile)),
                *("--output", f"type=image,name={repository},push-by-digest=true,push=true"),
                *(word for each in arguments for word in ("--build-arg", each)),
                *("--sbom=true", "--provenance=mode=max", "--metadata-file", str(metadata), str(root)),
            ]
        )
        digest = json.loads(metadata.read_text())["containerimage.digest"]
    return Published(name, f"{repository}@{digest}")


def _make_tag(tag: str, commit: str, notes: str) -> None:
    """Make the tag at the origin, and show its notes on GitHub.

    Raises:
        ProblemError: Git or GitHub refuses.
    """
    git("push", "--quiet", "origin", f"{commit}:refs/tags/{tag}")
    programs.show(["gh", "release", "create", tag, "--verify-tag", "--title", tag, "--notes-file", "-"], stdin=notes)
