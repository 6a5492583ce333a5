"""The operations of rotation steps on an environment: change a Secret, restart the pods that read it, run a Job."""

import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import jobs, rollouts
from airflow_ops.cluster.config_map import CONFLICT
from airflow_ops.cluster.connection import Cluster, StoredSecret
from airflow_ops.console import RefusalError, fail, out
from airflow_ops.environments.values import Values
from airflow_ops.local.settings import write_private
from airflow_ops.paths import ROOT
from airflow_ops.rotation.entry_file import EntryFile
from airflow_ops.waiting import wait_until

Content = dict[str, str]
"""Content of a Secret by key."""
JOB_SECONDS = 1800
STORE_SECONDS = 3600
"""How long to wait until a person has put an entry into a store; running the command again waits again."""
ASK_SECONDS = 30
"""How often the operator of the store is asked to synchronise at once."""
LOOK_SECONDS = 2
"""Between two looks whether an entry has arrived."""


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
        return self._stored(purpose).content

    def _stored(self, purpose: str) -> StoredSecret:
        found = self.cluster.stored_secret(self.name(purpose))
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
                repeats it, and what it draws must be drawn only where it is not there yet.

        Raises:
            ProblemError: The Secret does not exist, or somebody else changes it meanwhile, or the store's content does
                not arrive.
        """
        present = self._stored(purpose)
        wanted = change(present.content)
        if self.is_external:
            self._through_store(purpose, present.content, wanted, change)
        elif wanted != present.content:
            self._patch(purpose, present, wanted)

    def _patch(self, purpose: str, present: StoredSecret, wanted: Content) -> None:
        """Write a Secret's new content, in the version that it was made from only."""
        data: dict[str, str | None] = {key: b64encode(text.encode()).decode() for key, text in wanted.items()}
        data |= dict.fromkeys(present.content.keys() - wanted.keys())
        body = {"metadata": {"resourceVersion": present.version}, "data": data}
        name = self.name(purpose)
        try:
            self.cluster.core.patch_namespaced_secret(name, self.cluster.namespace, body)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            if self.secret(purpose) == wanted:
                return  # This very patch was done, its answer was lost, and it was sent again.
            raise RefusalError(
                f"Secret {name} of {self.cluster.namespace} was changed by somebody else at this moment.",
                "Nothing was overwritten. Once nobody else changes it, run this again: it continues with this step.",
            ) from error

    def _through_store(
        self, purpose: str, present: Content, wanted: Content, change: Callable[[Content], Content]
    ) -> None:
        file = EntryFile(self._folder(), purpose, present)
        if wanted == present:
            file.discard()
            return
        for left in file.discard_others():
            out.print(f"discarded {left.relative_to(ROOT)}, made from other content: do not put it into the store")
        before = file.read()
        # Taken so that nothing is drawn twice, but not if it is another change's, as of a credential since corrected.
        if before is not None and before.keys() == wanted.keys() and change(before) == before:
            wanted = before
        else:
            file.write(wanted)
        store = self.values["platform"]["secrets"]
        out.print(
            f"put the content of {file.path.relative_to(ROOT)} into the store ({store['store']['name']}) "
            f"as the entry {self._entry(purpose)}, replacing its whole content; this continues when it has arrived",
        )
        self._await_store(purpose, file, wanted)
        file.discard()

    def _entry(self, purpose: str) -> str:
        """The entry of a Secret in the store."""
        return f"{self.values['platform']['secrets']['prefix']}/{kebab(purpose)}"

    def _folder(self) -> Path:
        """The folder of this environment's rotations, which only this user can read."""
        folder = ROOT / f".local/rotation/{self.cluster.environment.name}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def write_private(self, name: str, text: str) -> Path:
        """Write a file of this rotation that only this user can read; its path."""
        file = self._folder() / name
        write_private(file, text)
        return file

    def _await_store(self, purpose: str, file: EntryFile, wanted: Content) -> None:
        asked = -float(ASK_SECONDS)
        name, entry = self.name(purpose), self._entry(purpose)

        def has_arrived() -> bool:
            nonlocal asked
            now = self.secret(purpose)
            if now not in (wanted, file.present):
                raise fail(
                    f"Secret {name} has changed, and holds neither the former content nor that of "
                    f"{file.path.relative_to(ROOT)}.",
                    f"If that is a mistake, put the whole content of that file into entry {entry} now. Then run this "
                    "again: it starts from what the Secret holds, and discards the file.",
                )
            if now != wanted and time.monotonic() - asked > ASK_SECONDS:
                asked = time.monotonic()
                self.cluster.kubectl(
                    "annotate", "externalsecret", name, f"force-sync={int(time.time())}", "--overwrite"
                )
            return now == wanted

        if not wait_until(has_arrived, STORE_SECONDS, LOOK_SECONDS):
            raise fail(
                f"entry {entry} did not reach Secret {name} in {STORE_SECONDS} s.",
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
