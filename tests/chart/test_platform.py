"""charts/platform: Secrets, migration, the Git mirror and what refuses to render."""

import base64
import importlib.util
import json
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from airflow_ops.checks.scheduling import counts
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.pools import SCRIPT, load_pools
from airflow_ops.paths import ROOT
from airflow_ops.rotation import jwt
from support.chart_rendering import Render, Rendered


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def test_the_migration_brings_in_pools_variables_and_users(dev: Rendered) -> None:
    data = dev.starting("ConfigMap", "airflow-migrate-")["data"]
    pools = json.loads(data["pools.json"])
    assert pools == load_pools(), "those of dags/config/pools.yaml"
    assert data["pools.py"] == SCRIPT.read_text()
    assert "python /etc/migration/pools.py </etc/migration/pools.json" in data["migrate.sh"]
    assert json.loads(data["variables.json"]) == {"object_storage_uri": "file:///opt/airflow/object-store"}
    assert json.loads(data["users.json"]) == Environment.load("dev").values["platform"]["users"]
    assert data["users.py"] == (ROOT / "charts/platform/files/scripts/users.py").read_text()
    assert "python /etc/migration/users.py /etc/users </etc/migration/users.json" in data["migrate.sh"]


def test_the_migration_goes_straight_to_the_database_with_the_environments_image(environment: Rendered) -> None:
    container = pod(environment.starting("Job", "airflow-migrate-"))["containers"][0]
    variables = {e["name"]: e for e in container["env"]}
    connection = variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]["valueFrom"]["secretKeyRef"]
    assert connection == {"name": "airflow-metadata", "key": "connection-direct"}
    scheduler = environment.one("Deployment", "airflow-blue-scheduler")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == scheduler["image"]
    assert "FabAuthManager" in variables["AIRFLOW__CORE__AUTH_MANAGER"]["value"], "else it makes no tables for users"


@pytest.mark.parametrize(
    "change",
    [
        {"global": {"airflowVersion": "3.3.3"}},
        {"global": {"image": {"tag": "other"}}},
        {"platform": {"variables": {"more": "x"}}},
        {"platform": {"migration": {"deadline": 7}}},
    ],
    ids=str,
)
def test_a_job_that_would_change_gets_another_name(render: Render, change: dict[str, Any]) -> None:
    before, after = (
        render("airflow-platform", values, only="migration/job.yaml").one("Job", "airflow-migrate-")
        for values in ({}, change)
    )
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_a_job_that_stays_the_same_keeps_its_name(render: Render) -> None:
    unrelated = {"platform": {"quota": {"hard": {"pods": "7"}}, "gitMirror": {"refreshInterval": 9}}}
    before, after = (
        render("airflow-platform", values, only="migration/job.yaml").one("Job", "airflow-migrate-")
        for values in ({}, unrelated)
    )
    assert before == after


def test_development_volumes_have_a_first_pod_to_bind_them(dev: Rendered) -> None:
    """A claim that waits for its first pod keeps `helm --wait` waiting for it."""
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod(dev.starting("Job", "airflow-migrate-"))["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert used == dev.all("PersistentVolumeClaim").keys()
    for claim in dev.all("PersistentVolumeClaim").values():
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", "it holds data"


def test_development_invents_its_secrets_and_the_others_take_them_from_a_store(environment: Rendered) -> None:
    name = environment.environment
    jobs = [job for job in environment.all("Job") if job.startswith("airflow-secrets")]
    secrets = environment.all("ExternalSecret")
    if name == "dev":
        assert (len(jobs), len(secrets)) == (1, 0)
    else:
        assert (len(jobs), len(secrets)) == (0, 12)
    for secret in secrets.values():
        assert secret["spec"]["target"]["name"] == secret["metadata"]["name"]
        assert secret["spec"]["target"]["deletionPolicy"] == "Retain"
        assert secret["spec"]["dataFrom"][0]["extract"]["key"].startswith(f"airflow/{name}/")


def test_every_secret_that_a_pod_needs_is_one_of_the_values(environment: Rendered) -> None:
    known = set(yaml.safe_load((ROOT / "charts/platform/values.yaml").read_text())["global"]["secrets"].values())

    def names(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*(names(item) for item in node))
        if not isinstance(node, dict):
            return set()
        found = {str(node[key]["name"]) for key in ("secretRef", "secretKeyRef") if key in node}
        found |= {str(node["secret"]["secretName"])} if isinstance(node.get("secret"), dict) else set()
        return found.union(*(names(value) for value in node.values()))

    needed = set().union(*(names(p.spec) for p in environment.pods()))
    assert {"airflow-metadata", "airflow-fernet", "airflow-jwt", "airflow-api"} <= needed <= known


def test_who_makes_secrets_may_read_only_those(dev: Rendered) -> None:
    rules = dev.one("Role", "airflow-secrets")["rules"]
    for rule in rules:
        assert rule["resources"] == ["secrets"]
        assert rule["verbs"] == ["create"] or len(rule["resourceNames"]) == 11


def test_the_mirror_serves_what_the_bundle_asks_for(environment: Rendered) -> None:
    mirror = environment.one("StatefulSet", "airflow-git-mirror")["spec"]
    service = environment.one("Service", "airflow-git")["spec"]
    assert service["selector"].items() <= mirror["template"]["metadata"]["labels"].items()
    assert service["ports"][0]["port"] == 9418
    serve, fetch = mirror["template"]["spec"]["containers"]
    assert serve["command"][4:] == ["/git", "9418"]
    assert "--enable=receive-pack" not in serve["command"], "read-only"
    arguments = fetch["command"][-3:]
    assert arguments[2] == str(mirror["replicas"])
    assert arguments[0].startswith("git://airflow-git-origin/" if environment.environment == "dev" else "ssh://")


def test_the_quota_and_limits_are_those_of_the_values(environment: Rendered) -> None:
    assert environment.one("ResourceQuota", "airflow")["spec"]["hard"]["pods"]
    assert environment.one("ResourceQuota", "airflow-tasks")["spec"]["hard"]["pods"]
    quotas = [environment.one("ResourceQuota", name) for name in ("airflow", "airflow-tasks")]
    for pod in environment.pods():
        counted = [quota["metadata"]["name"] for quota in quotas if counts(quota, pod.spec)]
        assert counted == ["airflow-tasks" if pod.where else "airflow"], pod.identity
    limits = environment.one("LimitRange", "airflow")["spec"]["limits"][0]
    assert limits["type"] == "Container"
    assert {"default", "defaultRequest", "max"} <= limits.keys()


REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unknown key": ("airflow-platform", {"platform": {"databse": {}}}, ["/platform", "databse"]),
    "unknown key below": (
        "airflow-platform",
        {"platform": {"database": {"enable": True}}},
        ["/platform/database", "enable"],
    ),
    "unknown key in global": ("airflow-blue", {"global": {"environement": "dev"}}, ["/global", "environement"]),
    "unknown section": ("airflow-blue", {"airflw": {}}, ["airflw"]),
    "wrong type": (
        "airflow-platform",
        {"platform": {"gitMirror": {"replicas": "two"}}},
        ["/platform/gitMirror/replicas"],
    ),
    "DAGs in a bucket without a folder": (
        "airflow-blue",
        {"global": {"dagBundle": {"kind": "s3", "uri": "s3://lake"}}},
        ["/global/dagBundle/uri"],
    ),
    "DAGs in object storage without an address": (
        "airflow-platform",
        {"global": {"dagBundle": {"kind": "s3"}}},
        ["/global/dagBundle/uri"],
    ),
    "DAGs from a branch that a task pushes to": (
        "airflow-blue",
        {"global": {"dagBundle": {"trackingRef": "snapshots/dev"}}},
        ["/global/dagBundle/trackingRef"],
    ),
    "a digest that is none": (
        "airflow-platform",
        {"platform": {"database": {"image": "docker.io/library/postgres:17@sha256:1234"}}},
        ["/platform/database/image"],
    ),
    "wrong colour": ("airflow-platform", {"global": {"activeColour": "red"}}, ["/global/activeColour"]),
    "missing value": ("airflow-blue", {"global": {"environment": ""}}, ["/global/environment"]),
    "missing part": (
        "airflow-platform",
        {"platform": {"users": {"new": {"role": "User"}}}},
        ["/platform/users/new", "email"],
    ),
    "a user whose name is no name of a file": (
        "airflow-platform",
        {"platform": {"users": {"../ann": {"role": "User", "email": "ann@example.com"}}}},
        ["../ann"],
    ),
    "tag latest": ("airflow-blue", {"global": {"image": {"tag": "latest"}}}, ["/global/image/tag"]),
    "unknown key of the official chart": ("airflow-blue", {"airflow": {"schedulr": {}}}, ["schedulr"]),
    "another namespace": ("airflow-platform", {"global": {"environment": "prod"}}, ["airflow-dev", "airflow-prod"]),
    "mirror without origin": (
        "airflow-platform",
        {"platform": {"gitOrigin": {"enabled": False}}},
        ["platform.gitMirror.origin"],
    ),
    "generated without database": (
        "airflow-platform",
        {"platform": {"database": {"enabled": False}}},
        ["platform.secrets.mode", "platform.database.enabled"],
    ),
    "external without store": (
        "airflow-platform",
        {"platform": {"secrets": {"mode": "external"}}},
        ["secrets.store.name"],
    ),
    "connection that cannot be invented": (
        "airflow-platform",
        {"platform": {"connections": ["sap"]}},
        ["platform.connections", "sap"],
    ),
    "ingress without a host": (
        "airflow-platform",
        {"platform": {"ingress": {"enabled": True}}},
        ["global.hosts.airflow"],
    ),
    "no auth manager": (
        "airflow-platform",
        {"airflow": {"config": {"core": {"auth_manager": None}}}},
        ["airflow.config.core.auth_manager"],
    ),
    "a Secret under two names": (
        "airflow-blue",
        {"airflow": {"data": {"metadataSecretName": "other"}}},
        ["global.secrets.metadata", "airflow.data.metadataSecretName", "other"],
    ),
    "two images": (
        "airflow-blue",
        {"global": {"image": {"tag": "new"}}},
        ["global.image.tag", "airflow.images.airflow.tag", "new"],
    ),
    "two versions": ("airflow-blue", {"airflow": {"airflowVersion": "3.2.2"}}, ["global.airflowVersion", "3.2.2"]),
    "PgBouncer in one chart only": (
        "airflow-blue",
        {"platform": {"pgbouncer": {"enabled": True}}},
        ["platform.pgbouncer.enabled", "airflow.pgbouncer.enabled"],
    ),
    "the official migration": (
        "airflow-blue",
        {"airflow": {"migrateDatabaseJob": {"enabled": True}}},
        ["migrateDatabaseJob"],
    ),
    "the official users": ("airflow-blue", {"airflow": {"createUserJob": {"enabled": True}}}, ["platform.users"]),
    "the official database": ("airflow-blue", {"airflow": {"postgresql": {"enabled": True}}}, ["platform.database"]),
    "the official Ingress": (
        "airflow-blue",
        {"airflow": {"ingress": {"apiServer": {"enabled": True}}}},
        ["airflow.ingress", "platform.ingress"],
    ),
    "the official Ingress of before": (
        "airflow-blue",
        {"airflow": {"ingress": {"web": {"enabled": True}}}},
        ["airflow.ingress", "platform.ingress"],
    ),
    "an address without a scheme": (
        "airflow-blue",
        {"airflow": {"config": {"api": {"base_url": "{{ .Values.global.environment }}.example.com"}}}},
        ["airflow.config.api.base_url", "dev.example.com"],
    ),
    "an address without a host": (
        "airflow-blue",
        {"airflow": {"config": {"api": {"base_url": "https://{{ .Values.global.hosts.airflow }}"}}}},
        ["airflow.config.api.base_url", "https://"],
    ),
    "a mirror that fetches too seldom for its alert": (
        "airflow-platform",
        {"platform": {"gitMirror": {"refreshInterval": 301}}},
        ["/platform/gitMirror/refreshInterval"],
    ),
    "a release that is no colour": ("airflow-red", {}, ["airflow-red", "airflow-blue"]),
}


@pytest.mark.parametrize(("release", "values", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_values_are_refused_with_their_keys(
    render: Render, release: str, values: dict[str, Any], named: list[str]
) -> None:
    answer = render(release, values)
    assert answer.code != 0
    for word in named:
        assert word in answer.error


@pytest.fixture(scope="module")
def make_secrets() -> ModuleType:
    """The script that the Job runs."""
    path = ROOT / "charts/platform/files/scripts/make_secrets.py"
    spec = importlib.util.spec_from_file_location("make_secrets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PURPOSES = (
    "database",
    "users",
    "metadata",
    "metadataReader",
    "metadataDagCode",
    "fernet",
    "jwt",
    "api",
    "backup",
    "git",
    "connections",
)


def wanted(**changes: Any) -> dict[str, Any]:
    names = {purpose: f"airflow-{purpose}" for purpose in PURPOSES}
    common = {"namespace": "n", "secrets": names, "connections": ["warehouse", "airflow_api"]}
    return {**common, "users": ["admin", "platform"], **changes}


def test_an_empty_namespace_gets_secrets_that_agree(make_secrets: ModuleType) -> None:
    made = make_secrets.missing(wanted(), {})
    assert made.keys() == set(PURPOSES)
    password = made["database"]["airflow"]
    assert made["metadata"]["connection"] == f"postgresql+psycopg2://airflow:{password}@airflow-database:5432/airflow"
    assert made["metadata"]["connection-async"].startswith("postgresql+psycopg://")
    warehouse = json.loads(made["connections"]["AIRFLOW_CONN_WAREHOUSE"])
    assert (warehouse["login"], warehouse["password"]) == ("warehouse", made["database"]["warehouse"])
    assert password not in json.dumps(made["connections"]), "workers must not enter the metadata database"
    assert json.loads(made["connections"]["AIRFLOW_CONN_AIRFLOW_API"])["password"] == made["users"]["platform"]
    assert len(base64.urlsafe_b64decode(made["fernet"]["fernet-key"])) == 32
    assert len(bytes.fromhex(made["backup"]["backup-key"])) == 32
    assert made["jwt"] == {"private-key": made["jwt"]["private-key"], "jwks": jwt.trusted(made["jwt"]["private-key"])}


def test_a_second_run_changes_nothing(make_secrets: ModuleType) -> None:
    assert make_secrets.missing(wanted(), make_secrets.missing(wanted(), {})) == {}


def test_only_what_is_missing_is_added_and_fits_what_is_there(make_secrets: ModuleType) -> None:
    found = make_secrets.missing(wanted(users=["platform"]), {})
    password = found["database"]["airflow"]
    del found["metadata"]["connection-async"]
    del found["jwt"]["jwks"]
    added = make_secrets.missing(wanted(), found)
    assert added.keys() == {"metadata", "jwt", "users"}
    assert added["users"].keys() == {"admin"}
    assert added["jwt"] == {"jwks": jwt.trusted(found["jwt"]["private-key"])}
    assert added["metadata"].keys() == {"connection-async"}
    assert password in added["metadata"]["connection-async"]


def test_what_is_added_after_a_rotation_has_the_login_of_then(make_secrets: ModuleType) -> None:
    found = make_secrets.missing(wanted(), {})
    found["metadata"]["connection-direct"] = "postgresql+psycopg2://airflow_a:new@airflow-database:5432/airflow"
    del found["metadata"]["connection-async"]
    added = make_secrets.missing(wanted(), found)
    assert added["metadata"]["connection-async"] == "postgresql+psycopg://airflow_a:new@airflow-database:5432/airflow"


@pytest.mark.parametrize(
    ("purpose", "role", "keys"),
    [
        ("metadataReader", "airflow_reader", {"connection-direct"}),
        ("metadataDagCode", "airflow_dag_code", {"connection", "connection-direct"}),
    ],
)
def test_a_login_beside_the_owners_has_a_password_of_its_own(
    make_secrets: ModuleType, purpose: str, role: str, keys: set[str]
) -> None:
    made = make_secrets.missing(wanted(), {})
    assert made[purpose].keys() == keys
    (address,) = set(made[purpose].values())
    url = urlsplit(address)
    assert (url.username, url.path) == (role, "/airflow")
    assert url.password not in json.dumps({key: made[key] for key in made if key != purpose})


def test_a_key_that_a_login_lacks_has_the_login_of_a_rotation(make_secrets: ModuleType) -> None:
    found = make_secrets.missing(wanted(), {})
    found["metadataDagCode"] = {"connection-direct": "postgresql+psycopg2://airflow_dag_code_a:new@h/airflow"}
    added = make_secrets.missing(wanted(), found)
    assert added.keys() == {"metadataDagCode"}
    assert added["metadataDagCode"].keys() == {"connection"}
    assert "//airflow_dag_code_a:new@" in added["metadataDagCode"]["connection"]


def test_an_unknown_connection_is_an_error(make_secrets: ModuleType) -> None:
    with pytest.raises(KeyError, match="sap"):
        make_secrets.missing(wanted(connections=["sap"]), {})


def test_only_who_signs_holds_the_key_and_only_who_trusts_knows_the_keys(environment: Rendered) -> None:
    holders = {pod.manifest.name for pod in environment.pods() if "airflow-jwt" in json.dumps(pod.spec)}
    assert holders == {"airflow-blue-api-server", "airflow-blue-scheduler"}
    for name in holders:
        [volume] = [
            each
            for each in environment.one("Deployment", name)["spec"]["template"]["spec"]["volumes"]
            if each["name"] == "jwt"
        ]
        assert [item["key"] for item in volume["secret"]["items"]] == ["private-key", "jwks"], "not the next one"
    server = environment.one("Deployment", "airflow-blue-api-server")["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in server["env"]}
    assert env["AIRFLOW__API_AUTH__TRUSTED_JWKS_URL"] == "/opt/airflow/jwt/jwks.json"
    assert "AIRFLOW__API_AUTH__JWT_SECRET" not in env


@pytest.mark.parametrize("name", ["airflow-rotate-fernet-key", "airflow-check-database-login"])
def test_what_rotations_run_never_starts_by_itself(environment: Rendered, name: str) -> None:
    assert environment.one("CronJob", name)["spec"]["suspend"] is True
