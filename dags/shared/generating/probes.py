"""A DAG for each endpoint that Airflow's REST API names: it calls the endpoint and fails if that does not answer."""

from typing import Annotated, Any, ClassVar, Literal

from airflow.sdk import DAG
from pydantic import Field

from shared.generating.snapshot_dags import Snapshot, read_snapshot, snapshot_dag
from shared.generating.snapshots import Entries, Source

CONNECTION = "airflow_api"


class Probe(Snapshot):
    """A snapshot of one endpoint.

    Attributes:
        kind: `probe`.
        endpoint: Path below the connection `airflow_api`.
    """

    kind: Literal["probe"]
    endpoint: Annotated[str, Field(pattern="^/")]


def probe_dag(dag_file: str) -> DAG:
    """The DAG of one probe.

    Args:
        dag_file: The DAG's file, `__file__`.

    Raises:
        ValueError: Its snapshot is wrong; file and key are named.
    """
    from shared.calling.api_operator import RobustApiOperator

    probe = read_snapshot(dag_file, Probe)
    with snapshot_dag(dag_file, probe) as dag:
        RobustApiOperator(task_id="probe", conn_id=CONNECTION, endpoint=probe.endpoint)
    return dag


class Probes(Source):
    """The endpoints that the API names itself."""

    model: ClassVar[type[Snapshot]] = Probe
    builder: ClassVar[str] = "shared.generating.probes:probe_dag"

    def read(self) -> Entries:
        """A probe for each endpoint; asks the API, which needs no login for that."""
        from shared.watching import platform_api

        with platform_api.client() as api:
            return self.entries(api)

    def entries(self, api: Any) -> Entries:
        """A probe for each endpoint of version and health that takes neither parameters nor a login."""
        paths = api.get("/openapi.json").raise_for_status().json()["paths"]
        found = [
            path
            for path, ways in paths.items()
            if "get" in ways and "{" not in path and not ways["get"].get("security")
        ]
        return {
            f"{self.prefix}{path.rsplit('/', 1)[1].replace('-', '_')}": {
                **self.defaults("probe"),
                "endpoint": path,
                "schedule": None,
            }
            for path in sorted(found)
            if path.startswith("/api/v2/monitor/") or path == "/api/v2/version"
        }
