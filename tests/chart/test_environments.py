"""What the manifests of each environment hold, and what they must not."""

import configparser
import json
import re
import tarfile
from typing import Any

import pytest
import yaml

from airflow_ops.checks import policies
from airflow_ops.checks.rendering import notes
from airflow_ops.deployment.preflight import namespace_text
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.values import merge, read_values
from airflow_ops.manifests.objects import parse, releases, template
from airflow_ops.paths import ROOT
from support.chart_rendering import ENVIRONMENTS, HelmOutput, Render, Rendered, needs_chart

COMPONENTS = ("scheduler", "dag-processor", "triggerer", "api-server")


def config(environment: Rendered) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(environment.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"])
    return parsed


def deployment(environment: Rendered, component: str) -> dict[str, Any]:
    return environment.one("Deployment", f"airflow-blue-{component}")["spec"]


def test_every_manifest_keeps_the_rules(environment: Rendered) -> None:
    """Resources, restricted security, pinned images, probes, no secret in sight: see checks.policies."""
    assert len([*environment.pods()]) > 10
    assert policies.check(environment.manifests) == []


def test_helm_draws_no_secret_and_says_nothing_to_heed(environment: Rendered) -> None:
    assert environment.all("Secret") == {}
    for release in releases(Environment.load(environment.environment)):
        text = notes(release)
        assert "WARNING" not in text
        assert "may not persist" not in text


def test_there_is_no_hook(environment: Rendered) -> None:
    """A hook that waits for what comes after it never ends with --wait, Argo CD and Flux."""
    hooks = [
        m.identity for m in environment.manifests if "helm.sh/hook" in (m.object["metadata"].get("annotations") or {})
    ]
    assert hooks == []


def test_the_same_values_render_the_same_manifests() -> None:
    for release in releases(Environment.load("dev")):
        assert parse(release, template(release)) == parse(release, template(release))


def test_the_official_charts_own_jobs_and_database_are_off(environment: Rendered) -> None:
    jobs = environment.all("Job")
    assert not [name for name in jobs if name.startswith("airflow-blue")]
    assert not [name for name in environment.all("StatefulSet") if "postgresql" in name or "redis" in name]


def test_services_reach_the_api_server_of_the_active_colour(environment: Rendered) -> None:
    for name in ("airflow", "airflow-exec-blue", "airflow-exec-green"):
        service = environment.one("Service", name)["spec"]
        assert service["selector"] == {"tier": "airflow", "component": "api-server", "release": "airflow-blue"}
        assert service["ports"][0]["port"] == 8080
    selector = environment.one("Service", "airflow")["spec"]["selector"].items()
    assert selector <= deployment(environment, "api-server")["template"]["metadata"]["labels"].items()
    assert config(environment)["core"]["execution_api_server_url"] == "http://airflow-exec-blue:8080/execution/"


def test_users_and_tasks_reach_the_active_colour(render: Render) -> None:
    answer = render("airflow-platform", {"global": {"activeColour": "green"}}, only="api-server/service.yaml")
    colours = {
        o["metadata"]["name"]: o["spec"]["selector"].get("release") for o in answer.objects if o["kind"] == "Service"
    }
    assert {colours[name] for name in ("airflow", "airflow-exec-blue", "airflow-exec-green")} == {"airflow-green"}


def test_two_colours_share_no_object(render: Render) -> None:
    def names(answer: HelmOutput) -> set[tuple[str, str]]:
        return {(o["kind"], o["metadata"]["name"]) for o in answer.objects}

    blue, green = names(render("airflow-blue")), names(render("airflow-green"))
    assert len(blue) == len(green) > 20
    assert blue & green == set()


def test_no_component_waits_for_the_schema(environment: Rendered) -> None:
    for component in COMPONENTS:
        assert deployment(environment, component)["template"]["spec"].get("initContainers", []) in (None, [])
    assert config(environment)["database"]["check_migrations"] == "False"


def test_every_component_loads_the_same_bundle(environment: Rendered) -> None:
    bundles = json.loads(config(environment)["dag_processor"]["dag_bundle_config_list"])
    assert [bundle["name"] for bundle in bundles] == ["platform"]
    kwargs = bundles[0]["kwargs"]
    assert kwargs["git_conn_id"] == "platform_git"
    assert kwargs["subdir"] == "dags"
    tracked = {"dev": "main"}.get(environment.environment)
    assert kwargs["tracking_ref"] == tracked if tracked else kwargs["tracking_ref"].startswith("v")


def test_the_bundle_may_be_in_the_image(render: Render) -> None:
    answer = render("airflow-blue", {"global": {"dagBundle": {"kind": "local"}}})
    text = answer.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"]
    assert "LocalDagBundle" in text
    assert '"path":"/opt/airflow/dags"' in text
    assert "GitDagBundle" not in text
    for deployed in (o for o in answer.objects if o["kind"] == "Deployment"):
        assert "airflow-git" not in yaml.safe_dump(deployed["spec"]), deployed["metadata"]["name"]


def test_a_new_revision_of_secrets_replaces_every_pod_that_reads_one(render: Render) -> None:
    for release, kind in (("airflow-blue", "Deployment"), ("airflow-platform", "StatefulSet")):
        old, new = (
            {o["metadata"]["name"]: o["spec"]["template"] for o in render(release, values).objects if o["kind"] == kind}
            for values in ({}, {"global": {"secretsRevision": "2"}})
        )
        same = {name for name in old if old[name] == new[name]}
        assert same <= {"airflow-blue-statsd", "airflow-git-origin", "airflow-database"}
        assert same != set(old)


def test_development_fits_a_laptop(dev: Rendered) -> None:
    for component in COMPONENTS:
        assert deployment(dev, component)["replicas"] == 1
    for component in COMPONENTS[:3]:
        strategy = deployment(dev, component)["strategy"]
        assert strategy["type"] == "Recreate"
        assert strategy.get("rollingUpdate") is None, "the API server refuses the two together"
    assert dev.all("HorizontalPodAutoscaler") == {}
    assert "airflow-database" in dev.all("StatefulSet")


def test_production_loses_no_component_with_a_pod(prod: Rendered) -> None:
    budgets = prod.all("PodDisruptionBudget")
    for component in (*COMPONENTS[:3], "pgbouncer"):
        assert deployment(prod, component)["replicas"] >= 2
    autoscaler = next(iter(prod.all("HorizontalPodAutoscaler").values()))["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == "airflow-blue-api-server"
    assert autoscaler["minReplicas"] >= 2
    for component in (*COMPONENTS, "pgbouncer"):
        spec = deployment(prod, component)["template"]["spec"]
        budget = next(b for name, b in budgets.items() if name.startswith(f"airflow-blue-{component}"))
        assert budget["spec"]["maxUnavailable"] == 1
        spread = spec["topologySpreadConstraints"][0]
        assert spread["topologyKey"] == "topology.kubernetes.io/zone"
        assert spread["matchLabelKeys"] == ["component", "release"]
        assert spec["priorityClassName"] == "airflow-control-plane"
    assert budgets["airflow-git-mirror"]["spec"]["maxUnavailable"] == 1


def test_a_stopping_api_server_answers_until_it_is_out_of_the_endpoints(environment: Rendered) -> None:
    spec = deployment(environment, "api-server")["template"]["spec"]
    pause = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert 10 <= pause < spec.get("terminationGracePeriodSeconds", 30) - 10, "and has time left to finish requests"


def test_priority_classes_are_made_beside_helm(environment: Rendered) -> None:
    made = {c["metadata"]["name"] for c in yaml.safe_load_all((ROOT / "k8s/priority-classes.yaml").read_text())}
    named = {pod.spec["priorityClassName"] for pod in environment.pods() if "priorityClassName" in pod.spec}
    assert named == made


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_namespace_enforces_restricted_pods(name: str) -> None:
    namespace = yaml.safe_load(namespace_text(Environment.load(name)))
    assert namespace["metadata"]["name"] == f"airflow-{name}"
    assert namespace["metadata"]["labels"]["airflow-platform.io/environment"] == name
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_production_keeps_task_logs_outside_the_cluster(prod: Rendered) -> None:
    logging = config(prod)["logging"]
    assert logging["remote_logging"] == "True"
    assert logging["remote_base_log_folder"].startswith("s3://")
    assert prod.all("PersistentVolumeClaim") == {}


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_what_runs_there_does_not_move(name: str) -> None:
    values = Environment.load(name).values
    assert values["platform"]["secrets"]["mode"] == "external"
    assert re.fullmatch(r"v\d+\.\d+\.\d+|[0-9a-f]{40}", values["global"]["dagBundle"]["trackingRef"])
    assert re.fullmatch(r"\d+\.\d+\.\d+-\d+\.\d+\.\d+", str(values["global"]["image"]["tag"]))


def test_production_goes_through_pgbouncer(prod: Rendered) -> None:
    selector = prod.one("Service", "airflow-pgbouncer")["spec"]["selector"]
    assert "release" not in selector, "both colours serve it"
    assert selector.items() <= deployment(prod, "pgbouncer")["template"]["metadata"]["labels"].items()
    environment = {e["name"]: e for e in deployment(prod, "api-server")["template"]["spec"]["containers"][0]["env"]}
    asynchronous = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"]["valueFrom"]["secretKeyRef"]
    assert asynchronous == {"name": "airflow-metadata", "key": "connection-async"}
    local_settings = prod.one("ConfigMap", "airflow-blue-config")["data"]["airflow_local_settings.py"]
    namespace: dict[str, Any] = {}
    exec(local_settings, namespace)  # noqa: S102 it is what Airflow executes
    assert namespace["ASYNC_CONNECT_ARGS"] == {"prepare_threshold": None}


@pytest.mark.parametrize("overlay", ["aws", "gcp", "azure"])
def test_a_cloud_gives_its_identity_to_who_reads_and_writes_objects(render: Render, overlay: str) -> None:
    values = read_values(ROOT / f"values/overlays/{overlay}.yaml")
    accounts = {
        o["metadata"]["name"]: o["metadata"].get("annotations")
        for o in render("airflow-blue", values, environment="prod").objects
        if o["kind"] == "ServiceAccount"
    }
    assert accounts["airflow-blue-worker"], accounts
    assert accounts["airflow-blue-worker"] == accounts["airflow-blue-api-server"] == accounts["airflow-blue-triggerer"]
    assert "{{" not in str(accounts)
    assert not accounts["airflow-blue-scheduler"]


def test_the_first_level_of_the_official_charts_keys_is_that_of_its_schema() -> None:
    """Its own schema lets any key pass there, so ours lists them."""
    needs_chart()
    with tarfile.open(official_chart.ensure()) as archive:
        member = archive.extractfile("airflow/values.schema.json")
        assert member is not None
        official = json.load(member)["properties"].keys()
    ours = json.loads((ROOT / "charts/platform/values.schema.json").read_text())["properties"]["airflow"]["properties"]
    assert ours.keys() == official | {"global"}


def lists(node: object, path: str = "") -> set[str]:
    """Paths of all lists in values."""
    if isinstance(node, list):
        return {path}
    if isinstance(node, dict):
        return set().union(*(lists(value, f"{path}.{key}") for key, value in node.items()))
    return set()


EXTENDED = {"oidc.yaml": {".airflow.apiServer.env"}}
"""Lists that an overlay has to add to, and so says again."""


def test_a_list_that_is_said_again_has_all_that_it_had() -> None:
    base, oidc = (
        read_values(ROOT / f"values/{file}")["airflow"]["apiServer"]["env"]
        for file in ("base.yaml", "overlays/oidc.yaml")
    )
    assert oidc[: len(base)] == base


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("overlay", [None, *sorted(p.stem for p in (ROOT / "values/overlays").glob("*.yaml"))])
def test_a_list_stands_in_one_file_of_a_layering(name: str, overlay: str | None) -> None:
    files = [ROOT / "values/base.yaml", ROOT / f"values/{name}.yaml"]
    files += [ROOT / f"values/overlays/{overlay}.yaml"] if overlay else []
    seen: set[str] = set()
    for file in files:
        found = lists(read_values(file)) - EXTENDED.get(file.name, set())
        assert not seen & found, f"{file.name} replaces what a file below it lists: {seen & found}"
        seen |= found
    assert seen


def test_the_readme_has_every_value_with_its_default() -> None:
    defaults = read_values(ROOT / "charts/platform/values.yaml")
    readme = (ROOT / "charts/platform/README.md").read_text()
    rows = dict(line[2:].split(" | ", 1) for line in readme.splitlines() if line.startswith(("| global", "| platform")))

    def walk(node: Any, path: str) -> None:
        if path in rows:
            shown = rows.pop(path).split(" | ")[1]
            assert shown == "none" or json.loads(shown.strip("`")) == node, f"{path}: run helm-docs"
        elif isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}".removeprefix("."))
        else:
            pytest.fail(f"charts/platform/README.md does not have {path}: run helm-docs")

    walk({key: value for key, value in defaults.items() if key != "airflow"}, "")
    assert rows == {}, "rows of values that are gone"


def test_values_of_an_environment_leave_nothing_open() -> None:
    """What is required has no default that would pass."""
    assert Environment.load("dev").values["global"]["environment"] == "dev"
    assert merge({}, read_values(ROOT / "charts/platform/values.yaml"))["global"]["environment"] == ""
