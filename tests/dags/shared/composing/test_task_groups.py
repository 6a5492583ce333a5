"""Rules of task groups; whole groups are run by the tests of flights_build_marts and flights_train_delays."""

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from shared.composing.task_groups import COMPARISONS, QualityRule, require, share_without


@pytest.mark.parametrize(("comparison", "passing"), [(">=", {2, 3}), ("<=", {1, 2}), (">", {3}), ("<", {1})])
def test_a_rule_compares_as_it_says(comparison: Any, passing: set[int]) -> None:
    assert set(COMPARISONS) == {">=", "<=", ">", "<"}
    found = {n for n in (1, 2, 3) if QualityRule("n", len, 2, comparison).judge([{}] * n).passed}
    assert found == passing


def test_an_error_stops_and_a_warning_does_not() -> None:
    rule, nothing = share_without("a"), {"a": None}
    assert (rule([nothing, {"a": 1}]), rule([])) == (0.5, 0.0)
    warning = QualityRule("few", rule, 0.1, "<=", "warning").judge([nothing])
    assert not warning.passed
    require([warning])
    with pytest.raises(AirflowFailException, match="few is 1, wanted <= 0.1"):
        require([QualityRule("few", rule, 0.1, "<=").judge([nothing])])
