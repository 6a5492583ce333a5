"""How far a rotation is, kept in a ConfigMap of the environment."""

from dataclasses import dataclass, field
from datetime import datetime

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail
from airflow_ops.rotation.sequence import RotationState

CONFLICT = 409


@dataclass
class ConfigMapStore:
    """The state of one kind's rotation in ConfigMap airflow-rotation-<kind>; it contains no secret."""

    cluster: Cluster
    kind: str
    _version: str | None = field(default=None, init=False)

    @property
    def _name(self) -> str:
        return f"airflow-rotation-{self.kind}"

    def read(self) -> RotationState:
        """See `StateStore`."""
        try:
            found = self.cluster.core.read_namespaced_config_map(self._name, self.cluster.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            self._version = None
            return RotationState()
        self._version = found.metadata.resource_version
        data = found.data or {}
        times = {key: datetime.fromisoformat(data[key]) for key in ("at", "begun") if data.get(key)}
        return RotationState(data.get("done", ""), times.get("at"), times.get("begun"))

    def write(self, state: RotationState) -> None:
        """See `StateStore`."""
        data = {"done": state.done, "at": state.at, "begun": state.begun}
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
                f"the rotation of {self.kind} is also run by somebody else: ConfigMap {self._name} has changed.",
                "Wait until that one has ended; then run this again if it is still needed.",
            ) from error
        self._version = written.metadata.resource_version
