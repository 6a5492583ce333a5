"""Dev comes from a Git repository by a real Argo CD: commits are all that anybody does.

Not part of `make e2e`: it deletes dev, and needs Argo CD on the cluster (make e2e-argocd).
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase
from airflow_ops.console import ProblemError
from airflow_ops.deployment.smoke import CANARY
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.paths import ROOT, VALUES
from support.former_version import BOTH_VERSIONS, OVERLAY, load_image, remove
from support.gitops import APPLICATION, GitOps, served
from support.live_environment import Airflow, ops, target, wait_for
from support.operations_image import load_operations_image
from support.upgrades import check_requests, record

pytestmark = pytest.mark.argocd
MADE = (
    "application/airflow",
    "applicationset/airflow",
    f"application/{APPLICATION}",
    "appproject/airflow",
    "appproject/airflow-bootstrap",
    "validatingadmissionpolicybinding/airflow-argocd-applications",
    "validatingadmissionpolicy/airflow-argocd-applications",
)
KEPT = "persistentvolumeclaims,secrets,deployments,statefulsets,services"
OTHER = {"airflow": {"config": {"scheduler": {"max_dagruns_to_create_per_loop": 9}}}}
"""A change of Airflow's configuration."""
CANNOT_START = {"airflow": {"config": {"triggerer": {"capacity": "nonsense"}}}}
FORMER = yaml.safe_load((VALUES / f"overlays/{OVERLAY}.yaml").read_text())
"""Dev's version at first."""
NEW_DAG = "e2e_show_version"
NEW_DAGS: dict[str, str | None] = {
    # The tag belongs to the newer version, so its DAGs are those of this checkout.
    **{path: (ROOT / path).read_text() for path in BOTH_VERSIONS},
    f"dags/platform/{NEW_DAG}.py": (ROOT / f"tests/e2e/dags/{NEW_DAG}.py").read_text(),
}
CANNOT_BE_IMPORTED = {"dags/platform/e2e_broken.py": "# An airflow dag.\nimport no_such_module\n"}
CANARY_PATH = f"dags/platform/{CANARY}.py"
CANARY_FAILS = {CANARY_PATH: (ROOT / CANARY_PATH).read_text().replace('if plain != "ran":', "if True:")}


@pytest.fixture(scope="module")
def cluster(connected: Cluster) -> Cluster:
    return connected


@pytest.fixture(scope="module")
def gitops(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitOps]:
    load_operations_image(cluster)
    load_image(connect(Environment.load("dev", [*cluster.environment.overlays, OVERLAY])))
    remove(cluster)
    with served(cluster, tmp_path_factory.mktemp("gitops"), FORMER, BOTH_VERSIONS) as gitops:
        try:
            cluster.kubectl("apply", "--namespace=argocd", "-f", str(gitops.folder / "k8s/argocd/bootstrap.yaml"))
            yield gitops
        finally:
            # What makes another one again goes first.
            for name in MADE:
                cluster.kubectl("delete", name, "--namespace", "argocd", "--ignore-not-found", "--wait=false")
            remove(cluster)


def state(cluster: Cluster, kinds: str) -> dict[str, str]:
    """Every object of some kinds with its uid and what changes with its spec."""
    items = json.loads(cluster.kubectl("get", kinds, "--output", "json"))["items"]
    return {
        f"{each['kind']}/{each['metadata']['name']}": f"{each['metadata']['uid']} {each['metadata'].get('generation')}"
        for each in items
    }


def components(cluster: Cluster) -> dict[str, str]:
    return state(cluster, "deployments,statefulsets,cronjobs,services")


def working(cluster: Cluster) -> Colour:
    """The colour that users reach."""
    found = live.live_colour(cluster)
    assert found
    return found


def check_works(cluster: Cluster, gitops: GitOps, colour: Colour) -> None:
    """Users reach a colour, whose canary passes, and Argo CD shows no difference."""
    wait_for("Synced and Healthy", gitops.is_quiet, 120)
    assert live.live_colour(cluster) is colour
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr


def promote(cluster: Cluster, gitops: GitOps, colour: Colour) -> None:
    """By a commit that makes a colour the active one, which the ApplicationSet looks for every three minutes."""
    gitops.activate(colour)
    wait_for("the promotion", lambda: record(cluster).phase is Phase.PROMOTED, 600)
    assert not any(each.spec.replicas for each in live.deployments(cluster, live.other(colour)).values())
    check_works(cluster, gitops, colour)


def version(cluster: Cluster) -> str:
    """The version of the Airflow that users reach."""
    with cluster.forward("airflow", 8080) as url:
        return str(httpx.get(f"{url}/api/v2/version", timeout=30).json()["version"])


def check_stopped(cluster: Cluster, gitops: GitOps, commit: str, reason: str) -> None:
    """The sync of a commit has failed for a reason, no user noticed, and a revert makes Argo CD quiet again."""
    before = working(cluster)
    operation = gitops.synced(commit, 1200)
    assert operation["phase"] == "Failed"
    assert reason in gitops.said(commit)
    assert record(cluster).phase is Phase.ROLLED_BACK
    check_requests(record(cluster))
    assert gitops.synced(gitops.revert())["phase"] == "Succeeded"
    check_works(cluster, gitops, before)


def test_the_first_sync_installs_everything(cluster: Cluster, gitops: GitOps) -> None:
    wait_for("the Application", gitops.application, 300)
    commit = gitops.commit("test: begin")
    operation = gitops.synced(commit, 1800)
    assert operation["phase"] == "Succeeded", operation["message"]
    check_works(cluster, gitops, Colour.BLUE)
    assert version(cluster) == "3.2.2"


def test_a_second_sync_changes_nothing(cluster: Cluster, gitops: GitOps) -> None:
    before = components(cluster)
    commit = gitops.commit("docs: nothing that is deployed")
    assert gitops.synced(commit)["phase"] == "Succeeded"
    assert "nothing to upgrade" in gitops.said(commit)
    assert components(cluster) == before


def test_another_version_comes_by_a_commit_and_is_promoted_by_another(cluster: Cluster, gitops: GitOps) -> None:
    newer = cluster.environment.values["global"]["airflowVersion"]
    commit = gitops.follow(f"feat: Airflow {newer}", {})
    assert gitops.synced(commit, 1200)["phase"] == "Succeeded"
    assert (record(cluster).phase, record(cluster).migrates) == (Phase.SOAKING, True)
    check_requests(record(cluster))
    check_works(cluster, gitops, Colour.GREEN)
    assert version(cluster) == newer
    promote(cluster, gitops, Colour.GREEN)


def test_another_tag_of_the_dags_comes_by_a_commit(cluster: Cluster, gitops: GitOps) -> None:
    commit = gitops.release("e2e-1", NEW_DAGS)
    assert gitops.synced(commit)["phase"] == "Succeeded"
    check_requests(record(cluster))
    check_works(cluster, gitops, Colour.BLUE)
    with login(cluster) as client:
        assert Airflow(client, cluster).serves(NEW_DAG, commit)
    promote(cluster, gitops, Colour.BLUE)


def test_a_change_that_soaks_is_rolled_back_by_a_revert(cluster: Cluster, gitops: GitOps) -> None:
    commit = gitops.change("feat: another configuration", OTHER)
    assert gitops.synced(commit)["phase"] == "Succeeded"
    assert record(cluster).phase is Phase.SOAKING
    check_works(cluster, gitops, Colour.GREEN)
    assert gitops.synced(gitops.revert())["phase"] == "Succeeded"
    assert record(cluster).phase is Phase.ROLLED_BACK
    check_works(cluster, gitops, Colour.BLUE)


def test_values_that_the_schema_refuses_change_nothing(cluster: Cluster, gitops: GitOps) -> None:
    before = components(cluster)
    gitops.change("feat: a key that nobody knows", {"platform": {"unknownKey": True}})

    def complaints() -> list[str]:
        conditions: list[dict[str, Any]] = gitops.status().get("conditions") or []
        return [each["message"] for each in conditions if "unknownKey" in each["message"]]

    wait_for("the complaint", complaints, 240)
    assert components(cluster) == before
    assert gitops.synced(gitops.revert())["phase"] == "Succeeded"


def test_a_candidate_that_cannot_start_leaves_what_works(cluster: Cluster, gitops: GitOps) -> None:
    candidate = live.other(working(cluster))
    commit = gitops.change("feat: a triggerer that cannot start", CANNOT_START)
    check_stopped(cluster, gitops, commit, f"triggerer of {candidate} does not work")


def test_a_dag_that_cannot_be_imported_leaves_what_works(cluster: Cluster, gitops: GitOps) -> None:
    candidate = live.other(working(cluster))
    commit = gitops.release("e2e-2", CANNOT_BE_IMPORTED)
    check_stopped(cluster, gitops, commit, f"{candidate} cannot import DAG files")


def test_a_canary_that_fails_leaves_what_works(cluster: Cluster, gitops: GitOps) -> None:
    commit = gitops.release("e2e-3", CANARY_FAILS)
    check_stopped(cluster, gitops, commit, "the canary's run")


def test_what_somebody_changes_on_the_cluster_is_changed_back(cluster: Cluster, gitops: GitOps) -> None:
    wait_for("Synced and Healthy", gitops.is_quiet, 120)
    before = working(cluster)
    cluster.kubectl("delete", "service", "airflow")
    wait_for("the Service", lambda: live.live_colour(cluster) is before, 60)
    cluster.kubectl("delete", "networkpolicy", "--all")
    wait_for(
        "the NetworkPolicies", lambda: "networkpolicy" in cluster.kubectl("get", "networkpolicy", "-o", "name"), 60
    )
    check_works(cluster, gitops, before)


def test_an_application_that_is_deleted_comes_again_and_takes_nothing_with_it(cluster: Cluster, gitops: GitOps) -> None:
    """The page of Argo CD adds the finalizer of a cascade before it deletes, and stops where it may not."""
    before, colour = state(cluster, KEPT), working(cluster)
    cascade = json.dumps({"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}})
    in_argocd = ["--namespace", "argocd"]
    uid = gitops.application()["metadata"]["uid"]
    with pytest.raises(
        ProblemError, match="a cascading delete of Application airflow-dev would delete its environment"
    ):
        cluster.kubectl("patch", "application", APPLICATION, *in_argocd, "--type=merge", "--patch", cascade)
    cluster.kubectl("delete", "application", APPLICATION, *in_argocd, "--wait=false")
    wait_for("another Application", lambda: gitops.application().get("metadata", {}).get("uid", uid) != uid, 600)
    wait_for("Synced and Healthy", lambda: bool(gitops.status().get("health")) and gitops.is_quiet(), 900)
    assert state(cluster, KEPT) == before
    check_works(cluster, gitops, colour)
