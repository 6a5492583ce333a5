"""From a commit to a release, and from there to an environment, in a copy of this repository with its own history."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from airflow_ops.console import ProblemError
from airflow_ops.delivery.changelog import sections, with_section
from airflow_ops.delivery.follow import with_revision
from airflow_ops.delivery.release import present_version
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
    """Release a version with its tag, and merge it."""
    done = repository.run("release", version)
    assert done.returncode == 0, done.stderr
    merge(repository, f"chore(release): v{version}")
    repository.git("tag", f"v{version}")
    repository.git("push", "--quiet", "origin", f"v{version}")


def merge(repository: Checkout, message: str) -> None:
    """Commit everything to the origin's main."""
    repository.commit(message)
    repository.git("push", "--quiet", "origin", "HEAD:main")


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
        ("00.02.000", "'00.02.000' is no version"),
        ("0.٢.0", "'0.٢.0' is no version"),
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


def test_a_line_that_would_keep_its_version_is_named_and_nothing_is_written(repository: Checkout) -> None:
    """What commitizen does not find it leaves out, and says nothing."""
    path = repository.root / "values/prod.yaml"
    path.write_text(path.read_text().replace(f"3.3.2-{PRESENT}", "3.3.2-rebuilt"))
    repository.commit("fix(prod): another image")
    refused = repository.run("release", NEXT)
    assert refused.returncode == 2
    assert "global.image.tag of prod is '3.3.2-rebuilt', which does not end in 0.77.0" in " ".join(
        refused.stderr.split()
    )
    assert not repository.changed()
    repository.set("prod.yaml", {"global": {"image": {"tag": f"3.3.2-{NEXT}"}}})
    repository.set("prod.yaml", {"platform": {"operations": {"image": "registry.example.com/airflow-operations:1"}}})
    repository.commit("feat(prod): the Jobs' image")
    refused = repository.run("release", NEXT)
    assert "platform.operations.image of prod is" in refused.stderr


def test_dags_that_follow_a_branch_go_on_to(repository: Checkout) -> None:
    path = repository.root / "values/staging.yaml"
    path.write_text(path.read_text().replace(f"trackingRef: v{PRESENT}", "trackingRef: staging"))
    repository.commit("feat(staging): DAGs by deploy-dags")
    release(repository, NEXT)
    assert values(repository, "staging")["dags"] == "staging"
    assert repository.run("follow", "staging", f"v{NEXT}").returncode == 0


FENCED = """# Changelog

## Unreleased

- New:

```text
## Unreleased
## 0.1.0 (2025-01-01)
```

## 0.1.0 (2025-01-01)

- Old.
"""


def test_a_section_is_written_below_the_heading_and_read_to_its_end() -> None:
    written = with_section(FENCED, "0.2.0", date(2026, 1, 1))
    assert written == FENCED.replace("## Unreleased\n\n- New", "## Unreleased\n\n## 0.2.0 (2026-01-01)\n\n- New", 1)
    assert list(sections(written)) == ["Unreleased", "0.2.0", "0.1.0"]
    assert sections(written)["0.2.0"].endswith("```")
    assert sections(written)["0.1.0"] == "- Old."
    windows = FENCED.replace("\n", "\r\n")
    assert with_section(windows, "0.2.0", date(2026, 1, 1)) == written.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# Changelog\n", "no unreleased changes"),
        ("## Unreleased\n## 0.1.0 (2025-01-01)\n- Old.\n", "no unreleased changes"),
        ("## Unreleased\n### Added\n", "no unreleased changes"),
        ("### Unreleased\n- New.\n", "no unreleased changes"),
        ("## Unreleased\n- New.\n## Unreleased\n- New.\n", "two sections Unreleased"),
        ("## Unreleased\n- New.\n## 0.2.0\n- Old.\n", "has a section of 0.2.0 already"),
    ],
)
def test_a_changelog_from_which_no_section_can_be_made(text: str, complaint: str) -> None:
    with pytest.raises(ProblemError, match=complaint):
        with_section(text, "0.2.0", date(2026, 1, 1))


def test_environments_take_a_version_one_after_the_other(repository: Checkout) -> None:
    release(repository, NEXT)
    staged = repository.run("follow", "staging", f"v{NEXT}")
    assert staged.returncode == 0, staged.stderr
    early = repository.run("follow", "prod", f"v{NEXT}")
    assert early.returncode == 2
    assert f"staging follows v{PRESENT} on main, and has never followed v{NEXT}" in " ".join(early.stderr.split())
    merge(repository, "feat(staging): follow")
    comments = [line for line in (ROOT / FILE).read_text().splitlines() if "#" in line]
    done = repository.run("follow", "prod", f"v{NEXT}")
    assert done.returncode == 0, done.stderr
    assert revisions(repository) == {"staging": f"v{NEXT}", "prod": f"v{NEXT}"}
    assert [line for line in (repository.root / FILE).read_text().splitlines() if "#" in line] == comments
    again = repository.run("follow", "prod", f"v{NEXT}")
    assert (again.returncode, again.stdout) == (0, f"prod follows v{NEXT} already\n")


def test_a_version_that_staging_left_out_is_not_for_prod_but_one_that_it_had_is(repository: Checkout) -> None:
    for version in ("0.77.0", "0.78.0", "0.79.0"):
        unreleased(repository, f"new in {version}")
        release(repository, version)
    for version in ("0.77.0", "0.79.0"):
        assert repository.run("follow", "staging", f"v{version}").returncode == 0
        merge(repository, f"feat(staging): follow v{version}")
    assert repository.run("follow", "prod", "v0.78.0").returncode == 2
    assert repository.run("follow", "prod", "v0.77.0").returncode == 0


def test_what_an_environment_may_not_follow_is_refused(repository: Checkout) -> None:
    release(repository, NEXT)
    repository.git("tag", "v8.0.0", f"v{NEXT}")
    repository.git("push", "--quiet", "origin", "v8.0.0")
    repository.git("tag", "v8.1.0", f"v{NEXT}")
    repository.git("switch", "--quiet", "--create", "other")
    repository.commit("feat(base): nobody has seen it")
    repository.git("tag", "v8.2.0")
    for arguments, complaint in (
        (("dev", f"v{NEXT}"), "Argo CD does not bring dev"),
        (("prod", "main"), "'main' is no version of this checkout"),
        (("prod", "v9.9.9"), "'v9.9.9' is no version of this checkout"),
        (("nowhere", f"v{NEXT}"), "environment 'nowhere' does not exist"),
        (("staging", "v8.0.0"), "global.image.tag of staging is '3.3.2-0.77.0', which does not end in 8.0.0"),
        (("staging", "v8.1.0"), "the origin has no tag v8.1.0"),
        (("staging", "v8.2.0"), "v8.2.0 is not in origin/main: nobody has reviewed it"),
    ):
        refused = repository.run("follow", *arguments)
        assert refused.returncode == 2, arguments
        assert complaint in " ".join(refused.stderr.split())
    frozen = (
        (repository.root / FILE)
        .read_text()
        .replace("    cluster: staging\n", "    cluster: staging\n    frozen: true\n")
    )
    (repository.root / FILE).write_text(frozen)
    refused = repository.run("follow", "staging", f"v{NEXT}")
    assert refused.returncode == 2
    assert "staging is frozen" in refused.stderr


ENTRIES = "a:\n  argocd:\n    # One.\n    revision: v1.0.0  # kept\nb:\n  argocd:\n    revision: v1.0.0"


def test_only_the_line_of_the_environment_changes() -> None:
    assert with_revision(ENTRIES, "a", "v2.0.0") == ENTRIES.replace("v1", "v2", 1)
    assert with_revision(ENTRIES, "b", "v2.0.0") == "v2".join(ENTRIES.rsplit("v1", 1))
    windows = ENTRIES.replace("\n", "\r\n")
    assert with_revision(windows, "a", "v2.0.0") == windows.replace("v1", "v2", 1)


@pytest.mark.parametrize(
    "text",
    [
        "a: {argocd: {revision: v1}}\n",
        "a:\n  argocd:\n    revision: &tag v1\nb:\n  argocd:\n    revision: *tag\n",
        "b:\n  argocd:\n    revision: &tag v1\na:\n  argocd:\n    revision: *tag\n",
        "a:\n  argocd:\n    revision: >-\n      v1\n",
        "a:\n  note:\n    revision: v1\n  argocd:\n    revision: v1\n",
    ],
)
def test_a_line_that_cannot_be_changed_alone_is_left_alone(text: str) -> None:
    with pytest.raises(ProblemError, match="the line `revision:` of a cannot be changed without anything else"):
        with_revision(text, "a", "v2.0.0")
