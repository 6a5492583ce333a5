"""The running Airflow that a command asks: an environment on a cluster, or that of `make up`."""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_client.client import ApiClient

from airflow_ops.cluster import airflow_api
from airflow_ops.console import fail
from airflow_ops.local.processes import LocalProcesses
from airflow_ops.local.settings import USER, local_settings


@contextmanager
def running_airflow(environment: str | None, trial: list[str] | None = None) -> Iterator[ApiClient]:
    """A client of an environment's Airflow; of the Airflow on this machine where no environment is named.

    Raises:
        ProblemError: Airflow does not run, cannot be reached or refuses the login.
    """
    if environment is None:
        yield local_client()
        return
    from airflow_ops.cluster.connection import connect
    from airflow_ops.environments.environment import Environment

    with airflow_api.login(connect(Environment.load(environment, trial))) as client:
        yield client


def local_client() -> ApiClient:
    """A client of the Airflow of this machine.

    Raises:
        ProblemError: It does not run.
    """
    processes = LocalProcesses()
    port = processes.port()
    if port is None or "api-server" not in processes.alive():
        raise fail(
            "Airflow does not run on this machine.", "Start it with `make up`, or name an environment: --env dev."
        )
    settings = local_settings(port)
    return airflow_api.api_client(settings.url, USER, settings.password)
