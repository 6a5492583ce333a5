"""Train the model of delays on a month, and deploy it if it is good enough."""

from datetime import timedelta

import pendulum
from airflow.sdk import TriggerRule, dag, task

from flights.library import delay_model
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.composing.task_groups import ModelSteps, model_group


@dag(
    schedule=None,
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=default_args("flights", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### Train and deploy the model of delays

**Partition:** a month, `2013-01`, or any logical date in it. `data_preparation` stages the month's flights,
`model_training` fits and judges, `model_deployment` makes the model `models/flights_delay/deployed.json`.

**If `validate` fails** the model is right too seldom: nothing is registered, the deployed model stays. The bar is 0.85;
conf `{"min_accuracy": 0.8}` sets another. `remove_staging` runs whatever became of the rest, and fails nothing.
""",
)
def flights_train_delays() -> None:
    """Three groups in a group, and what tidies up after them."""

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def remove_staging() -> None:
        from shared.loading.staging import remove

        remove(delay_model.folder())

    steps = ModelSteps(**{name: getattr(delay_model, name) for name in ModelSteps.__dataclass_fields__})
    # A teardown: its success does not hide that the model failed.
    model_group("delays", steps, owner="flights") >> remove_staging().as_teardown()


flights_train_delays()
