"""An upgrade of configuration only, and its rollback, under every kind of task: nobody notices."""

import pytest

from airflow_ops import programs
from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase
from airflow_ops.manifests.objects import Colour
from support.ledger import DAG, TICK, check_ledger, ledger, push_dags, set_end, start, ticking
from support.live_environment import Airflow, DagRepository, ops, target, wait_for
from support.operations_image import load_operations_image
from support.upgrades import check_requests, record, report


@pytest.fixture(scope="module")
def dags(cluster: Cluster, dag_repository: DagRepository) -> None:
    push_dags(cluster, dag_repository)


def upgrade_arguments(cluster: Cluster) -> list[str]:
    return [*target(cluster), "--overlay", "e2e-upgrade"]


def test_an_upgrade_and_its_rollback_lose_nothing(
    cluster: Cluster, dags: None, capsys: pytest.CaptureFixture[str]
) -> None:
    version = cluster.environment.values["global"]["airflowVersion"]
    first = start(cluster)
    load_operations_image(cluster)
    with ticking(cluster) as ticks:
        # The way there by a Job in the cluster, the way back from here.
        upgraded = ops("upgrade", *upgrade_arguments(cluster), "--to", version, "--in-cluster")
    assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
    assert live.live_colour(cluster) is Colour.GREEN
    check_requests(record(cluster))
    forward = ticks.runs

    refused = ops("deploy", *target(cluster))
    assert refused.returncode == 2
    assert "is soaking" in refused.stderr

    second = start(cluster)
    assert [pod for pod in live.worker_pods(cluster, Colour.GREEN) if "run-long" in pod.metadata.name]
    with ticking(cluster) as ticks:
        early = ops("rollback", *target(cluster))
    assert early.returncode == 3, "green's API server stays for the task that green started"
    assert "still run and need its API server" in " ".join(early.stderr.split())
    assert live.live_colour(cluster) is Colour.BLUE
    check_requests(record(cluster))

    set_end(cluster, "yes")
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        for dag, runs in {DAG: [first, second], TICK: [*forward, *ticks.runs]}.items():
            for run in runs:
                assert airflow.wait_for_end(dag, run) == "success", (dag, run)
    wait_for("the end of green's pods", lambda: not live.worker_pods(cluster, Colour.GREEN), 120)
    rolled_back = ops("rollback", *target(cluster))
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert record(cluster).phase is Phase.ROLLED_BACK
    assert all(each.spec.replicas == 0 for each in live.deployments(cluster, Colour.GREEN).values())

    rows = ledger(cluster)
    check_ledger(rows, [first, second])
    with capsys.disabled():
        report(record(cluster), rows, forward, ticks.runs)
    clean = ops("diff", *target(cluster), "--live")
    assert clean.returncode == 0, clean.stdout


@pytest.mark.parametrize(
    ("allowed", "verb", "kind", "where"),
    [
        (True, "patch", "services/airflow", "airflow-dev"),
        (False, "delete", "persistentvolumeclaims", "airflow-dev"),
        (False, "update", "leases/another", "airflow-dev"),
        (False, "escalate", "roles", "airflow-dev"),
        (False, "get", "secrets", "kube-system"),
        (False, "create", "pods", "default"),
        (False, "patch", "clusterroles/cluster-admin", "airflow-dev"),
        (False, "create", "clusterrolebindings", "airflow-dev"),
    ],
)
def test_a_job_in_the_cluster_may_do_no_more_than_it_needs(
    cluster: Cluster, allowed: bool, verb: str, kind: str, where: str
) -> None:
    account = f"system:serviceaccount:{cluster.namespace}:airflow-operations"
    words = ["auth", "can-i", verb, kind, f"--as={account}", "--namespace", where, "--quiet"]
    answer = programs.run("kubectl", ["--context", cluster.context, *words])
    assert (answer.returncode == 0) is allowed, answer.stderr


def test_what_changes_nothing_is_not_upgraded(cluster: Cluster) -> None:
    version = cluster.environment.values["global"]["airflowVersion"]
    done = ops("upgrade", *target(cluster), "--to", version)
    assert done.returncode == 0, done.stderr
    assert "nothing to upgrade" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["upgrade", "--to", "9.9.9"], "--to is 9.9.9, but global.airflowVersion of dev is"),
        (["upgrade", "--to", "3.3.2", "--image", "airflow:9"], "--image is airflow:9, but global.image of dev is"),
        (["promote"], "no upgrade of dev is under way"),
        (["rollback"], "no upgrade of dev is under way"),
    ],
)
def test_what_cannot_be_done_is_refused(cluster: Cluster, arguments: list[str], complaint: str) -> None:
    verb, *rest = arguments
    refused = ops(verb, *target(cluster), *rest)
    assert refused.returncode == 2, refused.stdout
    assert complaint in " ".join(refused.stderr.split())
