"""An import error, which is another one in the second round and is gone in the third."""

import os

from airflow.sdk import DAG  # noqa: F401  # else it is not taken for a file of DAGs

if os.environ["ROUND"] != "3":
    raise RuntimeError(f"broken in round {os.environ['ROUND']}")
