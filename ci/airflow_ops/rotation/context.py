"""What rotations need of an environment's cluster: its Secrets, the pods that read them, Jobs, and a note."""

import json
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import is_well, pod_evidence
from airflow_ops.console import ProblemError, err, fail, out
from airflow_ops.environments.values import Values
from airflow_ops.paths import ROOT
from airflow_ops.rotation.sequence import Note

Content = dict[str, str]
"""A Secret's content by key."""
ROLLOUT_SECONDS = 900
"""From one replaced pod to the next: a new node may have to come for the largest."""
JOB_SECONDS = 1800
STORE_SECONDS = 3600
"""How long to wait for a person who puts an entry into a store; run again, it waits anew."""
ASK_SECONDS = 30
"""How often the operator of the store is asked to look again."""
CONFLICT = 409


@dataclass
class Place:
    """An environment whose secrets are rotated.

    Attributes:
        cluster: The environment.
        values: Its values, the charts' defaults below.
    """

    cluster: Cluster
    values: Values

    @cached_property
    def apps(self) -> Any:
        """The Kubernetes API for Deployments and StatefulSets."""
        return client.AppsV1Api(self.cluster.core.api_client)

    def name(self, purpose: str) -> str:
        """Name of the Secret for a purpose of `global.secrets`."""
        return str(self.values["global"]["secrets"][purpose])

    def secret(self, purpose: str) -> Content:
        """Content of a Secret.

        Raises:
            ProblemError: It does not exist.
        """
        found = self.cluster.secret(self.name(purpose))
        if found is None:
            raise fail(
                f"Secret {self.name(purpose)} does not exist in {self.cluster.namespace}.",
                "A rotation changes what is there: deploy first.",
            )
        return found

    @property
    def is_external(self) -> bool:
        """Whether Secrets come from a store that this command cannot write."""
        return bool(self.values["platform"]["secrets"]["mode"] == "external")

    def change(self, purpose: str, change: Callable[[Content], Content]) -> None:
        """Bring a Secret to another content.

        In mode `external` the content is written to a file that only this user can read, and the person at the
        keyboard puts it into the store; this waits until it has arrived, and removes the file.

        Args:
            purpose: Of `global.secrets`.
            change: Gives the content wanted, from the present one. Given its own answer, it answers the same.

        Raises:
            ProblemError: The Secret does not exist, or the store's content does not arrive.
        """
        present = self.secret(purpose)
        if self.is_external:
            self._through_store(purpose, present, change)
        elif (wanted := change(present)) != present:
            data: dict[str, str | None] = {key: b64encode(text.encode()).decode() for key, text in wanted.items()}
            data |= dict.fromkeys(present.keys() - wanted.keys())
            self.cluster.core.patch_namespaced_secret(self.name(purpose), self.cluster.namespace, {"data": data})

    def _through_store(self, purpose: str, present: Content, change: Callable[[Content], Content]) -> None:
        file = self.private_file(f"{purpose}.json")
        wanted: Content = json.loads(file.read_text() or "{}") or change(present)
        if wanted != present:
            file.write_text(json.dumps(wanted))
            store = self.values["platform"]["secrets"]
            entry = f"{store['prefix']}/{kebab(purpose)}"
            out.print(
                f"put the content of {file.relative_to(ROOT)} into the store ({store['store']['name']}) "
                f"as the whole of entry {entry}; this goes on when it has arrived",
                highlight=False,
            )
            self._await_store(purpose, wanted, entry)
        file.unlink(missing_ok=True)

    def private_file(self, name: str) -> Path:
        """A file of this rotation that only this user can read; empty where it is new."""
        file = ROOT / f".local/rotation/{self.cluster.environment}" / name
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        return file

    def _await_store(self, purpose: str, wanted: Content, entry: str) -> None:
        end = time.monotonic() + STORE_SECONDS
        asked = -float(ASK_SECONDS)
        while self.secret(purpose) != wanted:
            if time.monotonic() > end:
                raise fail(
                    f"entry {entry} did not reach Secret {self.name(purpose)} in {STORE_SECONDS} s.",
                    "Nothing has changed since the last step that is noted: run the same command again.",
                )
            if time.monotonic() - asked > ASK_SECONDS:
                asked = time.monotonic()
                now = f"force-sync={int(time.time())}"
                self.cluster.kubectl("annotate", "externalsecret", self.name(purpose), now, "--overwrite")
            time.sleep(2)

    def restart(self, purpose: str) -> None:
        """Replace every pod of a Deployment or StatefulSet that reads a Secret, and wait until no old one is left.

        Raises:
            ProblemError: A new pod does not become ready; the old ones that are left go on.
        """
        readers = self._readers(self.name(purpose))
        names = [_reference(each) for each in readers]
        if not names:
            raise fail(
                f"no Deployment or StatefulSet of {self.cluster.namespace} reads Secret {self.name(purpose)}.",
                "Is the environment deployed, with the values of this checkout?",
            )
        # Lives in the pod template beside what Helm or Argo CD wrote; neither takes away what it did not write.
        self._restart(*names)
        for name, reader in zip(names, readers, strict=True):
            err.print(f"waits for {name}", highlight=False)
            self._await_rollout(name, reader)

    # Kubernetes refuses a second restart within a second: another rotation may have asked for the first.
    @retry(retry=retry_if_exception_type(ProblemError), stop=stop_after_delay(30), wait=wait_fixed(2), reraise=True)
    def _restart(self, *names: str) -> None:
        self.cluster.kubectl("rollout", "restart", *names)

    def _readers(self, secret: str) -> list[Any]:
        found = self.apps.list_namespaced_deployment(self.cluster.namespace).items
        found += self.apps.list_namespaced_stateful_set(self.cluster.namespace).items
        return [each for each in found if secret in named_secrets(each.spec.template.spec) and each.spec.replicas != 0]

    def _await_rollout(self, name: str, reader: Any) -> None:
        selector = ",".join(f"{key}={text}" for key, text in reader.spec.selector.match_labels.items())
        namespace = self.cluster.namespace
        try:
            self.cluster.kubectl("rollout", "status", name, f"--timeout={ROLLOUT_SECONDS}s")
        except Exception as error:
            found = self.cluster.core.list_namespaced_pod(namespace, label_selector=selector).items
            lines = [line for pod in found if not is_well(pod) for line in pod_evidence(self.cluster, pod)]
            raise fail(
                "\n".join([f"{name} does not become ready with the changed Secret: {error}", *lines]),
                "The step before is noted: mend what the lines above say, and run the same command again.",
            ) from error
        # A pod that ends still answers and still writes, with what it read at its start.
        end = time.monotonic() + ROLLOUT_SECONDS
        while any(
            pod.metadata.deletion_timestamp
            for pod in self.cluster.core.list_namespaced_pod(namespace, label_selector=selector).items
        ):
            if time.monotonic() > end:
                raise fail(f"an old pod of {name} does not end.", "Look at it, and run the same command again.")
            time.sleep(1)

    def ask(self, purpose: str, program: str) -> list[str]:
        """The last line that a Python program prints in the first container of each workload that reads a Secret."""
        return [
            self.cluster.kubectl("exec", name, "--container", container, "--", "python", "-c", program).splitlines()[-1]
            for name, container in (
                (_reference(each), each.spec.template.spec.containers[0].name)
                for each in self._readers(self.name(purpose))
            )
        ]

    def run_job(self, cron_job: str) -> str:
        """Run a suspended CronJob of the platform once, and wait.

        Returns:
            Its log.

        Raises:
            ProblemError: It is not there, fails or does not end; its pods tell why.
        """
        name = f"{cron_job}-{datetime.now(UTC):%Y%m%d%H%M%S}"
        self.cluster.kubectl("create", "job", name, f"--from=cronjob/{cron_job}")
        end = time.monotonic() + JOB_SECONDS
        selector = f"job-name={name}"
        while time.monotonic() < end:
            status = self.cluster.batch.read_namespaced_job_status(name, self.cluster.namespace).status
            ended = {c.type for c in status.conditions or [] if c.status == "True"}
            pods = self.cluster.core.list_namespaced_pod(self.cluster.namespace, label_selector=selector).items
            if "Complete" in ended:
                return "".join(self.cluster.log(pod.metadata.name) for pod in pods if pod.status.phase == "Succeeded")
            if "Failed" in ended:
                lines = [line for pod in pods for line in pod_evidence(self.cluster, pod)]
                raise fail(
                    "\n".join([f"Job {name} failed.", *lines]),
                    "Nothing was lost: mend what the lines above say, and run the same command again.",
                )
            time.sleep(1)
        raise fail(f"Job {name} does not end.", "Look at its pod, and run the same command again.")


def _reference(reader: Any) -> str:
    """A Deployment or StatefulSet as kubectl names it."""
    return f"{type(reader).__name__.removeprefix('V1').lower()}/{reader.metadata.name}"


def kebab(purpose: str) -> str:
    """A purpose as its entry in a store is named: gitOrigin is git-origin."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in purpose)


def named_secrets(spec: Any) -> set[str]:
    """Names of the Secrets that a pod reads, from the pod's spec as the Kubernetes client gives it."""
    names: set[str] = set()
    for container in [*(spec.init_containers or []), *spec.containers]:
        names |= {e.secret_ref.name for e in container.env_from or [] if e.secret_ref}
        names |= {
            e.value_from.secret_key_ref.name
            for e in container.env or []
            if e.value_from and e.value_from.secret_key_ref
        }
    for volume in spec.volumes or []:
        if volume.secret:
            names.add(volume.secret.secret_name)
        if volume.projected:
            names |= {source.secret.name for source in volume.projected.sources or [] if source.secret}
    return names


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
