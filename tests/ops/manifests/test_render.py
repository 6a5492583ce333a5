"""Every manifest of an environment as files: always the same, and nothing but what render wrote is ever touched."""

from pathlib import Path

import pytest
import yaml

from support.small_checkout import Checkout

pytestmark = pytest.mark.usefixtures("helm")


def read(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*.yaml")}


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_files_of_both_charts_are_the_same_each_time_and_follow_what_is_rendered(
    checkout: Checkout, tmp_path: Path
) -> None:
    folder = tmp_path / "deep/out"
    checkout.add_objects(config_map("gone"))
    first = checkout.run("render", "dev", str(folder))
    assert first.returncode == 0, first.stderr
    assert f"5 manifests of dev in {folder}: 1 of airflow-platform, 4 of airflow-blue" in first.stdout
    before = read(folder)
    assert set(before) == {
        "airflow-platform/configmap-gone.yaml",
        "airflow-blue/configmap-airflow-blue-config.yaml",
        "airflow-blue/configmap-airflow-blue-pod-templates.yaml",
        "airflow-blue/serviceaccount-airflow-blue-scheduler.yaml",
        "airflow-blue/deployment-airflow-blue-scheduler.yaml",
    }
    assert yaml.safe_load(before["airflow-blue/deployment-airflow-blue-scheduler.yaml"])["spec"]["replicas"] == 2

    assert checkout.run("render", "dev", str(folder)).returncode == 0
    assert read(folder) == before

    (folder / "mine.yaml").write_text("mine")
    checkout.add_objects(config_map("new"))
    assert checkout.run("render", "dev", str(folder)).returncode == 0
    assert {"airflow-platform/configmap-new.yaml", "mine.yaml"} <= set(read(folder))
    assert "airflow-platform/configmap-gone.yaml" not in read(folder)


def test_colour_and_overlay(checkout: Checkout, tmp_path: Path) -> None:
    answer = checkout.run("render", "dev", str(tmp_path / "out"), "--colour", "green", "--overlay", "calm")
    assert answer.returncode == 0, answer.stderr
    config = yaml.safe_load((tmp_path / "out/airflow-green/configmap-airflow-green-config.yaml").read_text())
    assert "parallelism = 2" in config["data"]["airflow.cfg"]


def test_texts_stay_texts(checkout: Checkout, tmp_path: Path) -> None:
    values = {"number": "1e3", "answer": "y", "octal": "0o17", "lines": "a\nb\n", "digits": "1234", "plain": "abc"}
    checkout.add_objects(config_map("texts", **values))
    assert checkout.run("render", "dev", str(tmp_path / "out")).returncode == 0
    text = (tmp_path / "out/airflow-platform/configmap-texts.yaml").read_text()
    assert yaml.safe_load(text)["data"] == values
    # The YAML library of Kubernetes reads these without quotes as a number and a truth value; PyYAML does not.
    for quoted in ("'1e3'", "'y'", "'0o17'"):
        assert quoted in text


def test_a_folder_with_other_files_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    answer = checkout.run("render", "dev", str(tmp_path))
    assert answer.returncode == 2
    assert f"{tmp_path} is not empty and was not written by render" in answer.stderr
    assert not (tmp_path / "airflow-blue").exists()


@pytest.mark.parametrize("line", ["../mine", "../mine.yaml", "/MINE", "", "airflow-platform", "a/b/c.yaml"])
def test_a_mark_that_names_other_files_removes_none(checkout: Checkout, tmp_path: Path, line: str) -> None:
    for mine in (tmp_path / "mine", tmp_path / "mine.yaml"):
        mine.write_text("mine")
    folder = tmp_path / "out"
    (folder / "airflow-platform").mkdir(parents=True)
    (folder / ".airflow-ops-render").write_text(line.replace("/MINE", str(tmp_path / "mine.yaml")) + "\n")
    answer = checkout.run("render", "dev", str(folder))
    assert answer.returncode == 2, answer.stderr
    assert "which render did not write" in " ".join(answer.stderr.split())
    assert (tmp_path / "mine").exists()
    assert (tmp_path / "mine.yaml").exists()


def test_a_folder_that_cannot_be_written_is_named(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = checkout.run("render", "dev", str(tmp_path / "file/out"))
    assert answer.returncode == 2
    assert f"{tmp_path}/file is no folder." in " ".join(answer.stderr.split())


def test_what_cannot_be_rendered_changes_nothing(checkout: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert checkout.run("render", "dev", str(folder)).returncode == 0
    before = read(folder)

    checkout.set("dev.yaml", {"global": {"colour": "blue"}})
    answer = checkout.run("render", "dev", str(folder))
    assert answer.returncode == 1
    assert "airflow-platform of dev cannot be rendered" in answer.stderr
    assert "colour" in answer.stderr
    assert "walk.go" not in answer.stderr
    assert read(folder) == before


def test_two_objects_of_one_name(checkout: Checkout, tmp_path: Path) -> None:
    checkout.add_objects(config_map("twice"), config_map("twice"))
    answer = checkout.run("render", "dev", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "airflow-platform/ConfigMap/twice is rendered twice" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "environment 'nowhere' does not exist"),
        (["dev", "--overlay", "moon"], "overlay 'moon' does not exist"),
        (["dev", "--overlay", "../dev"], "overlay '../dev' does not exist"),
        (["dev", "--overlay", ""], "overlay '' does not exist"),
        (["[/x]"], "environment '[/x]' does not exist"),
        (["[red]dev"], "environment '[red]dev' does not exist"),
    ],
)
def test_an_unknown_name(checkout: Checkout, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    environment, *options = arguments
    answer = checkout.run("render", environment, str(tmp_path / "out"), *options)
    assert answer.returncode == 2
    assert complaint in answer.stderr


def test_an_active_colour_that_is_none(checkout: Checkout, tmp_path: Path) -> None:
    checkout.set("dev.yaml", {"global": {"activeColour": "red"}})
    answer = checkout.run("render", "dev", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "global.activeColour is 'red'" in answer.stderr
