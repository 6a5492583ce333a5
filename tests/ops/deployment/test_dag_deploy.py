"""When `deploy-dags` publishes, and when it takes DAGs back; tests/e2e/test_dag_deploy.py does it on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from airflow_client.client.exceptions import ApiException

from airflow_ops.commits import commit_of
from airflow_ops.console import ProblemError, fail
from airflow_ops.deployment import dag_deploy, dag_push
from airflow_ops.deployment.smoke import CANARY
from support.command_line import airflow_ops

HEAD = commit_of("HEAD")
FORMER = "f" * 40


class Fake:
    """An environment that follows a branch.

    Attributes:
        branch: The commit of the branch.
        moves: Every commit that it was moved to.
        serves: Whether Airflow follows the branch.
        errors: The DAG files that cannot be imported at HEAD.
        canary: Why the canary fails.
        moved_to: Where somebody else moves the branch meanwhile.
        violations: Rules that HEAD breaks.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.branch = FORMER
        self.moves: list[str] = []
        self.serves = True
        self.errors: list[str] = []
        self.canary: BaseException | None = None
        self.moved_to = ""
        self.violations: list[str] = []
        cluster = SimpleNamespace(environment=SimpleNamespace(name="dev"))
        found = SimpleNamespace(violations=self.violations, dags=[SimpleNamespace(dag_id=CANARY)])
        put = monkeypatch.setattr
        put(dag_deploy, "connect", lambda _: cluster)
        put(dag_deploy.lease, "hold", lambda *_: nullcontext())
        put(dag_deploy, "inspect_bundle", lambda *_, **__: found)
        put(dag_deploy.airflow_api, "login", self.login)
        put(dag_deploy.airflow_api, "files_with_errors", lambda _: self.errors if self.branch == HEAD else [])
        put(dag_deploy.dag_push, "published", lambda _: self.branch)
        put(dag_deploy.dag_push, "publish", self.publish)
        put(dag_deploy.dag_push, "fetch", lambda *_: None)
        put(dag_deploy.smoke, "check", self.smoke)
        put(dag_deploy, "behind", lambda _, commit, expected: [] if self.serves and self.branch == commit else expected)
        put(dag_deploy, "SERVED_SECONDS", 0.1)

    @contextmanager
    def login(self, _: object) -> Iterator[None]:
        yield

    def publish(self, _: object, commit: str, former: str) -> None:
        assert self.branch == former
        self.branch = commit
        self.moves.append(commit)

    def smoke(self, _: object) -> None:
        self.branch = self.moved_to or self.branch
        if self.canary:
            raise self.canary


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


def test_dags_that_work_stay(fake: Fake) -> None:
    done = airflow_ops("deploy-dags", "dev")
    assert done.returncode == 0, done.stderr
    assert fake.moves == [HEAD]
    assert f"1 DAG of {HEAD[:12]} are verified" in " ".join(done.stdout.split())


def test_what_is_published_already_is_verified_and_not_published_again(fake: Fake) -> None:
    """An earlier command may have been killed between its push and its checks."""
    fake.branch = HEAD
    assert airflow_ops("deploy-dags", "dev").returncode == 0
    fake.canary = fail("the canary failed.", "Look.")
    assert airflow_ops("deploy-dags", "dev").returncode == 1
    assert fake.moves == [], "there is nothing to take back"


def test_a_dag_that_breaks_a_rule_is_not_published(fake: Fake) -> None:
    fake.violations.append("flights/broken.py:1: does not import")
    refused = airflow_ops("deploy-dags", "dev")
    assert refused.returncode == 2
    assert "dags/flights/broken.py:1: does not import" in refused.stderr
    assert fake.moves == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"errors": ["platform:a.py"]}, "platform:a.py cannot be imported there"),
        ({"canary": fail("the canary failed.", "Look.")}, "the canary failed"),
        ({"serves": False}, f"{CANARY} did not come from {HEAD[:12]} in 0.1 s"),
    ],
)
def test_dags_that_do_not_work_are_taken_back(fake: Fake, change: dict[str, object], complaint: str) -> None:
    for name, value in change.items():
        setattr(fake, name, value)
    done = airflow_ops("deploy-dags", "dev")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert complaint in said
    assert "ffffffffffff is published again" in said
    assert fake.moves == [HEAD, FORMER]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ApiException(status=503)], ids=repr)
def test_so_are_those_of_a_command_that_ends_otherwise(fake: Fake, error: BaseException) -> None:
    fake.canary = error
    assert airflow_ops("deploy-dags", "dev").returncode != 0
    assert fake.moves == [HEAD, FORMER]


def test_a_branch_that_somebody_has_moved_meanwhile_is_left_alone(fake: Fake) -> None:
    fake.moved_to = "a" * 40
    fake.canary = fail("the canary failed.", "Look.")
    assert airflow_ops("deploy-dags", "dev").returncode == 1
    assert fake.moves == [HEAD]


def test_errors_from_before_are_no_reason(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_deploy.airflow_api, "files_with_errors", lambda _: ["platform:old.py"])
    assert airflow_ops("deploy-dags", "dev").returncode == 0
    assert fake.moves == [HEAD]


def test_an_unknown_ref_is_refused(fake: Fake) -> None:
    refused = airflow_ops("deploy-dags", "dev", "no-such-ref")
    assert refused.returncode == 1
    assert "no-such-ref" in refused.stderr
    assert fake.moves == []


def git_answers(monkeypatch: pytest.MonkeyPatch, code: int, output: str) -> SimpleNamespace:
    answer = SimpleNamespace(returncode=code, stdout=output, stderr="refused")
    monkeypatch.setattr(dag_push.programs, "run", lambda *_, **__: answer)
    values = {
        "global": {"dagBundle": {"trackingRef": "v0.1.0"}},
        "platform": {"gitOrigin": {"enabled": False}, "gitMirror": {"origin": "ssh://git@example.com/dags.git"}},
    }
    return SimpleNamespace(environment=SimpleNamespace(name="prod", values=values))


def test_an_environment_that_follows_a_tag_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProblemError, match="prod follows v0.1.0, which is no branch"):
        dag_push.published(git_answers(monkeypatch, 0, ""))


def test_a_repository_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProblemError, match="cannot be read"):
        dag_push.published(git_answers(monkeypatch, 128, ""))
    with pytest.raises(ProblemError, match="could not be moved"):
        dag_push.publish(git_answers(monkeypatch, 1, ""), HEAD, FORMER)


def test_without_the_present_dags_there_is_no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProblemError, match="cannot be fetched"):
        dag_push.fetch(git_answers(monkeypatch, 1, ""), FORMER)
