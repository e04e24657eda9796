"""Commands are written as the library writes them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.store import commandbytes

WORDS = st.text(max_size=20) | st.binary(max_size=20) | st.integers() | st.floats() | st.binary().map(bytearray)
NAMES = st.sampled_from(["GET", "SCRIPT LOAD", b"EVALSHA", b"CLIENT SETNAME"])
library: Any = redis.ConnectionPool(encoding_errors="replace").make_connection()


@given(NAMES, st.lists(WORDS, max_size=8))
def test_a_command_has_the_bytes_that_the_library_gives_it(name: str | bytes, words: list[Any]) -> None:
    written = commandbytes.CommandWriter().pack(name, *words)
    assert b"".join(written) == b"".join(library.pack_command(name, *words))


def test_a_text_of_any_length_is_one_word() -> None:
    (written,) = commandbytes.CommandWriter().pack("SET", "key", "\U0001f600" * 10_000)
    assert written == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$40000\r\n" + b"\xf0\x9f\x98\x80" * 10_000 + b"\r\n"


def test_what_is_half_a_pair_of_utf_16_is_a_question_mark() -> None:
    """As the errors of a connection's encoding are replaced: anybody may name such a key."""
    assert commandbytes.CommandWriter().pack("GET", "a\ud800") == [b"*2\r\n$3\r\nGET\r\n$2\r\na?\r\n"]


@pytest.mark.parametrize("value", [None, True, [], {}, object()])
def test_what_is_no_word_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no word of a command"):
        commandbytes.CommandWriter().pack("SET", "key", value)
