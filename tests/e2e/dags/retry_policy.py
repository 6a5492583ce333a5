"""Takes the place of dags/shared/authoring/retry_policy.py while an Airflow runs that has no retry policies yet.

During an upgrade both versions read the same commit, so what only the newer one has must not be imported.
"""


class RetryWhatCanHeal:
    """Never asked: an Airflow without retry policies ignores the argument."""
