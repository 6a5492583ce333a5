"""A small model of delays: will a flight that has just left arrive more than a quarter of an hour late?

Ridge regression of the delay on arrival, by least squares, on what is known at departure. The image holds no library
for machine learning, and this needs none. Labels: a flight is late from 15 minutes on, as the US Department of
Transportation counts it.
"""

import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from shared.authoring.partitions import MONTH, month_of, next_month
from shared.loading.staging import read_parquet, run_folder, storage, try_folder, write_parquet, write_text
from shared.loading.warehouse import query, warehouse_hook

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

log = logging.getLogger(__name__)

LATE_MINUTES = 15.0
FEATURES = ("dep_delay", "distance", "hour")
MIN_ACCURACY = 0.85
"""Share of right answers below which no model is deployed (Airflow field guides)."""
STRENGTHS = (0.0, 1.0, 10.0, 100.0, 1000.0)
PARTS = {"train": 0.6, "tune": 0.2, "test": 0.2}
SEED = 2013
SQL = """SELECT dep_delay, distance, hour, arr_delay FROM flights
    WHERE local_date >= ? AND local_date < ? ORDER BY local_date, time_hour, carrier, flight"""

Step = dict[str, Any]
"""What one step passes to the next: URIs and figures, not rows."""


def extract_features(_: None) -> Step:
    """Stage the month's flights as the model sees them."""
    import pyarrow as pa

    month = month_of(get_current_context())
    rows = query(warehouse_hook(), SQL, [month.isoformat(), next_month(month).isoformat()])
    if not rows:
        raise AirflowFailException(f"no flight of {month:{MONTH}} is loaded: run flights_ingest_daily for its days.")
    return {"month": month.strftime(MONTH), "rows": len(rows), "uri": _stage(pa.Table.from_pylist(rows), "features")}


def clean_data(step: Step) -> Step:
    """Leave out flights that never left or never arrived: they have no delay."""
    table = _staged(step["uri"]).drop_null()
    return {**step, "rows": table.num_rows, "uri": _stage(table, "clean")}


def split_data(step: Step) -> Step:
    """Split the rows at random, but always the same way, into those to train, to tune and to test."""
    import numpy as np

    table = _staged(step["uri"])
    order, uris, start = np.random.default_rng(SEED).permutation(table.num_rows), {}, 0
    for part, share in PARTS.items():
        end = start + round(share * table.num_rows)
        uris[part] = _stage(table.take(order[start:end]), part)
        start = end
    return {**step, "uris": uris}


def train(step: Step) -> Step:
    """Fit one candidate for each strength of the penalty."""
    x, y = _arrays(step["uris"]["train"])
    return {**step, "candidates": [fit(x, y, strength) for strength in STRENGTHS]}


def tune(step: Step) -> Step:
    """Keep the candidate that is right most often on rows that it was not fitted to."""
    x, y = _arrays(step["uris"]["tune"])
    best = max(step["candidates"], key=lambda model: accuracy(model, x, y))
    return {**{key: value for key, value in step.items() if key != "candidates"}, "model": best}


def validate(step: Step) -> Step:
    """Judge the model on rows that nothing has seen; the run's conf may ask for another `min_accuracy`.

    Raises:
        AirflowFailException: It is right too seldom, or no more often than always saying the commoner answer.
    """
    x, y = _arrays(step["uris"]["test"])
    found, late = accuracy(step["model"], x, y), float((y > LATE_MINUTES).mean())
    constant = max(late, 1 - late)
    wanted = float((get_current_context()["dag_run"].conf or {}).get("min_accuracy", MIN_ACCURACY))
    log.info("accuracy %.4f, wanted %g; always the commoner answer: %.4f", found, wanted, constant)
    if found < wanted or found <= constant:
        raise AirflowFailException(
            f"not deployed: accuracy {found:.4f} is below {wanted:g}, or no better than {constant:.4f}, "
            "that of always saying the commoner answer."
        )
    return {**step, "accuracy": found}


def register(step: Step) -> Step:
    """Keep the model under the run's own name, whether or not it is ever deployed."""
    path = storage("models", "flights_delay", step["month"], f"{run_name()}.json")
    write_text(json.dumps({**step["model"], "month": step["month"], "accuracy": step["accuracy"]}), path)
    return {**step, "artefact": str(path)}


def deploy(step: Step) -> Step:
    """Make the registered model the one that is used."""
    write_text(ObjectStoragePath(step["artefact"]).read_text(), deployed())
    return step


def test_endpoint(step: Step) -> Step:
    """Ask the deployed model as its users do: its answers must be those that were judged.

    Raises:
        AirflowFailException: They are not.
    """
    model = json.loads(deployed().read_text())
    x, y = _arrays(step["uris"]["test"])
    if abs(accuracy(model, x, y) - step["accuracy"]) > 1e-9:
        raise AirflowFailException(f"{deployed()} is not the model of this run: was another one deployed meanwhile?")
    return {"artefact": step["artefact"], "accuracy": step["accuracy"], "rows": step["rows"]}


def fit(x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", strength: float) -> Step:
    """Weights of a ridge regression on standardised features.

    Args:
        x: Features, one row a flight, columns as `FEATURES`.
        y: Delay on arrival in minutes.
        strength: Of the penalty; 0 is plain least squares.
    """
    import numpy as np

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale == 0, 1.0, scale)
    design = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    penalty = strength * np.eye(design.shape[1])
    penalty[0, 0] = 0.0  # the intercept is not shrunk
    weights, *_ = np.linalg.lstsq(design.T @ design + penalty, design.T @ y, rcond=None)
    return {"weights": weights.tolist(), "mean": mean.tolist(), "scale": scale.tolist(), "strength": strength}


def predict(model: Step, x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Delay on arrival in minutes, one a row of `x`."""
    import numpy as np

    weights = np.asarray(model["weights"])
    standard = (x - np.asarray(model["mean"])) / np.asarray(model["scale"])
    found: np.ndarray[Any, Any] = weights[0] + standard @ weights[1:]
    return found


def accuracy(model: Step, x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]") -> float:
    """Share of flights (0 to 1) of which the model says rightly whether they arrive late."""
    return float(((predict(model, x) > LATE_MINUTES) == (y > LATE_MINUTES)).mean())


def deployed() -> ObjectStoragePath:
    """Where the model in use lies."""
    return storage("models", "flights_delay", "deployed.json")


def run_name() -> str:
    """The run's id as a file name."""
    from shared.loading.staging import safe_name

    return safe_name(get_current_context()["run_id"])


def folder() -> ObjectStoragePath:
    """The run's staged files."""
    context = get_current_context()
    return run_folder(context["dag"].dag_id, context["run_id"])


def _stage(table: "pa.Table", name: str) -> str:
    with try_folder(get_current_context()) as mine:
        path = mine / f"{name}.parquet"
        write_parquet(table, path)
    return str(path)


def _staged(uri: str) -> "pa.Table":
    return read_parquet(ObjectStoragePath(uri))


def _arrays(uri: str) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    import numpy as np

    table = _staged(uri)
    columns = [table.column(name).to_numpy().astype(float) for name in FEATURES]
    return np.column_stack(columns), table.column("arr_delay").to_numpy().astype(float)
