"""From Airflow 3.2.2 to 3.3.2, whose schema is another one, and back, under every kind of task: nobody notices.

Not part of `make e2e`: it deletes dev and takes a quarter of an hour (make e2e-upgrade).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase, State
from airflow_ops.console import TRY_AGAIN, ProblemError
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades.migration import execute
from support.failing_command import SAID
from support.former_version import BOTH_VERSIONS, deployed_anew
from support.ledger import DAG, TICK, check_ledger, ledger, push_dags, start, ticking
from support.live_environment import DagRepository, ops, target, wait_for
from support.upgrades import check_requests, end_runs, failing_at, go_back, kill_in, record, report, run_with

pytestmark = pytest.mark.upgrade_faults


@pytest.fixture(scope="module")
def former(connected: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, DagRepository]]:
    folder = tmp_path_factory.mktemp("dags") / "repository"
    with deployed_anew(connected.environment.overlays, folder) as found:
        yield found


@pytest.fixture
def cluster(connected: Cluster, former: tuple[Cluster, DagRepository]) -> Cluster:
    """The environment with the newer version, to which it is upgraded."""
    return connected


@pytest.fixture
def dags(former: tuple[Cluster, DagRepository]) -> DagRepository:
    return former[1]


def upgrade_command(cluster: Cluster) -> list[str]:
    return ["upgrade", *target(cluster), "--to", version_of(cluster)]


def version_of(cluster: Cluster) -> str:
    return str(cluster.environment.values["global"]["airflowVersion"])


def column_default(cluster: Cluster) -> object:
    query = "SELECT column_default FROM information_schema.columns WHERE column_name = 'partition_mapper_info'"
    return execute(cluster, [query])[0][0][0]


FORMER_REVISION = "1d6611b6ab7c"
"""Of the schema of Airflow 3.2.2."""
ONLY_FORMER = """
from airflow import __version__
if not __version__.startswith("3.2."):
    raise ImportError("made for Airflow 3.2")
# The DAG processor reads a file only if it names a dag.
"""


@contextmanager
def transaction_on(cluster: Cluster, table: str) -> Iterator[None]:
    """Somebody reads a table and does not end."""
    statement = f"SELECT pg_sleep(900) FROM {table} LIMIT 1 -- e2e"  # noqa: S608 our own table
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%-- e2e' AND pid <> pg_backend_pid()"
    )

    def read() -> None:
        with suppress(ProblemError):
            execute(cluster, [statement])

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    is_read = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND mode = 'AccessShareLock'"  # noqa: S608 as above
    wait_for("the lock", lambda: execute(cluster, [is_read])[0][0][0], 60)
    try:
        yield
    finally:
        execute(cluster, [end])
        thread.join(60)


@pytest.mark.parametrize("state", [State.SNAPSHOT, State.REHEARSE])
def test_a_state_that_fails_before_anything_changed_ends_it(
    state: State, cluster: Cluster, former: tuple[Cluster, DagRepository]
) -> None:
    code, said = run_with({}, *upgrade_command(cluster), program=failing_at(state))
    assert code == 1, said
    assert f"the upgrade ended before it changed anything: {state} {SAID}" in said
    assert record(cluster).phase is Phase.ROLLED_BACK
    assert not live.deployments(cluster, Colour.GREEN)
    assert execute(cluster, ["SELECT version_num FROM alembic_version"]) == [[[FORMER_REVISION]]]


def test_a_lock_that_somebody_holds_leads_back(cluster: Cluster, former: tuple[Cluster, DagRepository]) -> None:
    with transaction_on(cluster, "dag"):
        code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1
    assert "did not get its locks in 10 tries" in said, said
    assert live.live_colour(cluster) is Colour.BLUE
    check_requests(record(cluster))
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr


def test_a_migration_and_its_rollback_lose_nothing(
    cluster: Cluster,
    dags: DagRepository,
    capsys: pytest.CaptureFixture[str],
    pytestconfig: pytest.Config,
) -> None:
    push_dags(cluster, dags, **BOTH_VERSIONS)
    first = start(cluster)
    with ticking(cluster) as ticks:
        for state, seconds in ((State.SNAPSHOT, 2), (State.REHEARSE, 15), (State.MIGRATE, 3)):
            kill_in(state, Colour.GREEN, seconds, *upgrade_command(cluster))
        code, said = run_with({}, *upgrade_command(cluster))
    assert code == 0, said
    assert live.live_colour(cluster) is Colour.GREEN
    assert record(cluster).migrates
    check_requests(record(cluster))
    forward = ticks.runs

    second = start(cluster)
    with ticking(cluster) as ticks:
        early = ops("rollback", *target(cluster))
    assert early.returncode == TRY_AGAIN, early.stdout + early.stderr
    assert "still run and need its API server" in " ".join(early.stderr.split())
    assert live.live_colour(cluster) is Colour.BLUE
    check_requests(record(cluster))

    end_runs(cluster, {DAG: [first, second], TICK: [*forward, *ticks.runs]})
    go_back(cluster)
    assert record(cluster).phase is Phase.ROLLED_BACK
    rows = ledger(cluster)
    check_ledger(rows, [first, second])
    with capsys.disabled():
        report(record(cluster), rows, forward, ticks.runs)
    if pytestconfig.getoption("--add-rehearsal"):
        added = ops("compatibility", "--add", *target(cluster))
        assert added.returncode == 0, added.stderr


def test_a_dag_that_the_newer_version_cannot_import_leads_back(cluster: Cluster, dags: DagRepository) -> None:
    dags.push({"dags/platform/e2e_only_former.py": ONLY_FORMER})
    code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1
    assert "green cannot import DAG files that blue can: platform:platform/e2e_only_former.py: ImportError" in said, (
        said
    )
    assert not record(cluster).is_done(State.SWITCH, Colour.GREEN), "users were never led there"
    assert live.live_colour(cluster) is Colour.BLUE
    assert record(cluster).is_done(State.FINALIZE, Colour.BLUE)
    check_requests(record(cluster))
    dags.push({"dags/platform/e2e_only_former.py": None})
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr


def test_it_goes_forward_again_and_stays_there(cluster: Cluster, former: tuple[Cluster, DagRepository]) -> None:
    assert column_default(cluster) is not None
    code, said = run_with({}, *upgrade_command(cluster))
    assert code == 0, said
    assert not record(cluster).migrates, "the schema is there already"
    promoted = ops("promote", *target(cluster))
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    assert column_default(cluster) is None
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    version = version_of(former[0])
    refused = ops("upgrade", *target(former[0]), "--to", version)
    assert refused.returncode == 2
    assert "has a newer schema than Airflow 3.2.2" in " ".join(refused.stderr.split())


def test_after_a_promotion_a_restore_brings_the_former_version_back(
    cluster: Cluster, former: tuple[Cluster, DagRepository]
) -> None:
    earlier, dags = former
    listed = json.loads(ops("backup", *target(cluster), "--list", "--json").stdout)
    backup = next(each["name"] for each in listed if each["name"].endswith(FORMER_REVISION))
    environment, *overlays = [*target(earlier), "--overlay", "e2e-green"]
    done = ops("restore", environment, backup, *overlays, "--discard-newer-runs")
    # It pushes the DAGs of this repository, whose canary the former version cannot import.
    assert done.returncode == 0 or "platform_run_canary" in done.stderr, done.stdout + done.stderr
    dags.push(BOTH_VERSIONS)
    with earlier.forward("airflow", 8080) as url:
        assert httpx.get(f"{url}/api/v2/version", timeout=30).json()["version"] == version_of(earlier)
    smoke = ops("smoke", environment, *overlays)
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
