"""From a commit to a release, and from there to an environment, in a copy of this repository with its own history."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from airflow_ops.console import ProblemError
from airflow_ops.delivery.follow import with_revision
from airflow_ops.delivery.release import CHANGELOG, present_version, with_section
from airflow_ops.environments.environment import FILE
from airflow_ops.paths import ROOT
from support.repository_copy import copy_repository
from support.small_checkout import Checkout

PRESENT = present_version()
NEXT = "0.77.0"


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    return copy_repository(tmp_path)


def release(repository: Checkout, version: str) -> None:
    """Release a version with its tag, as the workflow makes it."""
    done = repository.run("release", version)
    assert done.returncode == 0, done.stderr
    repository.commit(f"chore(release): v{version}")
    repository.git("tag", f"v{version}")


def unreleased(repository: Checkout, text: str) -> None:
    """Commit a change that users notice."""
    path = repository.root / "CHANGELOG.md"
    path.write_text(path.read_text().replace("## Unreleased\n", f"## Unreleased\n\n- {text}\n", 1))
    repository.commit("feat(charts): something new")


def values(repository: Checkout, environment: str) -> dict[str, str]:
    found = yaml.safe_load((repository.root / f"values/{environment}.yaml").read_text())["global"]
    return {"dags": found["dagBundle"]["trackingRef"], "image": found["image"]["tag"]}


def revisions(repository: Checkout) -> dict[str, str]:
    entries = yaml.safe_load((repository.root / FILE).read_text())
    return {name: entry["argocd"]["revision"] for name, entry in entries.items() if "argocd" in entry}


def test_a_release_writes_its_version_wherever_it_stands(repository: Checkout) -> None:
    release(repository, NEXT)
    for environment in ("staging", "prod"):
        found = values(repository, environment)
        assert found["dags"] == f"v{NEXT}"
        assert found["image"].endswith(f"-{NEXT}")
    assert f"## Unreleased\n\n## {NEXT} ({date.today()})\n\n- " in (repository.root / "CHANGELOG.md").read_text()  # noqa: DTZ011
    assert f'version = "{NEXT}"' in (repository.root / "pyproject.toml").read_text()


def test_the_first_release_is_the_present_version_and_the_next_one_follows_from_the_commits(
    repository: Checkout,
) -> None:
    done = repository.run("release")
    assert done.returncode == 0, done.stderr
    assert f"these files say {PRESENT} now" in done.stdout
    repository.commit(f"chore(release): v{PRESENT}")
    repository.git("tag", f"v{PRESENT}")
    unreleased(repository, "something new")
    major, minor, _ = PRESENT.split(".")
    done = repository.run("release")
    assert f"these files say {major}.{int(minor) + 1}.0 now" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("0.0.1", f"pyproject.toml says {PRESENT}, which is newer"),
        ("v1", "'v1' is no version"),
        ("1.2", "'1.2' is no version"),
        ("--help-me", "No such option"),
        (NEXT, f"the tag v{NEXT} exists"),
    ],
)
def test_a_version_that_cannot_be_is_refused(repository: Checkout, version: str, complaint: str) -> None:
    repository.git("tag", f"v{NEXT}")
    refused = repository.run("release", version)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert not repository.changed()


def test_a_release_of_nothing_is_refused(repository: Checkout) -> None:
    release(repository, NEXT)
    refused = repository.run("release", "0.78.0")
    assert refused.returncode == 2
    assert "CHANGELOG.md has no unreleased changes" in refused.stderr
    repository.git("commit", "--quiet", "--allow-empty", "--message", "docs(readme): a word")
    refused = repository.run("release")
    assert refused.returncode == 2
    assert not repository.changed()


def test_a_release_is_not_mixed_with_other_changes(repository: Checkout) -> None:
    (repository.root / "README.md").write_text("another\n")
    refused = repository.run("release", NEXT)
    assert refused.returncode == 2
    assert "1 files differ from HEAD, the first of them README.md" in refused.stderr


def test_a_section_is_written_once() -> None:
    text = CHANGELOG.read_text()
    with pytest.raises(ProblemError, match="has a section of 9.9.9 already"):
        with_section(with_section(text, "9.9.9", date(2026, 1, 1)), "9.9.9", date(2026, 1, 2))
    with pytest.raises(ProblemError, match="no unreleased changes"):
        with_section("# Changelog\n", "9.9.9", date(2026, 1, 1))


def test_environments_take_a_release_one_after_the_other(repository: Checkout) -> None:
    release(repository, NEXT)
    early = repository.run("follow", "prod", f"v{NEXT}")
    assert early.returncode == 2
    assert f"staging follows v{PRESENT}, which does not contain v{NEXT}" in " ".join(early.stderr.split())
    staged = repository.run("follow", "staging", f"v{NEXT}")
    assert staged.returncode == 0, staged.stderr
    comments = [line for line in (ROOT / FILE).read_text().splitlines() if "#" in line]
    assert revisions(repository)["staging"] == f"v{NEXT}"
    done = repository.run("follow", "prod", f"v{NEXT}")
    assert done.returncode == 0, done.stderr
    assert revisions(repository) == {"staging": f"v{NEXT}", "prod": f"v{NEXT}"}
    assert [line for line in (repository.root / FILE).read_text().splitlines() if "#" in line] == comments
    again = repository.run("follow", "prod", f"v{NEXT}")
    assert (again.returncode, again.stdout) == (0, f"prod follows v{NEXT} already\n")


def test_what_an_environment_may_not_follow_is_refused(repository: Checkout) -> None:
    repository.git("tag", "v0.1.0")
    repository.git("tag", "v9.0.0")
    unreleased(repository, "something new")
    for arguments, complaint in (
        (("dev", "v0.1.0"), "Argo CD does not bring dev"),
        (("prod", "main"), "there is no tag 'main'"),
        (("prod", "v8.8.8"), "there is no tag 'v8.8.8'"),
        (("nowhere", "v0.1.0"), "environment 'nowhere' does not exist"),
        (("staging", "v9.0.0"), "at v9.0.0 global.dagBundle.trackingRef of staging is v"),
    ):
        refused = repository.run("follow", *arguments)
        assert refused.returncode == 2, arguments
        assert complaint in " ".join(refused.stderr.split())
    release(repository, NEXT)
    early = repository.run("follow", "prod", f"v{NEXT}")
    assert early.returncode == 2
    assert f"which does not contain v{NEXT}: it has not run there" in " ".join(early.stderr.split())
    assert f"airflow-ops follow staging v{NEXT}" in early.stderr
    frozen = (
        (repository.root / FILE)
        .read_text()
        .replace("    cluster: staging\n", "    cluster: staging\n    frozen: true\n")
    )
    (repository.root / FILE).write_text(frozen)
    refused = repository.run("follow", "staging", f"v{NEXT}")
    assert refused.returncode == 2
    assert "staging is frozen" in refused.stderr


def test_only_the_line_of_the_environment_changes() -> None:
    text = "a:\n  argocd:\n    # One.\n    revision: v1\nb:\n  argocd:\n    revision: v1\n"
    changed = with_revision(text, "a", "v2")
    assert changed == text.replace("v1", "v2", 1)
    assert with_revision(text, "b", "v2") == "v2".join(text.rsplit("v1", 1))
    with pytest.raises(ProblemError, match="the line `revision:` of a was not found"):
        with_revision("a: {argocd: {revision: v1}}\n", "a", "v2")
