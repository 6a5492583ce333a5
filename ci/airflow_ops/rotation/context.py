"""The operations of rotation steps on an environment: change a Secret, restart the pods that read it, run a Job."""

import json
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_ops.cluster import jobs, rollouts
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import fail, out
from airflow_ops.environments.values import Values
from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until

Content = dict[str, str]
"""Content of a Secret by key."""
JOB_SECONDS = 1800
STORE_SECONDS = 3600
"""How long to wait until a person has put an entry into a store; running the command again waits again."""
ASK_SECONDS = 30
"""How often the operator of the store is asked to synchronise at once."""


@dataclass
class RotationContext:
    """An environment whose secrets are rotated.

    Attributes:
        cluster: The environment.
    """

    cluster: Cluster

    @property
    def values(self) -> Values:
        """Its values."""
        return self.cluster.environment.values

    def name(self, purpose: str) -> str:
        """Name of the Secret for a purpose, a key of `global.secrets`."""
        return self.cluster.environment.secret(purpose)

    def secret(self, purpose: str) -> Content:
        """Content of a Secret.

        Raises:
            ProblemError: It does not exist.
        """
        found = self.cluster.secret(self.name(purpose))
        if found is None:
            raise fail(
                f"Secret {self.name(purpose)} does not exist in {self.cluster.namespace}.",
                "Deploy first: a rotation only changes a Secret that exists.",
            )
        return found

    @property
    def is_external(self) -> bool:
        """Whether Secrets come from a store that this command cannot write."""
        return bool(self.values["platform"]["secrets"]["mode"] == "external")

    def change(self, purpose: str, change: Callable[[Content], Content]) -> None:
        """Change the content of a Secret.

        In mode `external` the content is written to a file that only this user can read, for the user to put it into
        the store; this waits until it has arrived in the Secret, and removes the file.

        Args:
            purpose: A key of `global.secrets`.
            change: Computes the new content from the present one. Must be idempotent: a rotation that was cut off
                repeats it.

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
                f"as the entry {entry}, replacing its whole content; this continues when it has arrived",
            )
            self._await_store(purpose, wanted, entry)
        file.unlink(missing_ok=True)

    def private_file(self, name: str) -> Path:
        """A file of this rotation that only this user can read; a new one is empty."""
        file = ROOT / f".local/rotation/{self.cluster.environment.name}" / name
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        return file

    def _await_store(self, purpose: str, wanted: Content, entry: str) -> None:
        asked = -float(ASK_SECONDS)

        def has_arrived() -> bool:
            nonlocal asked
            if self.secret(purpose) == wanted:
                return True
            if time.monotonic() - asked > ASK_SECONDS:
                asked = time.monotonic()
                now = f"force-sync={int(time.time())}"
                self.cluster.kubectl("annotate", "externalsecret", self.name(purpose), now, "--overwrite")
            return False

        if not wait_until(has_arrived, STORE_SECONDS, 2):
            raise fail(
                f"entry {entry} did not reach Secret {self.name(purpose)} in {STORE_SECONDS} s.",
                "Nothing has changed since the last recorded step. Put it into the store, then run this again.",
            )

    def restart(self, purpose: str) -> None:
        """Restart every workload that reads a Secret, and wait until no old pod is left.

        Raises:
            ProblemError: See `rollouts.restart_readers`.
        """
        rollouts.restart_readers(self.cluster, self.name(purpose))

    def run_in_readers(self, purpose: str, program: str) -> list[str]:
        """Run a Python program in the first container of each workload that reads a Secret; the last line of each."""
        return [
            self.cluster.kubectl("exec", name, "--container", container, "--", "python", "-c", program).splitlines()[-1]
            for name, container in (
                (rollouts.reference(each), each.spec.template.spec.containers[0].name)
                for each in rollouts.readers(self.cluster, self.name(purpose))
            )
        ]

    def run_job(self, cron_job: str, what: str) -> list[str]:
        """Run a suspended CronJob of the platform once, and wait for its end.

        Args:
            cron_job: Its name.
            what: What it does, for messages.

        Returns:
            The lines that it printed.

        Raises:
            ProblemError: It does not exist, fails or does not end.
        """
        found = jobs.cron_job(self.cluster, cron_job, "Deploy first: charts/platform brings it.")
        return jobs.run(self.cluster, jobs.from_cron_job(found, JOB_SECONDS), what)


def kebab(purpose: str) -> str:
    """A purpose as the name of its entry in a store: gitOrigin becomes git-origin."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in purpose)
