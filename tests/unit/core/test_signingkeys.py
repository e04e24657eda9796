"""The file of keys: what is read as keys, what is not, and the steps of a change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import signingkeys
from celery_docker.core.signingkeys import Keys

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
BOTH = Keys(A, old=B).text().encode()


@pytest.mark.parametrize("keys", [Keys(A), Keys(A, old=B), Keys(A, coming=B)])
def test_what_is_written_is_read(keys: Keys) -> None:
    assert signingkeys.parse(keys.text().encode()) == keys


@given(st.integers(0, len(BOTH) - 1))
def test_a_half_written_file_is_never_taken_for_another_key(length: int) -> None:
    part = BOTH[:length]
    if part.endswith(b"\n") and b"signs" in part.replace(b"that sign", b""):
        # Cut between two lines: the key that signs is whole.
        assert signingkeys.parse(part) == Keys(A)
        return
    with pytest.raises(ValueError, match="key import") as caught:
        signingkeys.parse(part)
    assert A.hex()[:16] not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_keys_or_a_line(text: bytes) -> None:
    with pytest.raises(ValueError, match="celery-docker key import"):
        signingkeys.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "has no key that signs"),
        (f"old {A.hex()}\n".encode(), "has no key that signs"),
        (f"signs {A.hex()[:-1]}\n".encode(), "line 1 is not one of"),
        (f"signs {A.hex()}\nsigns {B.hex()}\n".encode(), "line 2 is not one of"),
        (f"signs {A.hex()}\nold {A.hex()}\n".encode(), "or one twice"),
        (f"signs {A.hex()}\nold {B.hex()}\nnext {C.hex()}\n".encode(), "more than two keys"),
        (f"signs {A.hex()}".encode(), "is cut off in line 1"),
        (b"\0" * 4096, "is cut off in line 1"),
        (b"#" * 5000, "is too long"),
    ],
)
def test_a_file_that_is_not_in_order_says_what_is_wrong(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        signingkeys.parse(text)


def test_a_change_on_one_host() -> None:
    changed = Keys(A).renewed(B)
    assert (changed.signing, changed.valid) == (B, (B, A))
    assert changed.without_old() == Keys(B)


def test_a_change_on_several_hosts_never_signs_with_what_another_does_not_have() -> None:
    first, second = Keys(A).prepared(B), Keys(A)
    assert first.signing in second.valid
    second = first
    first = first.switched()
    assert first.signing in second.valid
    assert second.signing in first.valid
    second = second.switched()
    assert first == second == Keys(B, old=A)


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        (Keys(A, old=B), lambda keys: keys.renewed(C)),
        (Keys(A, old=B), lambda keys: keys.prepared(C)),
        (Keys(A, coming=B), lambda keys: keys.renewed(C)),
        (Keys(A, coming=B), lambda keys: keys.prepared(C)),
        (Keys(A), lambda keys: keys.switched()),
        (Keys(A, old=B), lambda keys: keys.switched()),
        (Keys(A), lambda keys: keys.without_old()),
        (Keys(A, coming=B), lambda keys: keys.without_old()),
    ],
)
def test_no_step_drops_a_key_that_is_in_use(keys: Keys, step: object) -> None:
    with pytest.raises(errors.UsageError, match=r"^key"):
        step(keys)  # type: ignore[operator]


def test_a_fingerprint_tells_nothing_of_its_key() -> None:
    assert signingkeys.key_id(A) != signingkeys.key_id(B)
    assert len(signingkeys.key_id(A)) == 16
    assert signingkeys.key_id(A) not in A.hex()
