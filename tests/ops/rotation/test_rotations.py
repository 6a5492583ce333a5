"""Rotations: nobody meets a key it does not know, wherever they are cut off."""

import base64
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from airflow_ops.console import ProblemError
from airflow_ops.rotation import api, database, fernet, git, jwt, sequence
from airflow_ops.rotation.command import Kind
from airflow_ops.rotation.context import Content
from airflow_ops.rotation.sequence import RotationState, Step
from support.rotation_fakes import CutOffError, FakeContext, FakeStore, interruptions

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def run_to_the_end(kind: str, context: FakeContext, steps: list[Step], store: FakeStore | None = None) -> None:
    store = store or FakeStore()
    try:
        sequence.run(kind, steps, store)
    except CutOffError:
        sequence.run(kind, steps, store)


def fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def every_pod_reads_what_any_pod_writes(pods: list[dict[str, Any]]) -> None:
    def of(pod: dict[str, Any]) -> MultiFernet:
        return MultiFernet([Fernet(key) for key in pod["fernet"]["fernet-key"].split(",")])

    for writer, reader in product(pods, pods):
        of(reader).decrypt(of(writer).encrypt(b"kwargs of a trigger"))


def rotate_fernet(cut_at: int | None) -> FakeContext:
    context = FakeContext({"fernet": {"fernet-key": fernet_key()}}, every_pod_reads_what_any_pod_writes, cut_at)
    run_to_the_end("fernet", context, fernet.steps(context))  # type: ignore[arg-type]
    return context


def test_fernet_is_read_by_everybody_at_every_moment_and_wherever_it_is_cut_off() -> None:
    for context in interruptions(rotate_fernet):
        assert context.secrets["fernet"].keys() == {"fernet-key"}
        assert len(context.secrets["fernet"]["fernet-key"]) == 44, "one key is left"
        assert {pod["fernet"]["fernet-key"] for pod in context.read.values()} == {
            context.secrets["fernet"]["fernet-key"]
        }
        assert "run airflow-rotate-fernet-key" in context.actions


def test_fernet_has_another_key_in_the_end() -> None:
    old = fernet_key()
    context = FakeContext({"fernet": {"fernet-key": old}})
    sequence.run("fernet", fernet.steps(context), FakeStore())  # type: ignore[arg-type]
    new = Fernet(context.secrets["fernet"]["fernet-key"])
    with pytest.raises(InvalidToken):
        new.decrypt(Fernet(old).encrypt(b"x"))


def test_a_fernet_key_that_led_at_once_would_be_seen() -> None:
    """The invariant can fail: `new,old` at once is what a pod that is not replaced yet cannot read."""
    context = FakeContext({"fernet": {"fernet-key": fernet_key()}}, every_pod_reads_what_any_pod_writes)
    context.change("fernet", lambda present: fernet.promote(fernet.add(present)))
    with pytest.raises(InvalidToken):
        context.restart("fernet")


def rotate_api(cut_at: int | None) -> FakeContext:
    context = FakeContext({"api": {"api-secret-key": "old", "other": "kept"}}, cut_at=cut_at)
    run_to_the_end("api", context, api.steps(context))  # type: ignore[arg-type]
    return context


def test_every_component_has_the_same_new_api_key_wherever_it_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def draw(size: int) -> str:
        keys.append(f"{len(keys)} {'x' * size}")
        return keys[-1]

    monkeypatch.setattr(api.secrets, "token_urlsafe", draw)
    for number, context in enumerate(interruptions(rotate_api), 1):
        new = context.secrets["api"]
        assert new == {"api-secret-key": keys[-1], "other": "kept"}
        assert all(pod["api"] == new for pod in context.read.values())
        assert len(keys) == number, "what one attempt has drawn, the next one uses"


def jwt_secret() -> dict[str, str]:
    key = jwt.new_key()
    return {"private-key": key, "jwks": jwt.trusted(key)}


CHANGES: dict[str, tuple[Content, list[Callable[[Content], Content]]]] = {
    "api": ({"api-secret-key": "old", "other": "kept"}, [api.add, api.replace]),
    "fernet": ({"fernet-key": "old"}, [fernet.add, fernet.promote, fernet.drop]),
    "jwt": (jwt_secret(), [jwt.add, jwt.sign, jwt.drop]),
    "database": ({"connection-direct": "postgresql://airflow:old@h/airflow"}, [database.add, database.switch]),
    "git": ({"password": "old"}, [partial(git.add, new={"password": "new"}), git.swap]),
}
"""The content of a Secret before a rotation, and the changes in their order."""


def test_every_kind_is_checked_for_changes_that_can_be_repeated() -> None:
    assert CHANGES.keys() == set(Kind)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_that_is_repeated_changes_nothing_more(kind: str) -> None:
    """A step that was cut off after its change is run again: what it has drawn must not be drawn anew."""
    before, changes = CHANGES[kind]
    content = dict(before)
    for change in changes:
        changed = change(content)
        assert change(changed) == changed, change
        content = changed
    assert content != before
    assert content.keys() == before.keys()


def every_api_server_trusts_every_signer(pods: list[dict[str, Any]]) -> None:
    for signer, verifier in product(pods, pods):
        token = jwt.token(signer["jwt"]["private-key"])
        keys = pyjwt.PyJWKSet.from_dict(json.loads(verifier["jwt"]["jwks"]))
        key = keys[pyjwt.get_unverified_header(token)["kid"]]
        pyjwt.decode(token, key, audience="urn:airflow.apache.org:task")


def jwt_steps(context: FakeContext, wait: float = 0) -> list[Step]:
    return [step for step in jwt.steps(context, wait) if step.name not in ("probe", "accepted")]  # type: ignore[arg-type]


def rotate_jwt(cut_at: int | None) -> FakeContext:
    context = FakeContext({"jwt": jwt_secret()}, every_api_server_trusts_every_signer, cut_at)
    run_to_the_end("jwt", context, jwt_steps(context))
    return context


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt, "MARGIN_SECONDS", 0)


@pytest.mark.usefixtures("no_margin")
def test_jwt_is_trusted_by_everybody_at_every_moment_and_wherever_it_is_cut_off() -> None:
    for context in interruptions(rotate_jwt):
        assert context.secrets["jwt"].keys() == {"private-key", "jwks"}
        assert json.loads(context.secrets["jwt"]["jwks"])["keys"] == [jwt.public(context.secrets["jwt"]["private-key"])]
        assert all(pod["jwt"] == context.secrets["jwt"] for pod in context.read.values())


def test_the_old_jwt_key_is_trusted_for_the_life_of_a_token_counted_from_the_last_pod_that_signed_with_it() -> None:
    context = FakeContext({"jwt": jwt_secret()}, answers=["600", "1200"])
    assert _wait(jwt_steps(context)) == 1230
    assert _wait(jwt_steps(context, wait=86400)) == 86430


def _wait(steps: list[Step]) -> float:
    step = next(step for step in steps if step.name == "expire")
    assert step.wait is not None
    return step.wait()


def test_kid_is_the_one_that_airflow_writes_into_tokens() -> None:
    from airflow.api_fastapi.auth.tokens import key_to_jwk_dict
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = jwt.new_key()
    assert jwt.public(key) == key_to_jwk_dict(load_pem_private_key(key.encode(), None))  # type: ignore[arg-type]


def test_a_shared_jwt_secret_is_refused_before_anything_changes() -> None:
    context = FakeContext({"jwt": {"jwt-secret": "x"}})
    with pytest.raises(ProblemError, match="has no private-key"):
        sequence.run("jwt", jwt_steps(context), FakeStore())
    assert context.actions == []


def test_a_rotation_goes_on_after_the_last_step_that_is_noted() -> None:
    ran: list[str] = []
    steps = [Step(name, name, lambda name=name: ran.append(name)) for name in ("a", "b", "c")]  # type: ignore[misc]
    store = FakeStore(RotationState("a", LONG_AGO, LONG_AGO))
    sequence.run("x", steps, store)
    assert ran == ["b", "c"]
    assert [state.done for state in store.written] == ["b", ""]
    assert store.state.begun == LONG_AGO


def test_a_wait_counts_from_the_note_of_the_step_before() -> None:
    passed = Step("passed", "passed", lambda: None, lambda: 3600.0)
    store = FakeStore(RotationState("a", datetime.now(UTC) - timedelta(hours=2), LONG_AGO))
    sequence.run("x", [Step("a", "a", lambda: None), passed], store)
    assert store.state.done == ""


def test_a_state_of_another_version_is_an_error_that_names_the_step() -> None:
    with pytest.raises(ProblemError, match="'gone', which is not one of a"):
        sequence.run("x", [Step("a", "a", lambda: None)], FakeStore(RotationState("gone", LONG_AGO, LONG_AGO)))


def test_a_key_that_signs_before_it_is_trusted_would_be_seen() -> None:
    """The invariant can fail: a pod that is not replaced yet does not know the key of one that is."""
    context = FakeContext({"jwt": jwt_secret()}, every_api_server_trusts_every_signer)
    context.change("jwt", lambda present: jwt.sign(jwt.add(present)))
    with pytest.raises(KeyError):
        context.restart("jwt")
