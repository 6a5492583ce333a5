"""What the policies take for a secret, and what not."""

import time

import pytest

from airflow_ops.checks.policies import CREDENTIALS_IN_URL, KEYS

TOKEN = "glpat-" + 20 * "a"


@pytest.mark.parametrize(
    "text", [f"https://{TOKEN}@git.example.com/dags.git", "https://x-token:abc@h/x", "redis://:abc@r/0", "http://abc@h"]
)
def test_a_login_in_an_address_is_found(text: str) -> None:
    assert CREDENTIALS_IN_URL.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://git@git.example.com/dags.git",
        "git@git.example.com:dags.git",
        "https://example.com:443/a@b",
        "https://$(USER)@example.com",
        "postgresql://airflow:$(PASSWORD)@db/airflow",
    ],
)
def test_a_name_without_password_is_none(text: str) -> None:
    assert not CREDENTIALS_IN_URL.search(text)


def test_a_token_is_found_wherever_it_stands() -> None:
    assert KEYS.search(f"token: {TOKEN}")
    assert not KEYS.search("token: glpat-short")


def test_a_long_text_is_looked_through_in_no_time() -> None:
    """The time does not grow with the square of the length, which takes hours for what a ConfigMap may hold."""
    began = time.process_time()
    assert not CREDENTIALS_IN_URL.search("a" * 1_000_000)
    assert not KEYS.search("a" * 1_000_000)
    assert time.process_time() - began < 10
