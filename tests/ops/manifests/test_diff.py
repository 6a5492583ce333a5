"""What the working tree changes against another commit."""

from typing import Any

import pytest

from support.small_checkout import Checkout


@pytest.fixture
def committed(checkout: Checkout, helm: None) -> Checkout:
    """The small checkout as a repository with one commit."""
    (checkout.root / ".gitignore").write_text("/charts/*/charts/\n")
    checkout.add_objects(secret("same", "old"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone"}})
    for command in (["init"], ["add", "."], ["commit", "-m", "first"]):
        checkout.git(*command)
    return checkout


def secret(kept: str, changed: str, **more: str) -> dict[str, Any]:
    data = {"kept": kept, "changed": changed} | more
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": data}


def test_nothing_differs(committed: Checkout) -> None:
    answer = committed.run("diff", "dev", "--ref", "HEAD")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout == "0 changed, 0 added, 0 removed\n"
    assert committed.run("deps", "--check").returncode == 0


def test_every_kind_of_difference_with_secrets_masked(committed: Checkout) -> None:
    new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}
    committed.add_objects(secret("same", "new", extra="swordfish"), new)
    committed.set("dev.yaml", {"airflow": {"schedulers": 3}})
    assert committed.run("deps").returncode == 0
    committed.cached.unlink()  # so the other commit can only take this one's official chart

    answer = committed.run("diff", "dev", "--ref", "HEAD")
    assert answer.returncode == 1, answer.stderr
    lines = answer.stdout.splitlines()
    assert "added airflow-platform/ConfigMap/new" in lines
    assert "removed airflow-platform/ConfigMap/gone" in lines
    assert "changed airflow-blue/Deployment/airflow-blue-scheduler" in lines
    assert {"-  replicas: 2", "+  replicas: 3"} <= set(lines)
    assert {"   kept: '***'", "-  changed: '*** (before)'", "+  changed: '*** (after)'"} <= {
        line.replace(" kept", " kept") for line in lines
    }
    assert "+  extra: '*** (after)'" in lines
    assert not [line for line in lines if "swordfish" in line or "old" in line]
    assert lines[-1] == "2 changed, 1 added, 1 removed"


def test_a_moved_active_colour_does_not_rename_everything(committed: Checkout) -> None:
    committed.set("base.yaml", {"global": {"activeColour": "green"}})
    answer = committed.run("diff", "dev", "--ref", "HEAD")
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dev"], "exactly one of --ref and --live is needed"),
        (["dev", "--ref", "HEAD", "--live"], "exactly one of --ref and --live is needed"),
        (["dev", "--ref", "nowhere"], "the repository at 'nowhere' cannot be read"),
        (["dev", "--ref=--list"], "the repository at '--list' cannot be read"),
        (["dev", "--ref", "HEAD:values"], "the repository at 'HEAD:values' cannot be read"),
        (["dev", "--ref", "[/x]"], "the repository at '[/x]' cannot be read"),
        (["prod", "--ref", "HEAD"], "at HEAD: environment 'prod' does not exist"),
        (["dev", "--live"], "kubectl has no current context"),
    ],
)
def test_an_error_is_not_a_difference(committed: Checkout, arguments: list[str], complaint: str) -> None:
    (committed.root / "values/prod.yaml").write_text("airflow: {}\n")
    with (committed.root / "k8s/environments.yaml").open("a") as file:
        file.write("prod: {contexts: [], overlays: []}\n")
    answer = committed.run("diff", *arguments)
    assert answer.returncode == 2
    assert complaint in answer.stderr
