"""What a command remembers in a ConfigMap; a write fails if somebody else has written since the last read."""

from dataclasses import dataclass, field
from uuid import uuid4

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import NOT_FOUND, Cluster, existing
from airflow_ops.console import RefusalError

CONFLICT = 409
WRITER = "airflow-platform.io/writer"
"""Annotation of the ConfigMap: who wrote it last."""


@dataclass
class RecordedConfigMap:
    """A ConfigMap that one command at a time writes. It contains no secret.

    Attributes:
        cluster: The environment.
        name: Its name.
        what: What is recorded in it, for messages.
        writer: Tells the writes of this object from those of others.
    """

    cluster: Cluster
    name: str
    what: str
    writer: str = field(default_factory=lambda: uuid4().hex)
    _version: str | None = field(default=None, init=False)
    _writer: str = field(default="", init=False)

    def read(self) -> dict[str, str]:
        """Its content by key; empty where it does not exist."""
        stored = existing(self.cluster.core.read_namespaced_config_map, self.name, self.cluster.namespace)
        if stored is None:
            self._version = None
            return {}
        self._version = stored.metadata.resource_version
        self._writer = (stored.metadata.annotations or {}).get(WRITER, "")
        return dict(stored.data or {})

    def write(self, data: dict[str, str]) -> None:
        """Replace its content.

        Raises:
            ProblemError: Somebody else has written since it was read.
        """
        annotations = {WRITER: self.writer}
        metadata = client.V1ObjectMeta(name=self.name, resource_version=self._version, annotations=annotations)
        body = client.V1ConfigMap(metadata=metadata, data=data)
        api, namespace = self.cluster.core, self.cluster.namespace
        try:
            if self._version is None:
                written = api.create_namespaced_config_map(namespace, body)
            else:
                written = api.replace_namespaced_config_map(self.name, namespace, body)
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise
            if self.read() == data and self._writer == self.writer:
                return  # This very write was done, and its answer was lost.
            raise RefusalError(
                f"{self.what} is also run by somebody else: ConfigMap {self.name} has changed.",
                "Wait until that one has ended; then run this again if it is still needed.",
            ) from error
        self._version = written.metadata.resource_version
