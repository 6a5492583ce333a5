"""Which DAG files the other colour's Airflow cannot import, before anything of it works."""

import json

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import fail
from airflow_ops.manifests.objects import Colour

DAG_PROCESSOR = "dag-processor"
SECONDS = 1800
"""Thousands of DAG files take minutes; a parse that hangs must not stop the upgrade for ever."""
PARSE = """
import json
import sys
from pathlib import Path

from airflow.dag_processing.bundles.manager import DagBundlesManager

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

broken = {}
for bundle in DagBundlesManager().get_all_dag_bundles():
    bundle.initialize()
    # The bundle's own folder is on the path while its DAGs are parsed, as in the DAG processor.
    sys.path.append(str(bundle.path))
    for path, why in DagBag(dag_folder=bundle.path).import_errors.items():
        path = Path(path)
        name = path.relative_to(bundle.path) if path.is_absolute() else path
        broken[f"{bundle.name}:{name}"] = (why.strip().splitlines() or [""])[-1]
print("broken: " + json.dumps(broken))
"""
"""Runs in a DAG processor's container, which has the bundles and their credentials; it writes no row."""


def broken_files(cluster: Cluster, colour: Colour) -> dict[str, str]:
    """The DAG files that a colour's Airflow cannot import, each with its bundle, and the last line of the error.

    Raises:
        ProblemError: No DAG processor of the colour runs, or the files cannot be read at all.
    """
    names = [pod.metadata.name for pod in live.pods(cluster, colour, DAG_PROCESSOR) if pod.status.phase == "Running"]
    if not names:
        raise fail(f"no DAG processor of {colour} runs.", "Look at its pods.")
    pod = names[0]
    words = ("exec", pod, "--container", DAG_PROCESSOR, "--", "python", "-c", PARSE)
    said = cluster.kubectl(*words, seconds=SECONDS)
    line = next((line for line in said.splitlines() if line.startswith("broken: ")), None)
    if line is None:
        raise fail(f"the DAG files of {colour} cannot be read: {said[-300:]}", f"Look at the log of {pod}.")
    found: dict[str, str] = json.loads(line.removeprefix("broken: "))
    return found


def check(cluster: Cluster, source: Colour, target: Colour) -> None:
    """Check that a colour's Airflow can import every DAG file that the present one can.

    Both parse them in the same way. That is not quite the DAG processor's, so only the difference counts.

    Args:
        cluster: The environment.
        source: The colour that works.
        target: The colour that is to work; its DAG processor waits.

    Raises:
        ProblemError: A file that the present one imports cannot be imported.
    """
    if not (broken := broken_files(cluster, target)):
        return
    before = broken_files(cluster, source)
    lost = {name: why for name, why in broken.items() if name not in before}
    if lost:
        shown = "; ".join(f"{name}: {why}" for name, why in list(lost.items())[:5])
        raise fail(
            f"{target} cannot import DAG files that {source} can: {shown}.",
            "Correct them: both versions have to be able to import every DAG file until the upgrade is promoted.",
        )
