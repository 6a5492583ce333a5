"""What the Kubernetes API or the way to it refuses, as a problem that is printed without a traceback."""

import json

from airflow_client.client.exceptions import ApiException as AirflowApiException
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from airflow_ops.console import TRY_AGAIN, ProblemError, fail

TRANSIENT = (429, 500, 502, 503, 504)
"""Answers of a control plane that is busy, or is replaced."""


AIRFLOW_FIX = "Look at the log of its API server, then run the command again."


def as_problem(error: Exception) -> ProblemError | None:
    """The problem that an error is, or None where it is no answer of a cluster but a mistake in this command."""
    if isinstance(error, ApiException):
        said = f"the Kubernetes API answers {error.status} {error.reason}: {_said(error)}."
        return fail(said, _fix(error.status), TRY_AGAIN if error.status in TRANSIENT else 1)
    if isinstance(error, HTTPError):
        return fail(
            f"the Kubernetes API cannot be reached: {error}.", "Run the command again once it answers.", TRY_AGAIN
        )
    if isinstance(error, AirflowApiException):
        return fail(
            f"Airflow's REST API answers {error.status} {error.reason}: {_said_by_airflow(error)}.", AIRFLOW_FIX
        )
    if isinstance(error, ConfigException):
        return fail(f"kubeconfig cannot be used: {error}.", "Correct the file that KUBECONFIG names.", 2)
    return None


def _said(error: ApiException) -> str:
    """The message in the answer, which is a Status object, or else the text of a proxy on the way."""
    try:
        return str(json.loads(error.body)["message"]).rstrip(".")
    except (TypeError, ValueError, KeyError):
        return " ".join(str(error.body or "it gives no reason").split())[:300]


def _said_by_airflow(error: AirflowApiException) -> str:
    return " ".join(str(error.body or "it gives no reason").split())[:300]


def _fix(status: int) -> str:
    if status in (401, 403):
        return "Ask for that right, or renew the login of this context."
    return "Look at the cluster, then run the command again."
