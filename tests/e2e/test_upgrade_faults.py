"""Something fails in the middle of an upgrade: the platform ends on a colour that works, tells so, and nothing is lost.

Not part of `make e2e`: it takes an hour (make e2e-upgrade). Each test prints a line of the table of faults.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase, State
from airflow_ops.console import TRY_AGAIN
from airflow_ops.deployment.smoke import CANARY
from airflow_ops.manifests.objects import Colour
from airflow_ops.paths import ROOT
from airflow_ops.rotation import jwt
from airflow_ops.upgrades.steps import BACK, FORWARD
from support.failing_command import SAID
from support.ledger import DAG, TICK, check_ledger, ledger, push_dags, start, ticking
from support.live_environment import Airflow, DagRepository, ops, target, wait_for
from support.operations_image import load_operations_image
from support.upgrades import (
    check_requests,
    end_everything,
    end_runs,
    failing_at,
    go_back,
    kill_in,
    kill_in_each,
    print_fault,
    record,
    run_with,
)

NO_ROOM = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "e2e-no-room"},
    "spec": {
        "hard": {"pods": "0"},
        "scopeSelector": {
            "matchExpressions": [{"operator": "In", "scopeName": "PriorityClass", "values": ["airflow-worker"]}]
        },
    },
}
pytestmark = pytest.mark.upgrade_faults


def upgrade_command(cluster: Cluster) -> list[str]:
    """An upgrade of configuration only."""
    version = cluster.environment.values["global"]["airflowVersion"]
    return ["upgrade", *target(cluster), "--overlay", "e2e-upgrade", "--to", version]


@pytest.fixture
def outcome(cluster: Cluster, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what came of a test as a line of the table of faults, and leave nothing to the next one."""
    yield
    with capsys.disabled():
        print_fault(request.node.name, record(cluster))
    end_everything(cluster)


@pytest.mark.parametrize("seconds", [0, 2.5])
def test_a_command_that_is_killed_in_each_state_continues(
    seconds: float, cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    first = start(cluster)
    with ticking(cluster) as ticks:
        code, said = kill_in_each(FORWARD, Colour.GREEN, seconds, *upgrade_command(cluster))
    assert code == 0, said
    forward = ticks.runs
    assert live.live_colour(cluster) is Colour.GREEN
    assert record(cluster).phase is Phase.SOAKING
    second = start(cluster)
    with ticking(cluster) as ticks:
        code, said = kill_in_each(BACK, Colour.BLUE, seconds, "rollback", *target(cluster))
    assert (code, "still run and need its API server" in said) == (TRY_AGAIN, True), said
    assert live.live_colour(cluster) is Colour.BLUE
    end_runs(cluster, {DAG: [first, second], TICK: [*forward, *ticks.runs]})
    go_back(cluster)
    check_ledger(ledger(cluster), [first, second])


@pytest.mark.parametrize("state", [State.PREPARE, State.WARM, State.SWITCH, State.QUIESCE, State.HANDOVER])
def test_a_state_that_fails_leads_back(
    state: State, cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    run = start(cluster)
    with ticking(cluster) as ticks:
        code, said = run_with({}, *upgrade_command(cluster), program=failing_at(state))
    assert code == 1, said
    assert f"{state} {SAID}" in said
    assert live.live_colour(cluster) is Colour.BLUE
    check_requests(record(cluster))
    end_runs(cluster, {DAG: [run], TICK: ticks.runs})
    go_back(cluster)
    check_ledger(ledger(cluster), [run])


def test_a_candidate_that_cannot_start_leads_back(
    cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    run = start(cluster)
    kill_in(State.WARM, Colour.GREEN, 0, *upgrade_command(cluster))
    scheduler = live.deployment_name(Colour.GREEN, "scheduler")
    ends = {"name": "scheduler", "command": ["sh", "-c", "echo cannot start >&2; exit 1"], "args": []}
    cluster.apps.patch_namespaced_deployment(
        scheduler, cluster.namespace, {"spec": {"template": {"spec": {"containers": [ends]}}}}
    )
    code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1, said
    assert f"{scheduler} has not imported Airflow" in said
    assert "cannot start" in said, "the pod's own words"
    assert not record(cluster).is_done(State.SWITCH, Colour.GREEN), "users were never led there"
    check_requests(record(cluster))
    end_runs(cluster, {DAG: [run]})
    go_back(cluster)
    check_ledger(ledger(cluster), [run])


@pytest.mark.parametrize("how", [[], ["--grace-period=0", "--force"]], ids=["drained", "lost"])
def test_a_job_in_the_cluster_whose_pod_is_gone_goes_on(
    how: list[str], cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    load_operations_image(cluster)
    run = start(cluster)

    def delete() -> None:
        running = ["--field-selector", "status.phase=Running", "--selector", "app.kubernetes.io/component=operations"]
        cluster.kubectl("delete", "pod", *running, "--wait=false", *how)

    code, said = run_with({"WARM (green)": delete}, *upgrade_command(cluster), "--in-cluster")
    assert code == 0, said
    assert "continues the upgrade" in said
    check_requests(record(cluster))
    end_runs(cluster, {DAG: [run]})
    go_back(cluster)
    check_ledger(ledger(cluster), [run])


@pytest.mark.parametrize("colour", list(Colour))
def test_an_api_server_that_is_killed(
    colour: Colour, cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    run = start(cluster)

    def kill() -> None:
        pods = [pod.metadata.name for pod in live.pods(cluster, colour, live.API_SERVER)]
        cluster.kubectl("delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false")

    code, said = run_with({"HANDOVER (green)": kill}, *upgrade_command(cluster))
    # With one API server users notice; more than a hundredth of their requests fail, and it goes back.
    assert (code, record(cluster).phase) in ((0, Phase.SOAKING), (1, Phase.ROLLED_BACK), (1, Phase.ROLLING_BACK)), said
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    end_runs(cluster, {DAG: [run]})
    go_back(cluster)
    check_ledger(ledger(cluster), [run])


def test_a_canary_that_fails_leads_back(cluster: Cluster, dag_repository: DagRepository, outcome: None) -> None:
    path = f"dags/platform/{CANARY}.py"
    text = (ROOT / path).read_text()
    commit = dag_repository.push({path: text.replace('if plain != "ran":', "if True:")})
    with login(cluster) as client:
        wait_for("the broken canary", lambda: Airflow(client, cluster).serves(CANARY, commit), 120)
    code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1
    assert "rolled back, because the canary's run" in said, said
    commit = dag_repository.push({path: text})
    with login(cluster) as client:
        wait_for("the canary", lambda: Airflow(client, cluster).serves(CANARY, commit), 120)
    go_back(cluster)


def test_a_queue_without_room_runs_later(cluster: Cluster, dag_repository: DagRepository, outcome: None) -> None:
    push_dags(cluster, dag_repository)

    def end_room() -> None:
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(NO_ROOM))
        with login(cluster) as client:
            airflow = Airflow(client, cluster)
            runs.extend(airflow.trigger(TICK) for _ in range(3))
            wait_for("a queued task", lambda: airflow.task_state(TICK, runs[-1], "tick") == "queued")

    def give_room() -> None:
        cluster.kubectl("delete", "resourcequota", "e2e-no-room")

    runs: list[str] = []
    try:
        code, said = run_with({"WARM (green)": end_room, "ok HANDOVER": give_room}, *upgrade_command(cluster))
    finally:
        cluster.kubectl("delete", "resourcequota", "e2e-no-room", "--ignore-not-found")
    assert code == 0, said
    assert "queued again later" in said
    end_runs(cluster, {TICK: runs})
    starts = [row for row in ledger(cluster) if row.run_id in runs and row.event == "start"]
    assert sorted(row.run_id for row in starts) == sorted(runs), "each ran once, if perhaps in its second try"
    go_back(cluster)


@contextmanager
def other_keys(cluster: Cluster) -> Iterator[None]:
    """Green, which is installed, does not trust the tokens of blue's users and tasks."""
    key = jwt.new_key()
    other = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "e2e-other-jwt"},
        "stringData": {"private-key": key, "jwks": jwt.trusted(key)},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(other))
    try:
        volumes = [{"name": "jwt", "secret": {"secretName": "e2e-other-jwt"}}]
        change = {"spec": {"template": {"spec": {"volumes": volumes}}}}
        for component in ("api-server", "scheduler"):
            name = live.deployment_name(Colour.GREEN, component)
            cluster.apps.patch_namespaced_deployment(name, cluster.namespace, change)
        live.wait_until_ready(cluster, Colour.GREEN, live.API_SERVER)
        yield
    finally:
        cluster.kubectl("delete", "secret", "e2e-other-jwt")


@pytest.mark.parametrize("state", [State.WARM, State.SWITCH])
def test_other_keys_are_seen_before_a_request_or_a_task_meets_them(
    state: State, cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    push_dags(cluster, dag_repository)
    run = start(cluster)
    kill_in(state, Colour.GREEN, 0, *upgrade_command(cluster))
    with other_keys(cluster):
        code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1
    assert "refuses a token that blue signed: status 40" in said, said
    assert not record(cluster).is_done(State.SWITCH, Colour.GREEN)
    check_requests(record(cluster))
    end_runs(cluster, {DAG: [run]})
    go_back(cluster)
    check_ledger(ledger(cluster), [run])


def test_keys_that_change_later_make_requests_fail_and_it_goes_back(
    cluster: Cluster, dag_repository: DagRepository, outcome: None
) -> None:
    """The negative control: what is counted turns red. Nothing but short tasks runs, since some of them fail."""
    push_dags(cluster, dag_repository)
    kill_in(State.QUIESCE, Colour.GREEN, 0, *upgrade_command(cluster))
    with other_keys(cluster):
        code, said = run_with({}, *upgrade_command(cluster))
    assert code == 1, said
    with pytest.raises(AssertionError, match="REST, logged in"):
        check_requests(record(cluster))
    assert any("status 403" in failure for probed in record(cluster).probed.values() for failure in probed.failures)
    go_back(cluster)
