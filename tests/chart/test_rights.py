"""Who may do what in the cluster: service accounts, roles and tokens are those listed here, in every environment."""

import copy
import json
import re
from typing import Any

import pytest

from airflow_ops.checks import policies
from airflow_ops.environments.values import read_values
from airflow_ops.manifests.objects import Pod
from airflow_ops.paths import ROOT
from support.chart_rendering import ENVIRONMENTS, Charts, Render, Rendered

CLUSTER_SCOPED = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
"""The only kinds without namespace; neither gives a right."""

COLOUR = ("api-server", "cleanup", "dag-processor", "database-cleanup", "scheduler", "statsd", "triggerer", "worker")
ACCOUNTS = {
    environment: {"airflow-platform", "airflow-backup", *(f"airflow-blue-{name}" for name in COLOUR)}
    for environment in ENVIRONMENTS
}
ACCOUNTS["dev"] |= {"airflow-secrets"}
ACCOUNTS["staging"] |= {"airflow-blue-pgbouncer"}
ACCOUNTS["prod"] |= {"airflow-blue-pgbouncer"}

TOKENS = {"airflow-blue-api-server", "airflow-blue-cleanup", "airflow-blue-scheduler", "airflow-secrets"}
"""Reads pods' logs; deletes finished pods; starts pods; makes the Secrets of development."""

RIGHTS = {
    "airflow-blue-scheduler": {"pods: create delete get list patch watch"},
    "airflow-blue-api-server": {"pods: get list watch", "pods/log: get list"},
    "airflow-blue-cleanup": {"pods: delete list"},
    "airflow-blue-database-cleanup": set(),
    "airflow-secrets": {"secrets: create", "secrets: get patch of those named"},
}


def rights(environment: Rendered) -> dict[str, set[str]]:
    """What each bound service account may do, a line for each resource."""
    found: dict[str, set[str]] = {}
    for binding in environment.all("RoleBinding").values():
        assert binding["roleRef"]["kind"] == "Role", binding["metadata"]["name"]
        role = environment.one("Role", binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", f"airflow-{environment.environment}")
            lines = found.setdefault(subject["name"], set())
            for rule in role.get("rules") or []:
                named = " of those named" if rule.get("resourceNames") else ""
                lines |= {f"{resource}: {' '.join(sorted(rule['verbs']))}{named}" for resource in rule["resources"]}
    return found


def account_of(pod: Pod) -> str:
    return str(pod.spec.get("serviceAccountName", "default"))


def has_token(environment: Rendered, pod: Pod) -> bool:
    """Mounted by Kubernetes, or as a projected volume that a component names itself."""
    account = environment.one("ServiceAccount", account_of(pod))
    mounted = pod.spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    sources = [s for v in pod.spec.get("volumes") or [] for s in (v.get("projected") or {}).get("sources") or []]
    return mounted or any("serviceAccountToken" in source for source in sources)


def test_nothing_gives_a_right_beyond_the_namespace(environment: Rendered) -> None:
    kinds = {m.kind for m in environment.manifests}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
    without_namespace = {m.kind for m in environment.manifests if m.kind in CLUSTER_SCOPED}
    assert without_namespace == CLUSTER_SCOPED
    for manifest in environment.manifests:
        assert manifest.namespace == f"airflow-{environment.environment}", manifest.identity


def test_service_accounts_are_those_listed(environment: Rendered) -> None:
    assert environment.all("ServiceAccount").keys() == ACCOUNTS[environment.environment]


def test_every_pod_has_an_account_of_ours(environment: Rendered) -> None:
    used = {account_of(pod) for pod in environment.pods()}
    assert used == ACCOUNTS[environment.environment], "none is `default`, and none is made for nobody"


def test_a_service_account_may_do_what_is_listed(environment: Rendered) -> None:
    found = rights(environment)
    assert found == {name: RIGHTS[name] for name in RIGHTS if name in ACCOUNTS[environment.environment]}
    for role in environment.all("Role").values():
        assert "*" not in str(role.get("rules")), role["metadata"]["name"]


def test_tokens_are_where_they_are_used(environment: Rendered) -> None:
    having = {account_of(pod) for pod in environment.pods() if has_token(environment, pod)}
    assert having == TOKENS & ACCOUNTS[environment.environment]


KEYS = {
    # It signs sessions and requests for logs.
    "AIRFLOW__API__SECRET_KEY": {"airflow-blue-api-server", "airflow-blue-triggerer", "airflow-migrate"},
    # It decrypts connections and variables.
    "AIRFLOW__CORE__FERNET_KEY": {
        *(f"airflow-blue-{name}" for name in ("api-server", "scheduler", "dag-processor", "triggerer")),
        "airflow-migrate",
        "airflow-rotate-fernet-key",
    },
    # Airflow takes the ordinary URL away from DAG code, and leaves this one.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": {"airflow-blue-api-server"},
}


@pytest.mark.parametrize("overlays", [(), ("oidc",)])
def test_a_key_of_airflow_is_where_it_is_used(charts: Charts, overlays: tuple[str, ...]) -> None:
    environment = charts.environment("prod", *overlays)
    for variable, names in KEYS.items():
        having = {pod.manifest.name for pod in environment.pods() if f'"{variable}"' in json.dumps(pod.spec)}
        assert {re.sub(r"(airflow-migrate)-.*", r"\1", name) for name in having} == names, variable


def test_a_pod_says_itself_that_it_has_no_token(environment: Rendered) -> None:
    """An account may be changed, and then every pod of it that is made anew would have a token."""
    for pod in environment.pods():
        if account_of(pod) not in TOKENS:
            assert pod.spec.get("automountServiceAccountToken") is False, pod.manifest.identity


def test_a_pod_without_a_projected_token_of_its_own_leaves_it_to_its_account(charts: Charts) -> None:
    """The triggerer of this overlay reads secrets with the token that Kubernetes mounts."""
    spec = next(p.spec for p in charts.environment("prod", "secrets-kubernetes").pods() if "triggerer" in account_of(p))
    assert "automountServiceAccountToken" not in spec


def test_the_key_of_tokens_is_in_the_containers_that_use_it_alone(environment: Rendered) -> None:
    holders = {
        (pod.manifest.name, container.spec["name"])
        for pod in environment.pods()
        for container in policies.containers(pod)
        if any(mount["name"] == "jwt" for mount in container.spec.get("volumeMounts") or [])
    }
    assert holders == {("airflow-blue-api-server", "api-server"), ("airflow-blue-scheduler", "scheduler")}


def test_what_deletes_old_rows_and_pods_knows_no_connection_of_dags(environment: Rendered) -> None:
    pods = {pod.manifest.name: json.dumps(pod.spec) for pod in environment.pods() if "cleanup" in pod.manifest.name}
    assert pods.keys() == {"airflow-blue-cleanup", "airflow-blue-database-cleanup"}
    for name, spec in pods.items():
        assert "airflow-metadata" in spec, "it looks at the right pods"
        assert not {"airflow-connections", "airflow-git"} & set(re.findall(r"[a-z-]+", spec)), name


LOGINS = {
    # The code of DAGs runs in the two, and can find the login.
    "airflow-metadata-dag-code": {"airflow-blue-dag-processor", "airflow-blue-triggerer", "airflow-migrate"},
    # Reads everything.
    "airflow-metadata-reader": {"airflow-backup", "airflow-database-exporter", "airflow-migrate"},
}
"""Secrets with a login of the database that is not its owner's, and the pods that have it. The migration tries each."""


def test_a_login_of_the_database_is_where_it_is_used(charts: Charts) -> None:
    environment = charts.environment("prod")
    for secret, names in LOGINS.items():
        having = {pod.manifest.name for pod in environment.pods() if f'"{secret}"' in json.dumps(pod.spec)}
        assert {re.sub(r"(airflow-migrate)-.*", r"\1", name) for name in having} == names, secret


def test_a_component_has_one_address_of_the_database(charts: Charts) -> None:
    """Of two variables with one name Kubernetes takes the last, and server-side apply refuses the pod."""
    for pod in charts.environment("prod").pods():
        for container in policies.containers(pod):
            names = [variable["name"] for variable in container.spec.get("env") or []]
            assert len(names) == len(set(names)), container.where


CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
FERNET, API_KEY = "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY"
SIGNING, TRUSTED = "AIRFLOW__API_AUTH__JWT_PRIVATE_KEY_PATH", "AIRFLOW__API_AUTH__TRUSTED_JWKS_URL"
NEEDED = {
    "scheduler": (CONNECTION, FERNET, SIGNING),
    "apiServer": (CONNECTION, f"{CONNECTION}_ASYNC", FERNET, API_KEY, SIGNING, TRUSTED),
    "dagProcessor": (CONNECTION, FERNET),
    "triggerer": (CONNECTION, FERNET, API_KEY),
    "cleanup": (CONNECTION,),
    "databaseCleanup": (CONNECTION,),
}
"""What each component cannot do without, and has by its own list only."""


def env_of(component: str) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = read_values(ROOT / "values/base.yaml")["airflow"][component]["env"]
    return copy.deepcopy(env)


@pytest.mark.parametrize(("component", "name"), [(each, name) for each, names in NEEDED.items() for name in names])
def test_a_list_that_loses_what_its_component_needs_is_refused(render: Render, component: str, name: str) -> None:
    env = [each for each in env_of(component) if each["name"] != name]
    error = render("airflow-blue", {"airflow": {component: {"env": env}}}).error
    said = [f"airflow.{component}.env: {name} is not there", "repeat all entries of values/base.yaml"]
    assert [words for words in said if words not in error] == []


def changed(component: str, variable: str, **reference: str) -> dict[str, Any]:
    """Values in which a variable of a component is another one of its Secrets."""
    env = env_of(component)
    next(each for each in env if each["name"] == variable)["valueFrom"]["secretKeyRef"].update(reference)
    return {"airflow": {component: {"env": env}}}


def each_has(**keys: Any) -> dict[str, Any]:
    return {"airflow": keys}


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"global": {"secrets": {"metadataDagCode": "mine"}}}, ["metadataDagCode", "mine", "airflow-metadata-dag-code"]),
    (changed("dagProcessor", CONNECTION, name="airflow-metadata"), ["dagProcessor.env", "airflow-metadata/connection"]),
    (changed("cleanup", CONNECTION, key="connection-async"), ["cleanup.env", "airflow-metadata/connection-async"]),
    (changed("triggerer", FERNET, key="key"), ["triggerer.env", "airflow-fernet/key"]),
    (each_has(scheduler={"env": env_of("scheduler") * 2}), ["scheduler.env", "has to be there once"]),
    (each_has(cleanup={"env": None}), ["airflow.cleanup.env", f"{CONNECTION} is not there"]),
    *(
        (each_has(enableBuiltInSecretEnvVars={name: True}), [f"enableBuiltInSecretEnvVars.{name} is true"])
        for name in (CONNECTION, FERNET, API_KEY, "AIRFLOW_CONN_AIRFLOW_DB", "AIRFLOW__API_AUTH__JWT_SECRET")
    ),
    (
        each_has(secret=[{"envName": CONNECTION, "secretName": "airflow-metadata", "secretKey": "connection"}]),
        ["airflow.secret", CONNECTION],
    ),
    (each_has(extraEnv=f"- name: {CONNECTION}\n  value: a\n"), ["airflow.extraEnv", CONNECTION]),
    (each_has(env=[{"name": FERNET, "value": "a"}]), ["airflow.env", FERNET]),
]


@pytest.mark.parametrize(("values", "named"), REFUSED)
def test_values_that_give_a_component_another_login_are_refused(
    render: Render, values: dict[str, Any], named: list[str]
) -> None:
    answer = render("airflow-blue", values)
    assert answer.code != 0
    assert [word for word in named if word not in answer.error] == []


@pytest.mark.parametrize(
    "values",
    [
        each_has(cleanup={"enabled": False, "env": []}),
        each_has(scheduler={"env": [*env_of("scheduler"), {"name": "MORE", "value": "a"}]}),
        each_has(extraEnv="- name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS\n  value: a\n"),
        each_has(secret=[{"envName": "MORE", "secretName": "more", "secretKey": "more"}]),
    ],
)
def test_values_that_add_to_what_a_component_has_are_taken(render: Render, values: dict[str, Any]) -> None:
    answer = render("airflow-blue", values)
    assert answer.code == 0, answer.error


OWNERS = {
    "airflow-migrate",
    "airflow-rotate-fernet-key",
    "airflow-check-database-login",
    *(f"airflow-blue-{name}" for name in ("api-server", "cleanup", "database-cleanup", "scheduler")),
}
"""Pods with the login that owns the metadata database."""


@pytest.mark.parametrize("overlays", [(), ("oidc",)])
def test_the_owner_of_the_database_is_where_it_is_used(charts: Charts, overlays: tuple[str, ...]) -> None:
    environment = charts.environment("prod", *overlays)
    having = {pod.manifest.name for pod in environment.pods() if '"airflow-metadata"' in json.dumps(pod.spec)}
    assert {re.sub(r"(airflow-migrate)-.*", r"\1", name) for name in having} == OWNERS


@pytest.mark.parametrize("overlay", ["secrets-vault", "secrets-kubernetes"])
def test_a_secrets_backend_gives_nobody_a_right_to_pods(charts: Charts, overlay: str) -> None:
    """Its components have tokens, and DAG code runs in two of them."""
    found = rights(charts.environment("prod", overlay))
    for component in ("triggerer", "dag-processor"):
        lines = found.get(f"airflow-blue-{component}", set())
        assert not any(line.startswith("pods") for line in lines), lines


def test_root_file_systems_are_read_only(environment: Rendered) -> None:
    for pod in environment.pods():
        for container in policies.containers(pod):
            assert container.spec["securityContext"]["readOnlyRootFilesystem"] is True, container.where


def test_nobody_has_the_password_that_everybody_knows(environment: Rendered) -> None:
    """The official chart's own user is admin with the password admin."""
    for manifest in environment.manifests:
        assert not re.search(r"\badmin\W{1,4}admin\b", manifest.yaml()), manifest.identity


@pytest.mark.parametrize("key", ["pod", "containers"])
def test_pods_without_a_security_context_are_refused(render: Render, key: str) -> None:
    answer = render("airflow-platform", {"airflow": {"securityContexts": {key: None}}})
    assert answer.code != 0
    assert f"airflow.securityContexts.{key} is not set" in answer.error
