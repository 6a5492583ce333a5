"""Rotation of the key that signs tokens: both keys are trusted until the last token of the old one has ended."""

import base64
import hashlib
import json
import time
import uuid
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm

from airflow_ops.console import fail
from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "jwt"
KEY = "private-key"
"""The private key with which API servers and schedulers sign, PEM."""
TRUSTED = "jwks"
"""The public keys that API servers trust, a JWKS."""
NEXT = "next-private-key"
"""The new private key until it signs; no pod mounts it."""
MARGIN_SECONDS = 30
"""Added to a token's lifetime: Airflow's `api_auth.jwt_leeway` (10), and differences between clocks."""
LIFETIMES = """\
from airflow.configuration import conf
print(max(conf.getfloat("execution_api", "jwt_expiration_time"), conf.getfloat("scheduler", "task_queued_timeout")))
"""
"""Prints the longer lifetime of a running and of a queued task's token (airflow.executors.workloads.base)."""


def new_key() -> str:
    """A new private key, PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public(private_key: str) -> dict[str, Any]:
    """The public half of a private key as JWK; `kid` is the thumbprint (RFC 7638) that Airflow writes into tokens."""
    key = load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise fail(
            f"{KEY} of the JWT Secret is not an Ed25519 key.", "Make it with `openssl genpkey -algorithm ed25519`."
        )
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    digest = hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest()
    return jwk | {"kid": base64.urlsafe_b64encode(digest).decode().rstrip("=")}


def trusted(*private_keys: str) -> str:
    """The JWKS of some private keys."""
    return json.dumps({"keys": [public(key) for key in private_keys]})


def add(present: Content) -> Content:
    """Add a new key that is trusted; the old one still signs."""
    if NEXT in present:
        return present
    if KEY not in present:
        raise fail(
            f"the JWT Secret has no {KEY}: a shared `jwt-secret` cannot be rotated under running tasks.",
            "Deploy first with this version; charts/platform/README.md says what the Secret must hold.",
        )
    new = new_key()
    return present | {NEXT: new, TRUSTED: trusted(present[KEY], new)}


def sign(present: Content) -> Content:
    """Let the new key sign; the old one is still trusted."""
    if NEXT not in present:
        return present
    return {key: text for key, text in present.items() if key != NEXT} | {KEY: present[NEXT]}


def drop(present: Content) -> Content:
    """Trust only the new key."""
    return present | {TRUSTED: trusted(present[KEY])}


def token(private_key: str) -> str:
    """A token like that of a running task, for a task that does not exist."""
    now = int(time.time())
    claims = {"sub": str(uuid.uuid4()), "aud": "urn:airflow.apache.org:task", "scope": "execution"}
    claims |= {"jti": uuid.uuid4().hex}
    return jwt.encode(
        claims | {"iat": now, "nbf": now, "exp": now + 60}, private_key, "EdDSA", {"kid": public(private_key)["kid"]}
    )


def steps(context: RotationContext, wait: float) -> list[Step]:
    """The steps. At every moment, every API server trusts the key that signs.

    Args:
        context: The environment.
        wait: For how many seconds at least the old key is trusted after it has stopped signing.
    """

    def check_token(key: str) -> None:
        with context.cluster.forward("airflow", 8080) as url:
            answer = httpx.get(
                f"{url}/execution/variables/airflow-rotation",
                headers={"Authorization": f"Bearer {token(context.secret(PURPOSE)[key])}"},
                timeout=60,
            )
        # The variable does not exist: an accepted token gets a 404, a refused one another status.
        if answer.status_code not in (200, 404):
            raise fail(
                f"the API server does not accept a token of {key}: {answer.status_code} {answer.text[:200]}",
                "Check that it reads the Secret that global.secrets.jwt names. Nothing signs with that key yet.",
            )

    def lifetime() -> float:
        return max(wait, *(float(text) for text in context.run_in_readers(PURPOSE, LIFETIMES))) + MARGIN_SECONDS

    return [
        Step("add", "make the new key and add it to the trusted ones", lambda: context.change(PURPOSE, add)),
        Step("added", "restart every API server, to trust both keys", lambda: context.restart(PURPOSE)),
        Step("probe", "send a request with a token of the new key", lambda: check_token(NEXT)),
        Step("sign", "make the new key the one that signs", lambda: context.change(PURPOSE, sign)),
        Step("signed", "restart every component, to sign with it", lambda: context.restart(PURPOSE)),
        Step("expire", "wait until the last token of the old key has expired", lambda: None, lifetime),
        Step("drop", "remove the old key from the trusted ones", lambda: context.change(PURPOSE, drop)),
        Step("dropped", "restart every API server, to trust the new key alone", lambda: context.restart(PURPOSE)),
        Step("accepted", "send a request with a token of the new key again", lambda: check_token(KEY)),
    ]
