"""The steps of the workflows, run as GitHub runs them, in a copy of this repository.

There is no container engine here, no registry, no GitHub and no kind: `docker`, `crane`, `grype`, `cosign`, `gh` and
`kind` are stand-ins that note what they were asked for, so these tests show what is asked in which order, not what
comes of it.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.delivery.pins import bases
from airflow_ops.delivery.release import present_version
from airflow_ops.environments import official_chart
from airflow_ops.paths import ROOT
from support.chart_rendering import needs_chart
from support.repository_copy import copy_repository
from support.small_checkout import Checkout

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
PRESENT = present_version()
IMAGE = f"registry.example.com/data/airflow-platform:3.3.2-{PRESENT}"
BASE = f"sha256:{'b' * 64}"
DIGEST = f"{IMAGE.rpartition(':')[0]}@sha256:0123"
STAND_IN = r"""#!/usr/bin/env bash
program=$(basename "$0")
case "$*" in *" -" | *--password-stdin*) input=$(cat) ;; esac
printf '%s %s\n' "$program" "$*" >>"$NOTES"
[ -z "$input" ] || printf 'input: %s\n' "$input" >>"$NOTES"
if [ -n "${FAILS:-}" ] && [[ "$program $*" == *"$FAILS"* ]]; then echo "$FAILS fails" >&2; exit 1; fi
case "$program $1 $2 $3" in
  "docker buildx imagetools inspect")
    if [ ! -e "$REGISTRY/${4//\//_}" ]; then echo "${INSPECT:-ERROR: $4: not found}" >&2; exit 1; fi ;;
  "docker buildx imagetools create") : >"$REGISTRY/${5//\//_}" ;;
  "gh pr view "*) echo "${PULL_REQUEST_IS:-}" ;;
  "kind get clusters "*) echo airflow ;;
  "crane digest "*) printf 'sha256:%064d\n' 0 | tr 0 b ;;
esac
while [ $# -gt 0 ]; do
  [ "$1" != --metadata-file ] || echo '{"containerimage.digest": "sha256:0123"}' >"$2"
  shift
done
"""
ELSEWHERE = {
    "make tools": ".ci/run",
    "make tools ARGS=image": "by hand: it compiles for minutes",
    "make tools ARGS=signatures": "by hand: it compiles for minutes",
    "make signatures": "by hand: with the programs that take minutes to compile; without them it is skipped",
    "make test": ".ci/run",
    "make verify": ".ci/run",
    "make test-local": ".ci/run",
    "make secrets-scan": ".ci/run",
    "make e2e": ".ci/run",
    "make deploy ENV=dev": "tests/e2e deploys dev by it",
    "make e2e-upgrade": "by hand: two hours",
    "make sbom": "by hand: it asks the internet",
    "make audit": "by hand: it asks the internet",
}
"""Steps that no test of this file runs, and where they are run."""
HERE = {
    "cluster-up",
    "comment",
    "commits",
    "deps",
    "e2e-images",
    "image",
    "propose",
    "publish",
    "review",
    "scan-images",
}
"""The targets whose steps the tests of this file run."""


@dataclass
class Runner:
    """A machine of GitHub's with the copy.

    Attributes:
        repository: The copy.
        programs: The folder of the stand-ins.
        notes: What they were asked for.
        registry: A file for each image that has its tag.
    """

    repository: Checkout
    programs: Path
    notes: Path
    registry: Path

    def run(self, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the step of a target, as a workflow has it, with the shell that GitHub uses.

        Args:
            target: One of `HERE`.
            **environment: What the workflow puts into the step's environment.
        """
        assert target in HERE
        (step,) = (each for each in steps() if each.split()[1] == target)
        kept = self.repository.environ
        variables = {
            "PATH": f"{self.programs}:{kept['PATH']}",
            "NOTES": str(self.notes),
            # `make test ARGS=...` hands its own down.
            "ARGS": "",
            "REGISTRY": str(self.registry),
            # The environment is that of this checkout.
            "MAKEFLAGS": "--no-print-directory -- MAKE_ENVIRONMENT=true",
            "GITHUB_STEP_SUMMARY": str(self.programs / "summary.md"),
            "CI": "true",
            **{f"GIT_{who}_{what}": "e2e" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step],
            cwd=self.repository.root,
            env=kept | variables | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> list[str]:
        """What the stand-ins were asked for, in this order."""
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "crane", "grype", "cosign", "gh", "kind"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    registry = tmp_path / "registry"
    registry.mkdir()
    return Runner(copy_repository(tmp_path), programs, tmp_path / "notes", registry)


@pytest.fixture
def chart(runner: Runner) -> None:
    """The official chart, without which nothing can be rendered."""
    needs_chart()
    runner.repository.environ["AIRFLOW_CHART_ARCHIVE"] = str(official_chart.ensure())


def steps() -> dict[str, dict[str, Any]]:
    """Every text that the workflows run, with its step."""
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    return {step["run"]: step for job in jobs for step in job["steps"] if "run" in step}


def merge(runner: Runner, message: str) -> None:
    """Commit everything to the origin's main."""
    runner.repository.commit(message)
    runner.repository.git("push", "--quiet", "origin", "HEAD:main")


def release(runner: Runner, version: str = PRESENT) -> str:
    """Merge the release of a version; gives its commit."""
    done = runner.repository.run("release", version)
    assert done.returncode == 0, done.stderr
    merge(runner, f"chore(release): v{version}")
    return of_origin(runner, "rev-parse", "main")


def of_origin(runner: Runner, *command: str) -> str:
    """The output of git about the origin."""
    origin = runner.repository.root.parent / "origin.git"
    return subprocess.run(["git", *command], cwd=origin, capture_output=True, text=True, check=True).stdout.strip()


def test_every_step_is_run_by_a_test_or_said_to_be_run_elsewhere() -> None:
    assert {each for each in steps() if each.split()[1] not in HERE} == set(ELSEWHERE)
    in_ci = (ROOT / ".ci/run").read_text().splitlines()
    for step, where in ELSEWHERE.items():
        assert where != ".ci/run" or step in in_ci, step


def test_a_pull_request_is_reviewed(runner: Runner, chart: None) -> None:
    runner.repository.git("switch", "--quiet", "--create", "change")
    values = runner.repository.root / "values/prod.yaml"
    values.write_text(values.read_text().replace("parallelism: 32", "parallelism: 33"))
    runner.repository.commit("feat(prod): one task more")
    assert runner.run("deps").returncode == 0
    done = runner.run("commits", BASE="main")
    assert done.returncode == 0, done.stderr
    done = runner.run("review", BASE="main")
    assert done.returncode == 0, done.stderr
    done = runner.run("comment", PULL_REQUEST="7")
    assert done.returncode == 0, done.stderr
    assert runner.asked()[0] == "gh pr comment 7 --edit-last --create-if-none --body-file -"
    changes = re.findall(r"<summary>(\w+): (\d+) changed", "\n".join(runner.asked()))
    assert [name for name, count in changes if int(count)] == ["prod"]
    assert (runner.programs / "summary.md").read_text() == (runner.repository.root / "review.md").read_text()
    failed = runner.run("review", BASE="nothing")
    assert failed.returncode != 0


def test_a_comment_is_cut_to_what_github_takes(runner: Runner) -> None:
    (runner.repository.root / "review.md").write_text("word\n" * 20_000)
    assert runner.run("comment", PULL_REQUEST="7").returncode == 0
    assert len(runner.notes.read_text()) < 65_536
    assert "`make review` shows all of it" in runner.notes.read_text()


def test_an_image_is_looked_at(runner: Runner) -> None:
    done = runner.run("image")
    assert done.returncode == 0, done.stderr
    build, scan, dags = runner.asked()
    assert build == "docker buildx build --file image/Dockerfile --tag airflow-platform:test --load ."
    assert scan == "grype docker:airflow-platform:test --only-fixed --fail-on high"
    assert re.match("docker run .*--network none .*airflow dags list-import-errors --local", dags)


def test_all_images_of_others_are_looked_at(runner: Runner, chart: None) -> None:
    assert runner.run("deps").returncode == 0
    done = runner.run("scan-images")
    assert done.returncode == 0, done.stderr
    asked = runner.asked()
    assert "grype registry:docker.io/library/postgres:17 --only-fixed --fail-on high" in asked
    assert len(asked) == 4, "PgBouncer, its exporter, statsd-exporter, PostgreSQL"
    assert not any("airflow-platform" in line for line in asked)
    found = runner.run("scan-images", FAILS="grype registry:apache")
    assert found.returncode != 0
    assert len(runner.asked()) == 8, "the others are looked at all the same"


def test_what_was_not_released_is_not_published(runner: Runner) -> None:
    done = runner.run("publish")
    assert done.returncode == 0, done.stderr
    assert f"CHANGELOG.md has no section of {PRESENT}" in done.stdout
    assert runner.asked() == []


def test_a_version_is_published_once_its_images_are_signed(runner: Runner) -> None:
    commit = release(runner)
    # Merged before this runs: it does not belong to the version.
    (runner.repository.root / "plugins/later.py").write_text("")
    merge(runner, "feat(plugins): a later one")
    done = runner.run("publish", REGISTRY_USER="ci", REGISTRY_PASSWORD="swordfish")  # noqa: S106
    assert done.returncode == 0, done.stderr
    asked = [line for line in runner.asked() if line.startswith(("docker ", "grype ", "cosign ", "gh "))]
    assert [" ".join(line.split()[:4]) for line in asked if not line.startswith(("docker login", "gh"))] == [
        "docker buildx inspect airflow-platform",
        "docker buildx imagetools inspect",
        "docker buildx build --builder",
        "docker pull --quiet " + DIGEST,
        f"grype docker:{DIGEST} --only-fixed --fail-on",
        "docker run --rm --network",
        f"cosign sign --yes {DIGEST}",
        "docker buildx imagetools create",
    ]
    everything = "\n".join(runner.asked())
    assert f"imagetools create --tag {IMAGE} {DIGEST}\n" in everything
    base = bases(ROOT / "image/Dockerfile")["AIRFLOW_IMAGE"]
    assert f" --build-arg AIRFLOW_IMAGE={base}@{BASE} " in everything
    assert "docker login --username ci --password-stdin registry.example.com\ninput: swordfish\n" in everything
    assert asked[-1] == f"gh release create v{PRESENT} --verify-tag --title v{PRESENT} --notes-file -"
    assert "input: - " in everything, "the section of the changelog"
    assert of_origin(runner, "rev-parse", f"v{PRESENT}") == commit
    assert [each.name for each in runner.registry.iterdir()] == [IMAGE.replace("/", "_")]
    again = runner.run("publish")
    assert again.stdout == f"nothing to publish: v{PRESENT} exists\n"


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        (
            {"FAILS": "crane digest"},
            "the digest of apache/airflow:3.3.2-python3.11 was not found out: crane digest fails",
        ),
        ({"FAILS": "grype docker"}, "grype docker fails"),
        ({"FAILS": "cosign sign"}, "cosign sign fails"),
        ({"INSPECT": "ERROR: lookup registry.example.com: host not found here"}, "does not say whether it is there"),
    ],
)
def test_what_is_not_seen_to_be_right_gets_no_name_until_it_is(
    runner: Runner, trouble: dict[str, str], complaint: str
) -> None:
    release(runner)
    done = runner.run("publish", **trouble)
    assert done.returncode != 0
    assert complaint in " ".join(done.stderr.split())
    assert list(runner.registry.iterdir()) == []
    assert of_origin(runner, "tag") == ""
    again = runner.run("publish")
    assert again.returncode == 0, again.stderr
    assert f"cosign sign --yes {DIGEST}" in runner.asked(), "what was cut off is signed before it gets its name"
    assert of_origin(runner, "tag") == f"v{PRESENT}"


def test_a_version_without_a_section_is_an_error_once_others_were_released(runner: Runner) -> None:
    runner.repository.git("push", "--quiet", "origin", "HEAD:refs/tags/v0.0.1")
    done = runner.run("publish")
    assert done.returncode == 2
    assert f"pyproject.toml says {PRESENT}, which has neither a tag nor a section" in " ".join(done.stderr.split())


def test_a_release_is_proposed_from_main_whatever_else_is_here(runner: Runner) -> None:
    runner.repository.git("switch", "--quiet", "--create", "mine")
    runner.repository.commit("feat(base): not merged")
    (runner.repository.root / "README.md").write_text("not committed\n")
    done = runner.run("propose", WHAT="release", VERSION="")
    assert done.returncode == 0, done.stderr
    branch, title = f"propose/release-v{PRESENT}", f"chore(release): v{PRESENT}"
    assert f"gh pr create --head {branch} --base main --title {title} --body-file -" in runner.asked()
    assert of_origin(runner, "log", "--format=%s", f"main..{branch}") == title
    assert of_origin(runner, "diff", "--name-only", "main", branch) == "CHANGELOG.md"
    again = runner.run("propose", WHAT="release", VERSION=PRESENT, PULL_REQUEST_IS="OPEN")
    assert again.returncode == 0, again.stderr
    assert f"gh pr edit {branch} --title {title} --body-file -" in runner.asked()


def test_an_environment_is_proposed_to_follow_a_version(runner: Runner, chart: None) -> None:
    runner.repository.git("push", "--quiet", "origin", f"{release(runner)}:refs/tags/v{PRESENT}")
    same = runner.run("propose", WHAT="staging", VERSION=f"v{PRESENT}")
    assert (same.returncode, runner.asked()) == (0, []), same.stderr
    assert "nothing to propose" in same.stdout
    changelog = runner.repository.root / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", "## Unreleased\n\n- New.\n", 1))
    runner.repository.commit("feat(charts): something new")
    runner.repository.git("push", "--quiet", "origin", f"{release(runner, '0.77.0')}:refs/tags/v0.77.0")
    early = runner.run("propose", WHAT="prod", VERSION="v0.77.0")
    assert early.returncode != 0
    assert "has never followed v0.77.0" in " ".join(early.stderr.split())
    done = runner.run("propose", WHAT="staging", VERSION="v0.77.0")
    assert done.returncode == 0, done.stderr
    assert of_origin(runner, "log", "--format=%s", "main..propose/staging-v0.77.0") == "feat(staging): follow v0.77.0"
    (body,) = (line for line in runner.asked() if line.startswith("input: "))
    assert body.startswith(f"input: What v0.77.0 changes in staging, compared with v{PRESENT} (")
    assert any(re.match(r"\+ +image: .*-0\.77\.0$", line) for line in runner.asked())


@pytest.mark.parametrize(
    ("what", "version", "complaint"),
    [
        ("dev", "v0.1.0", "Argo CD does not bring dev"),
        ("nowhere", "v0.1.0", "environment 'nowhere' does not exist"),
        ("release", "--help", "'--help' is no version"),
        ("staging", "", "is no version"),
    ],
)
def test_what_cannot_be_proposed_is_named(runner: Runner, chart: None, what: str, version: str, complaint: str) -> None:
    done = runner.run("propose", WHAT=what, VERSION=version)
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.split())
    assert runner.asked() == []
    assert of_origin(runner, "branch", "--format=%(refname:short)") == "main"


def test_the_nightly_upgrade_has_its_cluster_and_its_images(runner: Runner) -> None:
    done = runner.run("cluster-up")
    assert done.returncode == 0, done.stderr
    assert "docker build --file image/Dockerfile" in "\n".join(runner.asked())
    done = runner.run("e2e-images")
    assert done.returncode == 0, done.stderr
    former, operations, load = runner.asked()[-3:]
    assert re.search(
        r"--tag docker.io/library/airflow-platform:e2e-3.2.2 --build-arg AIRFLOW_IMAGE=apache/airflow:3.2.2", former
    )
    assert "--file image/operations/Dockerfile --tag docker.io/library/airflow-operations:dev" in operations
    assert load.startswith("kind load docker-image docker.io/library/airflow-platform:e2e-3.2.2")
