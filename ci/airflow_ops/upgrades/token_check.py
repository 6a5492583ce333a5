"""Whether the other colour's API servers accept the tokens of the present one, before users and tasks are led there."""

from collections.abc import Iterator

import httpx

from airflow_ops.cluster import airflow_api
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.live import API_SERVER
from airflow_ops.console import ProblemError, err, fail, styled
from airflow_ops.manifests.objects import Colour

SECONDS = 120
"""To import Airflow in a pod, which takes 5 s where nothing else needs the processor."""
REFUSED = (401, 403)
REST, EXECUTION = "/api/v2/dags?limit=1", "/execution/dag-runs/count?dag_id=airflow"
SIGN = """
import uuid

from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
from airflow.configuration import conf

generator = JWTGenerator(
    valid_for=300,
    audience=conf.get_mandatory_list_value("execution_api", "jwt_audience")[0],
    issuer=conf.get("api_auth", "jwt_issuer", fallback=None),
    **get_signing_args(make_secret_key_if_needed=False),
)
print("token: " + generator.generate({"sub": str(uuid.uuid4())}))
"""
"""Runs in an API server's container, which renews tasks' tokens and so has the key: one as a scheduler signs it, of no
task."""


def check(cluster: Cluster, source: Colour, target: Colour) -> None:
    """Check that each API server of a colour accepts a user's and a task's token of the present one.

    Where the present one gives out no token, because nothing of it answers, there is nothing to keep: that is told.

    Args:
        cluster: The environment.
        source: The colour that users reach.
        target: The colour that they are to be led to.

    Raises:
        ProblemError: One refuses a token, or does not answer.
    """
    for path, token in _tokens(cluster, source):
        for pod in live.ready_api_servers(cluster, target):
            with cluster.forward(f"pod/{pod}", 8080) as url:
                _ask(pod, f"{url}{path}", token, source)


def _tokens(cluster: Cluster, source: Colour) -> Iterator[tuple[str, str]]:
    """A path of each API, with a token for it that a colour has signed."""
    for path, sign in ((REST, _user_token), (EXECUTION, _task_token)):
        try:
            yield path, sign(cluster, source)
        except (ProblemError, httpx.HTTPError) as error:
            why = getattr(error, "message", repr(error))
            err.print(styled("note", "yellow"), f"tokens of {source} for {path} are not tried: {why}")


def _user_token(cluster: Cluster, _source: Colour) -> str:
    with airflow_api.login(cluster) as client:
        token: str = client.configuration.access_token
    return token


def _task_token(cluster: Cluster, source: Colour) -> str:
    servers = live.ready_api_servers(cluster, source)
    if not servers:
        raise fail(f"no API server of {source} is ready.", "Look at its pods.")
    words = ("exec", servers[0], "--container", API_SERVER, "--", "python", "-c", SIGN)
    for line in cluster.kubectl(*words, seconds=SECONDS).splitlines():
        if line.startswith("token: "):
            return line.removeprefix("token: ")
    raise fail(f"{servers[0]} gives no token.", "Look at its log.")


def _ask(pod: str, url: str, token: str, source: Colour) -> None:
    try:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    except httpx.HTTPError as error:
        raise fail(f"{pod} does not answer: {error!r}.", "Look at its log.") from error
    if answer.status_code in REFUSED:
        raise fail(
            f"{pod} refuses a token that {source} signed: status {answer.status_code} of {answer.url.path}.",
            "Users would have to log in again, and running tasks would fail. Both colours need the keys of one "
            "Secret (global.secrets.jwt) and the same issuer and audience of tokens.",
        )
    if answer.is_server_error:
        raise fail(f"{pod} answers status {answer.status_code} to {answer.url.path}.", "Look at its log.")
