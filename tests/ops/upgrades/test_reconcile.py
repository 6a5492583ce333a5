"""What the Job after a sync does; the cluster is a fake, tests/e2e/test_argocd.py has a real one."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from airflow_ops.colours.record import Phase, Record, Side
from airflow_ops.console import fail
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import reconcile
from support.command_line import airflow_ops

SIDES = [Side(colour=colour, version="3.3.2", image="airflow:1", replicas={}) for colour in Colour]


def record(phase: Phase, digest: str = "ours") -> Record:
    return Record(
        id="1",
        phase=phase,
        source=SIDES[0],
        target=SIDES[1],
        digest="of another platform",
        colour_digest=digest,
        reason="the canary failed",
    )


class Fake:
    """An environment whose commit has the digest `ours`.

    Attributes:
        done: What was done to it.
        record: Its last upgrade.
        is_installed: Whether Airflow was installed.
        live: The colour that users reach.
        changes: Whether the commit says something else than a colour has.
        values: Those of the commit that are looked at.
        serving: The colours that have API servers.
        is_healthy: Whether what works is healthy.
        installed: The version that is installed.
        is_migrated: Whether the image needs no migration.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.record: Record | None = None
        self.is_installed = True
        self.live = Colour.BLUE
        self.changes = {Colour.BLUE: True, Colour.GREEN: True}
        self.values = {
            "global": {"activeColour": "blue", "airflowVersion": "3.3.2"},
            "platform": {"operations": {"promotion": "manual"}},
        }
        self.serving = [Colour.BLUE, Colour.GREEN]
        self.is_healthy = True
        self.installed, self.is_migrated = "3.3.2", True
        environment = SimpleNamespace(name="dev", values=self.values, active_colour_key="key")
        self.cluster = SimpleNamespace(environment=environment)
        put = monkeypatch.setattr
        put(reconcile, "connect", self.connect)
        put(reconcile.lease, "hold", lambda *_: nullcontext(SimpleNamespace(lost="")))
        put(reconcile.live, "live_colour", lambda _: self.live)
        put(reconcile.helm, "was_installed", lambda *_: self.is_installed)
        put(reconcile.helm, "install", lambda _, release, __: self.done.append(f"install {release.name}"))
        put(reconcile.smoke, "check", lambda _: self.done.append("smoke"))
        put(reconcile.deployment_preflight, "check_files", lambda *_: [])
        put(reconcile.deployment_preflight, "check_cluster", lambda *_: SimpleNamespace(is_migrated=self.is_migrated))
        put(reconcile, "RecordStore", lambda _: SimpleNamespace(read=lambda: self.record))
        put(reconcile.preflight, "active", lambda _: self.live)
        put(reconcile.preflight, "changes_nothing", lambda _, colour: not self.changes[colour])
        put(reconcile.preflight, "wanted", lambda *_: "ours")
        put(reconcile.live, "digest", lambda manifests: manifests)
        put(reconcile.live, "deployments", lambda _, colour: self.deployments(colour))
        put(reconcile.live, "point", lambda _, services, colour: self.point(services, colour))
        put(reconcile.live, "installed_version", lambda *_: self.installed)
        put(reconcile.preflight, "check_health", self.check_health)
        put(reconcile.command, "begin", self.begin)
        put(reconcile.command, "go_forward", self.go_forward)
        put(reconcile.command, "go_back", self.go_back)
        put(reconcile.command, "finalize", self.finalize)

    def connect(self, environment: Environment) -> SimpleNamespace:
        if environment.active_colour:
            self.values["global"]["activeColour"] = environment.active_colour
        return self.cluster

    def deployments(self, colour: Colour) -> dict[str, object]:
        return {"api-server": SimpleNamespace(spec=SimpleNamespace(replicas=int(colour in self.serving)))}

    def point(self, services: list[str], colour: Colour) -> None:
        assert services == ["airflow", "airflow-exec-blue", "airflow-exec-green"]
        self.done.append(f"lead users to {colour}")
        self.live = colour

    def check_health(self, _: object) -> None:
        if not self.is_healthy:
            raise fail("scheduler of dev is not healthy.", "Correct that first.")

    def begin(self, *_: object) -> Record:
        self.record = record(Phase.UPGRADING)
        return self.record

    def go_forward(self, _cluster: object, _store: object, found: Record, _holding: object) -> None:
        self.done.append("upgrade")
        found.phase = Phase.SOAKING

    def go_back(self, _cluster: object, _store: object, found: Record) -> None:
        self.done.append("roll back")
        found.phase = Phase.ROLLED_BACK

    def finalize(self, _cluster: object, _store: object, _record: Record, *, brings_platform: bool) -> None:
        assert not brings_platform, "Argo CD brings it"
        self.done.append("promote")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


def test_where_there_is_no_airflow_one_is_installed(fake: Fake) -> None:
    fake.is_installed = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["install airflow-blue", "smoke"]


def test_a_commit_that_changes_nothing_does_nothing(fake: Fake) -> None:
    fake.record = record(Phase.PROMOTED)
    fake.changes[Colour.BLUE] = False
    done = airflow_ops("reconcile", "dev")
    assert done.returncode == 0
    assert "nothing to upgrade" in done.stdout
    assert fake.done == []


@pytest.mark.parametrize("before", [None, record(Phase.PROMOTED), record(Phase.ROLLED_BACK, "theirs")])
def test_a_change_is_an_upgrade_that_soaks(fake: Fake, before: Record | None) -> None:
    fake.record = before
    done = airflow_ops("reconcile", "dev")
    assert done.returncode == 0, done.stderr
    assert fake.done == ["upgrade"]
    assert "To promote it, commit green as the key" in " ".join(done.stdout.split())


def test_an_upgrade_that_was_cut_off_continues(fake: Fake) -> None:
    fake.record = record(Phase.UPGRADING)
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["upgrade"]


def test_it_is_promoted_at_once_where_that_is_wanted(fake: Fake) -> None:
    fake.values["platform"]["operations"]["promotion"] = "automatic"
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["upgrade", "promote"]


def test_a_commit_of_the_active_colour_promotes_what_soaks(fake: Fake) -> None:
    fake.record = record(Phase.SOAKING)
    fake.live = Colour.GREEN
    assert airflow_ops("reconcile", "dev", "--active-colour", "green").returncode == 0
    assert fake.done == ["promote"]


def test_another_commit_lets_it_soak(fake: Fake) -> None:
    fake.record = record(Phase.SOAKING)
    fake.live = Colour.GREEN
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == []


def test_a_commit_that_reverts_rolls_it_back(fake: Fake) -> None:
    fake.record = record(Phase.SOAKING, "theirs")
    fake.live = Colour.GREEN
    fake.changes[Colour.BLUE] = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["roll back"]


def test_a_third_state_beside_one_that_soaks_is_refused(fake: Fake) -> None:
    fake.record = record(Phase.SOAKING, "theirs")
    fake.live = Colour.GREEN
    refused = airflow_ops("reconcile", "dev")
    assert refused.returncode == 2
    assert "is soaking, and this commit says something else again" in " ".join(refused.stderr.split())
    assert fake.done == []


def test_an_upgrade_to_an_earlier_commit_that_was_cut_off_goes_back_first(fake: Fake) -> None:
    fake.record = record(Phase.UPGRADING, "theirs")
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["roll back", "upgrade"]


def test_a_commit_that_changes_nothing_may_name_any_colour(fake: Fake) -> None:
    """Somebody has promoted by hand, and has not committed the colour yet."""
    fake.record = record(Phase.PROMOTED)
    fake.changes[Colour.BLUE] = False
    fake.values["global"]["activeColour"] = "green"
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == []


def test_before_the_first_upgrade_the_canary_is_run_again(fake: Fake) -> None:
    """That of the first install may have failed, and a second sync must not hide it."""
    fake.changes[Colour.BLUE] = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["smoke"]


def test_what_is_ill_is_corrected_where_it_is(fake: Fake) -> None:
    fake.is_healthy = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["install airflow-blue", "smoke"]


@pytest.mark.parametrize("change", [{"installed": "3.2.2"}, {"is_migrated": False}], ids=str)
def test_but_not_by_another_version(fake: Fake, change: dict[str, object]) -> None:
    fake.is_healthy = False
    for name, value in change.items():
        setattr(fake, name, value)
    refused = airflow_ops("reconcile", "dev")
    assert refused.returncode == 1
    assert "scheduler of dev is not healthy" in refused.stderr
    assert fake.done == []


def test_users_are_led_to_the_colour_that_works(fake: Fake) -> None:
    """Argo CD makes a Service that was deleted as the values say: they may name the other colour."""
    fake.record = record(Phase.PROMOTED)
    fake.serving = [Colour.GREEN]
    fake.changes[Colour.GREEN] = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["lead users to green"]


def test_while_an_upgrade_soaks_that_is_its_colour(fake: Fake) -> None:
    fake.record = record(Phase.SOAKING)
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["lead users to green"]


def test_a_rollback_that_was_cut_off_ends_before_anything_begins(fake: Fake) -> None:
    fake.record = record(Phase.ROLLING_BACK, "theirs")
    fake.changes[Colour.BLUE] = False
    assert airflow_ops("reconcile", "dev").returncode == 0
    assert fake.done == ["roll back"]


def test_what_was_rolled_back_is_not_begun_again(fake: Fake) -> None:
    fake.record = record(Phase.ROLLED_BACK)
    refused = airflow_ops("reconcile", "dev")
    assert refused.returncode == 2
    assert "was rolled back: the canary failed" in " ".join(refused.stderr.split())
    assert fake.done == []


def test_a_commit_that_names_the_other_colour_is_refused(fake: Fake) -> None:
    """It would promote the next upgrade before anybody has seen it."""
    fake.values["global"]["activeColour"] = "green"
    refused = airflow_ops("reconcile", "dev")
    assert refused.returncode == 2
    assert "users reach blue, but the active colour is green" in " ".join(refused.stderr.split())
    assert fake.done == []
