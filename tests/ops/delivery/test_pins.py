"""Digests of images that are not ours: what a registry on this machine says, and what an environment renders then."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_ops.delivery.pins import OVERLAY, bases, pinned
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import FILE
from airflow_ops.paths import ROOT
from support.chart_rendering import needs_chart
from support.image_registry import Registry, registry
from support.repository_copy import copy_repository
from support.small_checkout import Checkout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    """A copy of this repository with the official chart."""
    needs_chart()
    copy = copy_repository(tmp_path)
    copy.environ["AIRFLOW_CHART_ARCHIVE"] = str(official_chart.ensure())
    return copy


def rendered_images(repository: Checkout, name: str, folder: Path) -> set[str]:
    """The images that an environment renders."""
    assert repository.run("render", name, str(folder)).returncode == 0
    lines = [line.split() for path in folder.rglob("*.yaml") for line in path.read_text().splitlines()]
    return {words[-1] for words in lines if words[-2:-1] == ["image:"]}


def use(repository: Checkout, *overlays: str) -> None:
    """Let prod have these overlays beside its own."""
    path = repository.root / FILE
    entries = yaml.safe_load(path.read_text())
    entries["prod"]["overlays"] = ["aws", *overlays]
    path.write_text(yaml.safe_dump(entries))


def test_what_the_registry_says_is_what_prod_runs(repository: Checkout, images: Registry, tmp_path: Path) -> None:
    wanted = {name: images.push(name, name) for name in ("postgres:17", "bouncer:1", "exporter:2", "statsd:v0.30.0")}
    host = images.host
    official = {
        "pgbouncer": {"repository": f"{host}/bouncer", "tag": "1"},
        "pgbouncerExporter": {"repository": f"{host}/exporter", "tag": "2"},
        "statsd": {"repository": f"{host}/statsd"},
    }
    platform = {"backup": {"image": f"{host}/postgres:17"}}
    (repository.root / "values/overlays/here.yaml").write_text(
        yaml.safe_dump({"airflow": {"images": official}, "platform": platform})
    )
    use(repository, "here")

    done = repository.run("pin-images", "prod")

    assert done.returncode == 0, done.stderr
    assert f"add {OVERLAY} to its overlays in {FILE}" in " ".join(done.stdout.split())
    written = yaml.safe_load((repository.root / f"values/overlays/{OVERLAY}.yaml").read_text())
    assert written == {
        "airflow": {
            "images": {
                "pgbouncer": {"tag": f"1@{wanted['bouncer:1']}"},
                "pgbouncerExporter": {"tag": f"2@{wanted['exporter:2']}"},
                "statsd": {"tag": f"v0.30.0@{wanted['statsd:v0.30.0']}"},
            }
        },
        "platform": {"backup": {"image": f"{host}/postgres:17@{wanted['postgres:17']}"}},
    }
    assert repository.run("validate", "prod").stdout.count("has no digest") == 4

    use(repository, "here", OVERLAY)
    assert {each for each in rendered_images(repository, "prod", tmp_path / "out") if "@" in each} == {
        f"{host}/{name}@{digest}" for name, digest in wanted.items()
    }
    valid = repository.run("validate", "prod")
    assert valid.returncode == 0, valid.stdout
    assert "has no digest" not in valid.stdout

    moved = images.push("statsd:v0.30.0", "something else")
    assert repository.run("pin-images", "prod").returncode == 0
    written = yaml.safe_load((repository.root / f"values/overlays/{OVERLAY}.yaml").read_text())
    assert written["airflow"]["images"]["statsd"]["tag"] == f"v0.30.0@{moved}", "the tag is asked for, not the digest"


def test_what_has_no_digest_is_named_where_a_version_is_followed(repository: Checkout) -> None:
    answer = repository.run("validate", "dev", "prod")
    assert answer.returncode == 0, answer.stdout
    said = " ".join(answer.stdout.split())
    assert "prod warning: image docker.io/library/postgres:17 has no digest" in said
    assert "run `airflow-ops pin-images prod`" in said
    assert "dev warning" not in said, "it follows no version, and is made anew at any time"
    assert "airflow-platform:3.3.2" not in said, "ours is signed, and its tag never moves"


def test_a_tag_that_the_registry_does_not_know_is_named(repository: Checkout, images: Registry) -> None:
    # The first one that is asked for.
    official = {"pgbouncer": {"repository": f"{images.host}/a", "tag": "1"}}
    (repository.root / "values/overlays/here.yaml").write_text(yaml.safe_dump({"airflow": {"images": official}}))
    use(repository, "here")
    refused = repository.run("pin-images", "prod")
    assert refused.returncode == 1
    assert f"the digest of {images.host}/a:1 was not found out" in " ".join(refused.stderr.split())
    assert not (repository.root / f"values/overlays/{OVERLAY}.yaml").exists()


def test_a_base_keeps_its_tag_beside_the_digest(images: Registry) -> None:
    digest = images.push("python:3.11", "python")
    tagged = f"{images.host}/python:3.11"
    assert pinned(tagged) == f"{tagged}@{digest}"
    assert pinned("python@sha256:00") == "python@sha256:00"


def test_every_base_of_the_dockerfiles_is_an_argument() -> None:
    for path in (ROOT / "image").rglob("Dockerfile"):
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("FROM ")]
        named = {f"${{{argument}}}" for argument in bases(path)}
        assert named
        assert {words[1] for words in lines} <= named | {words[-1] for words in lines if "AS" in words}
