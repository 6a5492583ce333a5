"""How far a rotation is, kept in a ConfigMap of the environment."""

from dataclasses import dataclass, field
from datetime import datetime

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail
from airflow_ops.rotation.sequence import Note

CONFLICT = 409


@dataclass
class ConfigMapNotebook:
    """The note of one kind's rotation, in ConfigMap airflow-rotation-<kind>; nothing in it is secret."""

    cluster: Cluster
    kind: str
    _version: str | None = field(default=None, init=False)

    @property
    def _name(self) -> str:
        return f"airflow-rotation-{self.kind}"

    def read(self) -> Note:
        """See `Notebook`."""
        try:
            found = self.cluster.core.read_namespaced_config_map(self._name, self.cluster.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            self._version = None
            return Note()
        self._version = found.metadata.resource_version
        data = found.data or {}
        times = {key: datetime.fromisoformat(data[key]) for key in ("at", "begun") if data.get(key)}
        return Note(data.get("done", ""), times.get("at"), times.get("begun"))

    def write(self, note: Note) -> None:
        """See `Notebook`."""
        data = {"done": note.done, "at": note.at, "begun": note.begun}
        body = client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name=self._name, resource_version=self._version),
            data={key: value if isinstance(value, str) else value.isoformat() for key, value in data.items() if value},
        )
        api, namespace = self.cluster.core, self.cluster.namespace
        try:
            if self._version is None:
                written = api.create_namespaced_config_map(namespace, body)
            else:
                written = api.replace_namespaced_config_map(self._name, namespace, body)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            raise fail(
                f"the rotation of {self.kind} is run by somebody else, too: ConfigMap {self._name} has changed.",
                "Let that one end; then run this again if it is still needed.",
            ) from error
        self._version = written.metadata.resource_version
