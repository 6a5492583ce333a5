"""Selectors of a PromQL expression."""

from airflow_ops.monitoring.promql import read


def test_a_selector_stays_what_it_is() -> None:
    for text in ('x{le=~"60(\\\\.0)?", a!="b", c!~"d|e"}', 'x{a="say \\"b\\""}'):
        assert str(read(f"rate({text}[5m])").selectors[0]) == text
