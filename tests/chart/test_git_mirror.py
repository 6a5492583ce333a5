"""The Git mirror's loop, with real repositories: the commit that a run is pinned to must stay available."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from airflow_ops.paths import ROOT
from support.chart_rendering import Render, Rendered
from support.statsd_exporter import free_ports

SCRIPT = ROOT / "charts/platform/files/scripts/git_mirror.sh"
EXPORTER = SCRIPT.with_name("git_mirror_exporter.py")
PATIENCE_SECONDS = 30


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def tip(mirror: Path, ref: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(mirror), "rev-parse", "--quiet", "--verify", ref], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, "not within its time"
        time.sleep(0.05)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "first")
    return folder


def asleep(process: subprocess.Popen[bytes]) -> bool:
    """Whether the mirror's round is over."""
    command = ["ps", "--ppid", str(process.pid), "-o", "comm="]
    return "sleep" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def end(process: subprocess.Popen[bytes]) -> None:
    """End a mirror with what it has started, which is all in a session of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path, origin: Path, mirror: Path) -> Iterator[Start]:
    """Start a mirror of the origin, with its script and what the DAGs follow in one folder; it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []
    folder = tmp_path / "script"

    def run(
        interval: float = 0.2, replicas: int = 1, tracking: str = "main", metrics: str = ""
    ) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        script = shutil.copy(SCRIPT, folder)
        shutil.copy(EXPORTER, folder)
        (folder / "tracking-ref").write_text(tracking)
        command = ["bash", script, str(mirror), str(origin), str(interval), str(replicas)]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"HOME": str(tmp_path), "METRICS_PORT": metrics, "PATH": path}
        with (tmp_path / "log").open("ab") as log:
            running.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True)
            )
        return running[-1]

    yield run
    for process in running:
        if process.poll() is None:
            end(process)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror.git"


@pytest.fixture
def clone(mirror: Path, tmp_path: Path) -> Callable[[], Path]:
    """Clone the mirror as a bundle does: once bare, and from there into a working tree."""

    def run() -> Path:
        bare, tree = (Path(tempfile.mkdtemp(dir=tmp_path)) for _ in range(2))
        git(tmp_path, "clone", "--quiet", "--bare", f"file://{mirror}", str(bare))
        git(tmp_path, "clone", "--quiet", str(bare), str(tree))
        return tree

    return run


def rounds(mirror: Path, number: int = 2) -> None:
    """Wait for some rounds, from the beginning of the next one."""
    for _ in range(number):
        before = (mirror / "round").stat().st_mtime_ns
        eventually(lambda before=before: (mirror / "round").stat().st_mtime_ns > before)  # type: ignore[misc]


def orphan(origin: Path, message: str) -> str:
    """A commit that nothing leads to."""
    empty = git(origin, "hash-object", "-t", "tree", "-w", "/dev/null")
    return git(origin, "commit-tree", empty, "-m", message)


def point(repository: Path, ref: str, target: str) -> None:
    git(repository, "update-ref", "--no-deref", ref, target)


def test_a_push_arrives(start: Start, origin: Path, mirror: Path) -> None:
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") == git(origin, "rev-parse", "main"))
    pushed = commit(origin, "second")
    git(origin, "tag", "v1")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed == tip(mirror, "refs/tags/v1"))
    assert (mirror / "fetched").exists(), "what readiness asks for"
    assert not git(mirror, "tag", "--list", "kept/*"), "nothing was rewritten"


def test_a_commit_that_a_force_push_drops_can_still_be_cloned(
    start: Start, origin: Path, mirror: Path, tmp_path: Path
) -> None:
    start()
    dropped = commit(origin, "to be dropped")
    eventually(lambda: tip(mirror, "refs/heads/main") == dropped)
    git(origin, "reset", "--quiet", "--hard", "HEAD~1")
    instead = commit(origin, "instead")
    eventually(lambda: tip(mirror, "refs/heads/main") == instead)
    git(tmp_path, "clone", "--quiet", "--bare", f"file://{mirror}", "worker.git")
    assert git(tmp_path / "worker.git", "cat-file", "-t", dropped) == "commit"


def test_a_branch_that_the_origin_deletes_stays(start: Start, origin: Path, mirror: Path) -> None:
    git(origin, "branch", "feature")
    start()
    eventually(lambda: tip(mirror, "refs/heads/feature") != "")
    git(origin, "branch", "--delete", "--force", "feature")
    pushed = commit(origin, "later")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    assert tip(mirror, "refs/heads/feature")


def test_it_serves_on_while_the_origin_is_away_and_catches_up_after(
    start: Start, origin: Path, mirror: Path, tmp_path: Path
) -> None:
    process = start()
    first = git(origin, "rev-parse", "main")
    eventually(lambda: tip(mirror, "refs/heads/main") == first)
    shutil.move(origin, tmp_path / "away")
    round_ = (mirror / "round").stat().st_mtime
    eventually(lambda: (mirror / "round").stat().st_mtime > round_ + 1)
    assert process.poll() is None
    assert tip(mirror, "refs/heads/main") == first
    shutil.move(tmp_path / "away", origin)
    pushed = commit(origin, "back")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)


def test_of_several_replicas_none_moves_a_branch_in_the_round_that_brings_it(
    start: Start, origin: Path, mirror: Path
) -> None:
    once = 3600
    first = git(origin, "rev-parse", "main")
    replica = start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/heads/main") == first and (mirror / "fetched").exists())
    end(replica)
    pushed = commit(origin, "second")
    replica = start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/incoming/heads/main") == pushed)
    eventually(lambda: asleep(replica))
    assert tip(mirror, "refs/heads/main") == first
    end(replica)
    start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)


NAMES_FOR_OTHERS = (
    "refs/tags/incoming/heads/main",
    "refs/tags/incoming/tags/v1.0.0",
    "refs/tags/origin/main",
    "refs/tags/refs/heads/main",
    "refs/heads/refs/heads/main",
    "refs/heads/incoming/heads/main",
    "refs/heads/origin/main",
    "refs/heads/v1.0.0",
    "refs/heads/{commit}",
    "refs/heads/HEAD",
    "refs/tags/HEAD",
    "refs/tags/main",
    "refs/tags/kept/{commit}",
    "refs/tags/kept/{commit}/x",
    "refs/tags/kept",
)


def read(tree: Path, followed: str) -> str:
    """What a bundle reads that follows something: a branch of its origin first, or whatever else Git finds."""
    branches = git(tree, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/remotes/origin").split()
    return git(tree, "rev-parse", f"origin/{followed}^{{commit}}" if f"origin/{followed}" in branches else followed)


@pytest.mark.parametrize("name", NAMES_FOR_OTHERS)
def test_no_name_at_the_origin_moves_another_ref(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, clone: Callable[[], Path], name: str
) -> None:
    good, evil = git(origin, "rev-parse", "main"), orphan(origin, "evil")
    git(origin, "tag", "v1.0.0")
    start(replicas=2)
    eventually(lambda: tip(mirror, "refs/heads/main") == good == tip(mirror, "refs/tags/v1.0.0"))
    point(origin, name.format(commit=good), evil)
    eventually(lambda: tip(mirror, f"refs/incoming/{name.format(commit=good).removeprefix('refs/')}") == evil)
    shutil.move(origin, tmp_path / "away")
    rounds(mirror)
    assert (tip(mirror, "refs/heads/main"), tip(mirror, "refs/tags/v1.0.0")) == (good, good)
    tree = clone()
    assert {followed: read(tree, followed) for followed in ("main", "v1.0.0", good)} == dict.fromkeys(
        ("main", "v1.0.0", good), good
    )
    shutil.move(tmp_path / "away", origin)
    instead = orphan(origin, "instead")
    point(origin, "refs/heads/main", instead)
    eventually(lambda: tip(mirror, "refs/heads/main") == instead)
    assert tip(mirror, f"refs/tags/kept/{good}") == good, "and a force-push still keeps what it drops"


def test_a_branch_does_not_replace_the_tag_that_the_dags_follow(start: Start, origin: Path, mirror: Path) -> None:
    git(origin, "tag", "stable")
    start(tracking="stable")
    eventually(lambda: tip(mirror, "refs/tags/stable") != "")
    git(origin, "branch", "stable", orphan(origin, "evil"))
    git(origin, "branch", "another")
    eventually(lambda: tip(mirror, "refs/heads/another") != "")
    rounds(mirror)
    assert not tip(mirror, "refs/heads/stable")
    assert "refs/heads/stable" in (mirror / "refused").read_text()


ODD_NAMES = (
    "a'b",
    'a"b',
    "a;b",
    "$(touch${IFS}ran)",
    "`touch${IFS}ran`",
    "a]b",
    "-x",
    "--force",
    "ä",
    "a%sb",
    "@",
    "!",
    "a&b",
    "#",
)


@pytest.mark.parametrize("folder", ["refs/heads/x", "refs/tags/x"])
def test_odd_names_are_only_names(start: Start, origin: Path, mirror: Path, tmp_path: Path, folder: str) -> None:
    commits = {f"{folder}/{name}": orphan(origin, name) for name in ODD_NAMES}
    for ref, made in commits.items():
        point(origin, ref, made)
    start()
    eventually(lambda: {ref: tip(mirror, ref) for ref in commits} == commits)
    for ref in commits:
        point(origin, ref, orphan(origin, f"after {ref}"))
    eventually(lambda: all(tip(mirror, f"refs/tags/kept/{made}") for made in commits.values()))
    assert not list(tmp_path.rglob("ran"))


def test_a_symbolic_ref_is_a_commit(start: Start, origin: Path, mirror: Path) -> None:
    git(origin, "branch", "other")
    git(origin, "symbolic-ref", "refs/heads/alias", "refs/heads/other")
    start()
    eventually(lambda: tip(mirror, "refs/heads/alias") != "")
    git(origin, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    pushed = commit(origin, "second")
    eventually(lambda: tip(mirror, "refs/heads/alias") == pushed == tip(mirror, "refs/heads/main"))
    assert tip(mirror, "refs/heads/other") == git(origin, "rev-parse", "other") != pushed


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(("former", "new"), [("x", "x/y"), ("x/y", "x"), ("x/y/z", "x"), ("x", "x/y/z")])
@pytest.mark.parametrize("kind", ["heads", "tags"])
def test_a_name_in_the_place_of_a_deleted_one_stops_nothing(
    start: Start, origin: Path, mirror: Path, clone: Callable[[], Path], kind: str, former: str, new: str, replicas: int
) -> None:
    before, after = orphan(origin, "before"), orphan(origin, "after")
    point(origin, f"refs/{kind}/{former}", before)
    start(replicas=replicas)
    eventually(lambda: tip(mirror, f"refs/{kind}/{former}") == before)
    tree = clone()
    git(origin, "update-ref", "-d", f"refs/{kind}/{former}")
    point(origin, f"refs/{kind}/{new}", after)
    fetched = (mirror / "fetched").stat().st_mtime_ns
    pushed = commit(origin, "second")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    eventually(lambda: (mirror / "fetched").stat().st_mtime_ns > fetched)
    for known in (before, after):
        assert git(clone(), "cat-file", "-t", known) == "commit"
    bare = Path(git(tree, "remote", "get-url", "origin"))
    git(bare, "fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    assert tip(bare, "refs/heads/main") == pushed, "who has cloned the former name gets on, too"


@pytest.mark.parametrize(("former", "new"), [("release", "release/1"), ("release/1", "release")])
def test_what_the_dags_follow_gets_its_name(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, former: str, new: str
) -> None:
    before = orphan(origin, "before")
    git(origin, "branch", former, before)
    start()
    eventually(lambda: tip(mirror, f"refs/heads/{former}") == before)
    git(origin, "branch", "--delete", "--force", former)
    git(origin, "branch", new)
    refused = f"refs/heads/{new} is not taken: refs/heads/{former} is in its way"
    eventually(lambda: refused in (mirror / "refused").read_text())
    assert tip(mirror, f"refs/heads/{former}") == before
    (tmp_path / "script/tracking-ref").write_text(new)
    eventually(lambda: tip(mirror, f"refs/heads/{new}") == git(origin, "rev-parse", "main"))
    assert tip(mirror, f"refs/tags/kept/{before}") == before


def cannot_be_fetched(mirror: Path, branch: str) -> None:
    """Put into the place of a fetched branch what Git does not remove."""
    folder = mirror / "refs/incoming/heads" / branch
    folder.mkdir(parents=True)
    (folder / "junk.lock").touch()


@pytest.mark.parametrize(("tracking", "current"), [("main", True), ("stuck", False), ("", False)])
def test_a_fetch_is_judged_by_what_the_dags_follow(
    start: Start, origin: Path, mirror: Path, tracking: str, current: bool
) -> None:
    start(tracking=tracking)
    eventually(lambda: (mirror / "fetched").exists())
    cannot_be_fetched(mirror, "stuck")
    git(origin, "branch", "stuck")
    rounds(mirror)
    fetched = (mirror / "fetched").stat().st_mtime_ns
    pushed = commit(origin, "second")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    rounds(mirror, 3)
    assert ((mirror / "fetched").stat().st_mtime_ns > fetched) is current


def test_dags_may_follow_a_commit(start: Start, origin: Path, mirror: Path) -> None:
    start(tracking=git(origin, "rev-parse", "main"))
    eventually(lambda: (mirror / "fetched").exists())
    cannot_be_fetched(mirror, "stuck")
    git(origin, "branch", "stuck")
    fetched = (mirror / "fetched").stat().st_mtime_ns
    eventually(lambda: (mirror / "fetched").stat().st_mtime_ns > fetched + 2 * 10**9)


def test_the_lock_of_a_process_that_was_killed_stops_nothing(start: Start, origin: Path, mirror: Path) -> None:
    process = start()
    eventually(lambda: (mirror / "fetched").exists())
    end(process)
    for lock in ("refs/heads/main.lock", "refs/incoming/heads/main.lock", "packed-refs.lock", "config.lock"):
        (mirror / lock).parent.mkdir(parents=True, exist_ok=True)
        (mirror / lock).touch()
    pushed = commit(origin, "second")
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)


def test_an_origin_that_goes_away_in_the_middle_of_a_fetch_changes_nothing(
    start: Start, origin: Path, mirror: Path, tmp_path: Path
) -> None:
    cut, hook = tmp_path / "cut", tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nif [ -e {cut} ]; then "$@" | head -c 100; exit 1; fi\nexec "$@"\n')
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[uploadpack]\n\tpackObjectsHook = {hook}\n")
    first = git(origin, "rev-parse", "main")
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") == first)
    cut.touch()
    rounds(mirror)
    pushed = commit(origin, "second")
    rounds(mirror)
    fetched = (mirror / "fetched").stat().st_mtime_ns
    rounds(mirror)
    assert tip(mirror, "refs/heads/main") == first
    assert (mirror / "fetched").stat().st_mtime_ns == fetched
    cut.unlink()
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_version_that_somebody_moves_stays_what_it_was(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, replicas: int, deleted_first: bool
) -> None:
    first = git(origin, "rev-parse", "main")
    git(origin, "tag", "v1.0.0")
    git(origin, "tag", "latest")
    start(replicas=replicas, tracking="v1.0.0")
    eventually(lambda: tip(mirror, "refs/tags/v1.0.0") == first == tip(mirror, "refs/tags/latest"))
    pushed = commit(origin, "second")
    if deleted_first:
        git(origin, "tag", "--delete", "v1.0.0")
        eventually(lambda: tip(mirror, "refs/incoming/tags/v1.0.0") == "")
    git(origin, "tag", "--force", "v1.0.0")
    git(origin, "tag", "--force", "latest")
    git(origin, "tag", "v1.1.0")
    eventually(lambda: {tip(mirror, f"refs/tags/{tag}") for tag in ("latest", "v1.1.0")} == {pushed})
    rounds(mirror)
    assert tip(mirror, "refs/tags/v1.0.0") == first
    told = f"refs/tags/v1.0.0 is not taken: somebody has moved it to {pushed}; a version stays what it was, {first}\n"
    assert (mirror / "refused").read_text() == told
    assert (tmp_path / "log").read_text().count(told) == 1, "told when it happens, not in every round"
    git(origin, "tag", "--force", "v1.0.0", first)
    eventually(lambda: (mirror / "refused").read_text() == "")


def served_by_a_former_version(mirror: Path, origin: Path) -> None:
    git(mirror.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(mirror))
    refspecs = ("heads/*:refs/heads/*", "tags/*:refs/tags/*")
    git(mirror, "fetch", "--quiet", str(origin), *(f"+refs/{refspec}" for refspec in refspecs))
    notes = ("heads/*:refs/tags/incoming/heads/*", "tags/*:refs/tags/incoming/tags/*")
    git(mirror, "fetch", "--quiet", "--no-tags", str(origin), *(f"+refs/{refspec}" for refspec in notes))
    for file in ("round", "fetched"):
        (mirror / file).touch()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_volume_of_a_former_version_goes_on(
    start: Start, origin: Path, mirror: Path, clone: Callable[[], Path], replicas: int
) -> None:
    git(origin, "tag", "v1.0.0")
    git(origin, "branch", "x")
    served_by_a_former_version(mirror, origin)
    kept, seen = orphan(origin, "kept"), commit(origin, "seen by the other replica")
    git(mirror, "fetch", "--quiet", "--no-tags", str(origin), f"{kept}:refs/tags/kept/{kept}")
    git(mirror, "fetch", "--quiet", "--no-tags", str(origin), "+main:refs/tags/incoming/heads/main")
    git(origin, "branch", "--delete", "x")
    git(origin, "branch", "x/y")
    git(origin, "reset", "--quiet", "--hard", "HEAD~1")
    pushed = commit(origin, "instead")
    start(replicas=replicas)
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    tags = git(mirror, "tag").split()
    assert sorted(tags) == sorted(["v1.0.0", f"kept/{kept}", f"kept/{seen}"]), "and none of the former notes"
    for known in (kept, seen):
        assert git(clone(), "cat-file", "-t", known) == "commit"


@pytest.mark.parametrize("name", [name for name in NAMES_FOR_OTHERS if name != "refs/tags/main"])
def test_a_former_version_may_have_served_such_names(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, clone: Callable[[], Path], name: str
) -> None:
    good, evil = git(origin, "rev-parse", "main"), orphan(origin, "evil")
    git(origin, "tag", "v1.0.0")
    point(origin, "refs/heads/evil", evil)
    served_by_a_former_version(mirror, origin)
    point(mirror, name.format(commit=good), evil)
    shutil.move(origin, tmp_path / "away")
    start(replicas=2)
    eventually(lambda: (mirror / "refused").exists())
    rounds(mirror)
    tree = clone()
    assert {followed: read(tree, followed) for followed in ("main", "v1.0.0", good)} == dict.fromkeys(
        ("main", "v1.0.0", good), good
    )
    shutil.move(tmp_path / "away", origin)
    point(origin, "refs/heads/main", instead := orphan(origin, "instead"))
    eventually(lambda: tip(mirror, "refs/heads/main") == instead)
    assert tip(mirror, f"refs/tags/kept/{good}") == good


def test_what_was_fetched_and_not_yet_served_is_not_shown(start: Start, origin: Path, mirror: Path) -> None:
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") != "")
    shown = {line.split()[1] for line in git(mirror, "ls-remote", f"file://{mirror}").splitlines()}
    assert shown == {"HEAD", "refs/heads/main"}


def test_nothing_that_was_served_is_lost_when_git_tidies_up(
    start: Start, origin: Path, mirror: Path, clone: Callable[[], Path]
) -> None:
    start()
    dropped = commit(origin, "to be dropped")
    git(origin, "branch", "x", fallen := orphan(origin, "to fall"))
    eventually(lambda: tip(mirror, "refs/heads/main") == dropped and tip(mirror, "refs/heads/x") == fallen)
    git(origin, "reset", "--quiet", "--hard", "HEAD~1")
    git(origin, "branch", "--delete", "--force", "x")
    pushed = commit(origin, "instead")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    git(mirror, "gc", "--quiet")
    for known in (dropped, fallen):
        assert git(clone(), "cat-file", "-t", known) == "commit"


def test_the_script_learns_what_the_dags_follow_without_a_restart(render: Render) -> None:
    def found(**bundle: str) -> tuple[str, object]:
        rendered = render("airflow-platform", {"global": {"dagBundle": bundle}}, "prod")
        told = rendered.one("ConfigMap", "airflow-git-mirror")["data"]["tracking-ref"]
        return told, rendered.one("StatefulSet", "airflow-git-mirror")

    (first, mirror), (second, same) = found(trackingRef="v1.0.0"), found(trackingRef="v1.1.0")
    assert (first, second) == ("v1.0.0", "v1.1.0")
    assert mirror == same
    assert found(kind="s3", uri="s3://lake/dags", trackingRef="v1.0.0")[0] == ""


SERVE = ROOT / "charts/platform/files/scripts/git_mirror_serve.py"


@pytest.fixture
def daemon(start: Start, mirror: Path, tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process that serves the mirror, as the container `serve` runs it, with a first copy."""
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") != "")
    daemon = subprocess.Popen([sys.executable, SERVE, str(tmp_path), str(port)], start_new_session=True)
    eventually(lambda: answers(port))
    yield daemon
    end(daemon)


def test_the_container_serves_what_the_bundle_asks_for(environment: Rendered) -> None:
    pod = environment.one("StatefulSet", "airflow-git-mirror")["spec"]["template"]["spec"]
    serve, _ = pod["containers"]
    assert serve["command"][3].endswith(SERVE.name)
    assert serve["command"][4:] == ["/git", "9418"]
    assert {"name": "script", "mountPath": "/etc/git-mirror", "readOnly": True} in serve["volumeMounts"]
    assert SERVE.name in environment.one("ConfigMap", "airflow-git-mirror")["data"]
    assert serve["livenessProbe"]["tcpSocket"] == {"port": "git"}


def test_a_probe_costs_a_connection_and_the_mirror_serves_on(
    daemon: subprocess.Popen[bytes], tmp_path: Path, port: int
) -> None:
    assert all(answers(port) for _ in range(20))
    assert "refs/heads/main" in git(tmp_path, "ls-remote", f"git://127.0.0.1:{port}/mirror.git")
    end(daemon)
    eventually(lambda: not answers(port))


def test_nothing_can_be_pushed_and_nothing_else_is_read(
    daemon: subprocess.Popen[bytes], origin: Path, tmp_path: Path, port: int
) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "beside/other.git")
    pushed = subprocess.run(
        ["git", "push", f"git://127.0.0.1:{port}/mirror.git", "HEAD:refs/heads/x"], cwd=origin, check=False
    )
    outside = subprocess.run(
        ["git", "ls-remote", f"git://127.0.0.1:{port}/../{origin.name}"], cwd=tmp_path, check=False
    )
    assert pushed.returncode != 0
    assert outside.returncode != 0


def test_as_many_tasks_may_start_at_once_as_a_cluster_can(
    daemon: subprocess.Popen[bytes], tmp_path: Path, port: int
) -> None:
    """While the process has no CPU, connections wait in the kernel: `git daemon` lets five of them."""
    daemon.send_signal(signal.SIGSTOP)
    try:
        waiting = [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(100)]
    finally:
        daemon.send_signal(signal.SIGCONT)
    for each in waiting:
        each.close()
    assert "refs/heads/main" in git(tmp_path, "ls-remote", f"git://127.0.0.1:{port}/mirror.git")


def answers(port: int) -> bool:
    """What the kubelet looks at with a `tcpSocket`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        return False
    return True


def test_many_clones_at_once_have_memory(environment: Rendered) -> None:
    serve, _ = environment.one("StatefulSet", "airflow-git-mirror")["spec"]["template"]["spec"]["containers"]
    assert serve["resources"]["limits"]["memory"] == "1Gi"


LAST_FETCH, REFUSED = "airflow_git_mirror_last_fetch_timestamp_seconds", "airflow_git_mirror_refused_refs"


def scraped(port: int) -> dict[str, float]:
    """What Prometheus reads there; nothing while nobody answers."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    except httpx.TransportError:
        return {}
    assert answer.is_success
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {sample.name: sample.value for family in families for sample in family.samples}


@pytest.fixture
def port() -> int:
    (port,) = free_ports(1)
    return port


def test_prometheus_reads_when_it_last_fetched_and_what_it_refuses(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, port: int
) -> None:
    began = time.time()
    start(metrics=str(port))
    eventually(lambda: LAST_FETCH in scraped(port))
    first = scraped(port)
    assert began - 1 < first[LAST_FETCH] < time.time() + 1
    assert first[REFUSED] == 0
    git(origin, "tag", "kept/x")
    git(origin, "branch", "v1.0.0")
    eventually(lambda: scraped(port)[REFUSED] == 2)
    eventually(lambda: scraped(port)[LAST_FETCH] > first[LAST_FETCH])
    shutil.move(origin, tmp_path / "away")
    rounds(mirror)
    before = scraped(port)
    rounds(mirror)
    assert scraped(port)[LAST_FETCH] == before[LAST_FETCH], "the origin does not answer"


def test_a_mirror_that_has_fetched_nothing_yet_has_no_time_of_a_fetch(
    start: Start, origin: Path, mirror: Path, tmp_path: Path, port: int
) -> None:
    shutil.move(origin, tmp_path / "away")
    start(metrics=str(port))
    eventually(lambda: scraped(port) != {})
    rounds(mirror)
    assert scraped(port) == {REFUSED: 0}
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 404


def test_an_exporter_that_dies_is_started_again_and_the_mirror_goes_on(
    start: Start, origin: Path, mirror: Path, port: int
) -> None:
    process = start(metrics=str(port))
    eventually(lambda: LAST_FETCH in scraped(port))
    command = ["pgrep", "--parent", str(process.pid), "--full", "git_mirror_exporter"]
    (exporter,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(exporter), signal.SIGKILL)
    pushed = commit(origin, "second")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    eventually(lambda: LAST_FETCH in scraped(port))


def test_a_mirror_that_nobody_watches_serves_no_metrics(start: Start, mirror: Path) -> None:
    process = start()
    eventually(lambda: tip(mirror, "refs/heads/main") != "")
    rounds(mirror)
    command = ["pgrep", "--parent", str(process.pid), "--full", "git_mirror_exporter"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
