"""The official chart comes from the first place that has it, and never without the right digest."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.small_checkout import Checkout


def test_taken_from_helms_cache_and_then_left_alone(checkout: Checkout) -> None:
    checked = checkout.run("deps", "--check")
    assert checked.returncode == 1
    assert f"not in place; it would come from {checkout.cached}" in checked.stdout
    assert not checkout.placed.exists(), "--check changes nothing"

    assert checkout.run("deps").returncode == 0
    assert checkout.placed.read_bytes() == checkout.archive
    assert list(checkout.placed.parent.iterdir()) == [checkout.placed], "nothing unfinished is left"

    checkout.cached.unlink()
    again = checkout.run("deps", "--check")
    assert again.returncode == 0
    assert f"official chart 9.9.9 is in place: {checkout.placed}" in again.stdout


def test_a_named_archive_comes_before_helms_cache(checkout: Checkout, tmp_path: Path) -> None:
    checkout.cached.write_bytes(b"another")
    named = tmp_path / "carried-in.tgz"
    named.write_bytes(checkout.archive)
    assert checkout.run("deps", AIRFLOW_CHART_ARCHIVE=str(named)).returncode == 0
    assert checkout.placed.read_bytes() == checkout.archive


def test_an_archive_of_another_version_goes_away(checkout: Checkout) -> None:
    checkout.placed.parent.mkdir()
    old = checkout.placed.with_name("airflow-8.8.8.tgz")
    old.write_bytes(b"old")
    assert checkout.run("deps").returncode == 0
    assert not old.exists(), "Helm would render it too"


@pytest.mark.parametrize("place", ["placed", "named", "cached"])
def test_a_wrong_digest_names_file_expected_and_found(checkout: Checkout, tmp_path: Path, place: str) -> None:
    file = {"placed": checkout.placed, "named": tmp_path / "carried-in.tgz", "cached": checkout.cached}[place]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"another chart")
    environ = {"AIRFLOW_CHART_ARCHIVE": str(file)} if place == "named" else {}
    answer = checkout.run("deps", **environ)
    pinned = yaml.safe_load((checkout.root / "charts/airflow/Chart.yaml").read_text())["annotations"]
    assert answer.returncode == 1
    assert f"{file} is not the official chart 9.9.9" in answer.stderr
    assert f"expected sha256 {pinned['airflow-platform.io/airflow-chart-sha256']}" in answer.stderr
    assert f"found {hashlib.sha256(b'another chart').hexdigest()}" in answer.stderr
    assert file.read_bytes() == b"another chart"
    assert place == "placed" or not checkout.placed.exists()


def test_a_named_archive_that_is_not_there(checkout: Checkout) -> None:
    answer = checkout.run("deps", AIRFLOW_CHART_ARCHIVE="/nowhere/airflow.tgz")
    assert answer.returncode == 1
    assert "AIRFLOW_CHART_ARCHIVE=/nowhere/airflow.tgz: there is no such file" in answer.stderr


def test_no_place_has_it(checkout: Checkout) -> None:
    checkout.cached.unlink()
    answer = checkout.run("deps")
    assert answer.returncode == 1
    assert "airflow-9.9.9.tgz is not on this machine, and its download failed" in answer.stderr
    assert "set AIRFLOW_CHART_ARCHIVE to a copy" in answer.stderr
    assert not checkout.placed.parent.exists() or not list(checkout.placed.parent.iterdir())


@pytest.fixture
def repository(checkout: Checkout, tmp_path: Path) -> Iterator[Path]:
    """A chart repository served over HTTP, which the checkout's Chart.yaml names."""
    checkout.cached.unlink()
    folder = tmp_path / "repository"
    folder.mkdir()
    index = {"entries": {"airflow": [{"version": "9.9.9", "urls": ["files/airflow.tgz"]}]}}
    (folder / "index.yaml").write_text(yaml.safe_dump(index))
    (folder / "files").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chart = checkout.root / "charts/airflow/Chart.yaml"
        chart.write_text(chart.read_text().replace("127.0.0.1:9", f"127.0.0.1:{server.server_port}"))
        yield folder
        server.shutdown()


def test_downloaded_from_the_repository(checkout: Checkout, repository: Path) -> None:
    (repository / "files/airflow.tgz").write_bytes(checkout.archive)
    assert checkout.run("deps").returncode == 0
    assert checkout.placed.read_bytes() == checkout.archive


def test_a_repository_that_serves_another_chart_or_lacks_the_version(checkout: Checkout, repository: Path) -> None:
    (repository / "files/airflow.tgz").write_bytes(b"another chart")
    answer = checkout.run("deps")
    assert answer.returncode == 1
    assert "/files/airflow.tgz is not the official chart 9.9.9" in answer.stderr
    assert not checkout.placed.exists()

    (repository / "index.yaml").write_text("entries: {}\n")
    answer = checkout.run("deps")
    assert answer.returncode == 1
    assert "index.yaml does not list airflow 9.9.9" in answer.stderr
