"""One operation at a time: a Lease that every command holds while it changes an environment."""

import contextlib
import getpass
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_ops.cluster.connection import NOT_FOUND, Cluster, existing
from airflow_ops.console import TRY_AGAIN, RefusalError, err, fail
from airflow_ops.waiting import wait_until

NAME = "airflow-operation"
VERB = "airflow-platform.io/verb"
"""Annotation of the Lease: the command that holds it."""
DURATION_SECONDS = 30
"""A Lease that has not changed for so long is held by nobody alive."""
RENEWAL_SECONDS = 5
CONFLICT = 409


@contextmanager
def hold(cluster: Cluster, verb: str) -> "Iterator[Holding]":
    """Hold the environment's Lease for the duration of a `with` block, and renew it meanwhile.

    Whether another holder is alive is seen from changes of the Lease, not from its times:
    clocks differ between machines.

    Args:
        cluster: The environment; its namespace must exist.
        verb: The command, as others are told.

    Yields:
        How it is held.

    Raises:
        ProblemError: Another operation runs; it is named, and the exit code is `TRY_AGAIN`. Or the Lease was lost
            meanwhile: the API could not be reached for `DURATION_SECONDS`, or somebody took the Lease.
    """
    holding = Holding(cluster, verb)
    holding.take()
    keeper = threading.Thread(target=holding.keep, daemon=True)
    keeper.start()
    try:
        with _ended_by_sigterm(holding):
            yield holding
    except KeyboardInterrupt as interrupt:
        if holding.lost:
            raise fail(
                f"{verb} was stopped: {holding.lost}.", "Run the same command again: it continues.", TRY_AGAIN
            ) from interrupt
        raise
    finally:
        holding.ended.set()
        keeper.join()
        holding.release()


@contextmanager
def _ended_by_sigterm(holding: "Holding") -> Iterator[None]:
    """Let SIGTERM end a `with` block as an error would, so that what it holds is released; also once the Lease is lost.

    Not SIGINT, which is ignored in commands that a script starts in the background.
    """

    def end(_number: int, _frame: Any) -> None:
        if holding.lost:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def current(cluster: Cluster) -> str:
    """Who holds the environment's Lease, for people; empty if nobody does. A holder that was killed is still named."""
    found = Holding(cluster, "").read()
    return holder(found) if found is not None and found.spec.holder_identity else ""


def holder(found: Any) -> str:
    """Who holds a Lease, for people: the verb, the holder and since when."""
    verb = (found.metadata.annotations or {}).get(VERB, "an operation")
    since = f" since {found.spec.acquire_time:%Y-%m-%d %H:%M:%S} UTC" if found.spec.acquire_time else ""
    return f"{verb} by {found.spec.holder_identity}{since}"


@dataclass
class Holding:
    """One command's hold on an environment's Lease.

    Attributes:
        cluster: The environment.
        verb: The command.
        identity: Who holds it.
        lost: Why it is not held any more; empty while it is.
        ended: Set at the end of the command.
    """

    cluster: Cluster
    verb: str
    identity: str = field(default_factory=lambda: f"{_user()}@{socket.gethostname()}/{os.getpid()}")
    lost: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    _held: Any = None
    """The Lease as it was written last. Its resourceVersion lets the next write fail if somebody else has written."""

    @cached_property
    def _api(self) -> Any:
        return client.CoordinationV1Api(self.cluster.client(retries=False))

    def take(self) -> None:
        """Take the Lease, from a holder that is no longer alive if need be."""
        found = self.read()
        if found is not None and found.spec.holder_identity:
            self._wait_for_change(found)
        now = _now()
        spec = client.V1LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=DURATION_SECONDS,
            acquire_time=now,
            renew_time=now,
        )
        version = found.metadata.resource_version if found else None
        metadata = client.V1ObjectMeta(name=NAME, annotations={VERB: self.verb}, resource_version=version)
        body = client.V1Lease(metadata=metadata, spec=spec)
        try:
            if found is None:
                self._held = self._api.create_namespaced_lease(self.cluster.namespace, body)
            else:
                self._held = self._write(body)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            raise self._refusal(self.read()) from error

    def read(self) -> Any:
        """The Lease; None where there is none."""
        read = self._api.read_namespaced_lease
        return existing(read, NAME, self.cluster.namespace, _request_timeout=RENEWAL_SECONDS)

    def _wait_for_change(self, found: Any) -> None:
        """Watch a Lease that somebody holds: return if it does not change, refuse if it does."""

        def changed() -> Any:
            now = self.read()
            return now if now is None or now.metadata.resource_version != found.metadata.resource_version else False

        with err.status(f"{holder(found)} holds the environment: is it alive?"):
            now = wait_until(changed, DURATION_SECONDS)
        if now is not False:
            raise self._refusal(now or found)
        err.print(f"note: {holder(found)} was not alive any more; its operation is taken over")

    def _refusal(self, found: Any) -> RefusalError:
        who = holder(found) if found and found.spec.holder_identity else "another operation"
        return RefusalError(
            f"{who} is changing {self.cluster.environment.name}; one operation runs at a time.",
            "Nothing was changed. Wait until it has ended, then run this again.",
        )

    def keep(self) -> None:
        """Renew the Lease until `ended`; interrupt the main thread once it is lost."""
        renewed = time.monotonic()
        while not self.ended.wait(RENEWAL_SECONDS):
            try:
                self._renew()
                renewed = time.monotonic()
            except (ApiException, HTTPError) as error:
                if getattr(error, "status", 0) in (NOT_FOUND, CONFLICT) and self._is_taken():
                    return self._lose("another operation took its Lease")
            # Others take the Lease once it has not changed for its duration, so this one must have stopped by then.
            if time.monotonic() - renewed > DURATION_SECONDS - 2 * RENEWAL_SECONDS:
                return self._lose("its Lease could not be renewed, because the Kubernetes API did not answer")
        return None

    def _is_taken(self) -> bool:
        """Whether somebody else holds it. Also an own write whose answer was lost makes the next one fail."""
        try:
            found = self.read()
        except (ApiException, HTTPError):
            return False
        if found is not None and found.spec.holder_identity == self.identity:
            self._held = found
            return False
        return True

    def _renew(self) -> None:
        self._held.spec.renew_time = _now()
        self._held = self._write(self._held)

    def _write(self, body: Any) -> Any:
        namespace = self.cluster.namespace
        return self._api.replace_namespaced_lease(NAME, namespace, body, _request_timeout=RENEWAL_SECONDS)

    def _lose(self, why: str) -> None:
        self.lost = why
        # The handler that `hold` has set ends the main thread, wherever it is.
        os.kill(os.getpid(), signal.SIGTERM)

    def release(self) -> None:
        """Let the next operation take the Lease at once."""
        if self.lost:
            return
        self._held.spec.holder_identity = ""
        self._held.metadata.annotations = {}
        with contextlib.suppress(ApiException, HTTPError):
            self._write(self._held)


def _now() -> datetime:
    """The time, never in whole seconds: the API server refuses a time without a fraction."""
    now = datetime.now(UTC)
    return now.replace(microsecond=max(now.microsecond, 1))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user need not have a name.
        return str(os.getuid())
