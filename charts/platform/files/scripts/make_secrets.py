"""Make the Secrets of an environment once: add what is missing, never change what is there.

Runs as a Job in environments with `platform.secrets.mode: generated`. Reads what is wanted from the JSON file named by
its argument: `namespace`, `secrets` (name of each Secret by purpose), `connections` and `users` (names).
"""

import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm

Secrets = dict[str, dict[str, str]]
"""Content of Secrets by purpose and key."""


class Wanted(TypedDict):
    """What the Secrets have to hold.

    Attributes:
        namespace: Where they are.
        secrets: Name of each Secret by purpose, as in `global.secrets`.
        connections: Ids of the Airflow connections.
        users: Names of the Airflow users.
    """

    namespace: str
    secrets: dict[str, str]
    connections: list[str]
    users: list[str]


def password() -> str:
    """A new password of 32 characters that needs no quoting anywhere."""
    return secrets.token_hex(16)


def connection(kind: str, **fields: Any) -> str:
    """An Airflow connection as JSON, the form that needs no quoting."""
    return json.dumps({"conn_type": kind, **fields}, sort_keys=True)


def database_url(driver: str, secret: str, user: str = "airflow", database: str = "airflow") -> str:
    """A database's address for a SQLAlchemy driver; the metadata database's by default."""
    return f"postgresql+{driver}://{user}:{quote(secret, safe='')}@airflow-database:5432/{database}"


def login(found: dict[str, str], role: str, keys: list[str]) -> dict[str, str]:
    """A login of the metadata database under several keys; what is added gets the login that is there, if there is one.

    Args:
        found: Content of its Secret.
        role: The role that it has at first.
        keys: Keys with its address.
    """
    present = urlsplit(found.get("connection-direct", ""))
    address = database_url("psycopg2", unquote(present.password or "") or password(), present.username or role)
    return dict.fromkeys(keys, address)


def private_key() -> str:
    """A new key to sign tokens with, PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwks(private: str) -> str:
    """The JWKS that trusts a private key; `kid` is the thumbprint that Airflow writes into tokens (RFC 7638)."""
    key = load_pem_private_key(private.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"the private key is not an Ed25519 key but {type(key).__name__}")
    jwk: dict[str, str] = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    digest = hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest()
    return json.dumps({"keys": [jwk | {"kid": base64.urlsafe_b64encode(digest).decode().rstrip("=")}]})


def missing(wanted: Wanted, found: Secrets) -> Secrets:
    """What has to be added.

    Args:
        wanted: What the Secrets have to hold.
        found: What they hold, by purpose; a Secret that does not exist is left out.

    Returns:
        Keys to add, by purpose; purposes that lack nothing are left out.
    """
    database = {name: password() for name in ("postgres", "airflow", "warehouse")} | found.get("database", {})
    users = {name: password() for name in wanted["users"]} | found.get("users", {})
    # A rotation gives Airflow another login than the first one.
    present = urlsplit(found.get("metadata", {}).get("connection-direct", ""))
    entry = {"secret": unquote(present.password or "") or database["airflow"], "user": present.username or "airflow"}
    signing = found.get("jwt", {}).get("private-key") or private_key()
    connections = {
        "warehouse": lambda: connection(
            "postgres", host="airflow-database", port=5432, schema="warehouse", login="warehouse",
            password=database["warehouse"],
        ),
        "airflow_api": lambda: connection(
            "http", schema="http", host="airflow", port=8080, login="platform", password=users["platform"]
        ),
    }  # fmt: skip
    complete: Secrets = {
        "database": database,
        "users": users,
        "metadata": {
            "connection": database_url("psycopg2", **entry),
            "connection-async": database_url("psycopg", **entry),
            "connection-direct": database_url("psycopg2", **entry),
            "connection-admin": database_url("psycopg2", database["postgres"], "postgres", "postgres"),
        },
        "metadataReader": login(found.get("metadataReader", {}), "airflow_reader", ["connection-direct"]),
        "metadataDagCode": login(
            found.get("metadataDagCode", {}), "airflow_dag_code", ["connection", "connection-direct"]
        ),
        "fernet": {"fernet-key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()},
        "jwt": {"private-key": signing, "jwks": jwks(signing)},
        "api": {"api-secret-key": secrets.token_urlsafe(32)},
        "backup": {"backup-key": secrets.token_hex(32)},
        "git": {"AIRFLOW_CONN_PLATFORM_GIT": connection("git", host="git://airflow-git/dags.git")},
        "connections": {f"AIRFLOW_CONN_{name.upper()}": connections[name]() for name in wanted["connections"]},
    }
    lacking = {
        purpose: {key: value for key, value in content.items() if key not in found.get(purpose, {})}
        for purpose, content in complete.items()
        if purpose in wanted["secrets"]
    }
    return {purpose: content for purpose, content in lacking.items() if content or purpose not in found}


def main(path: str) -> None:
    """Bring the cluster's Secrets up to what the file wants, and print what was added, without any content."""
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException

    wanted: Wanted = json.loads(Path(path).read_text())
    config.load_incluster_config()
    api = client.CoreV1Api()
    found: Secrets = {}
    for purpose, name in wanted["secrets"].items():
        try:
            data = api.read_namespaced_secret(name, wanted["namespace"]).data or {}
        except ApiException as error:
            if error.status != 404:
                raise
            continue
        found[purpose] = {key: base64.b64decode(value).decode() for key, value in data.items()}
    for purpose, content in missing(wanted, found).items():
        name = wanted["secrets"][purpose]
        body = client.V1Secret(metadata=client.V1ObjectMeta(name=name), string_data=content)
        if purpose in found:
            api.patch_namespaced_secret(name, wanted["namespace"], body)
        else:
            api.create_namespaced_secret(wanted["namespace"], body)
        print(f"Secret {name}: added {', '.join(sorted(content)) or 'nothing'}")
    print("Every Secret is there.")


if __name__ == "__main__":
    main(sys.argv[1])
