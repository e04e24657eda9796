"""The bytes of commands, as Redis reads them (RESP: the number of words, then each behind its length). Pure.

The library's own writer copies all that it has written once more for each word, of which a script has dozens.
"""

from __future__ import annotations

from typing import Any


class CommandWriter:
    """Writes the commands of a connection."""

    def pack(self, *command: Any) -> list[bytes]:
        """Return the bytes of a command, in one piece; its name may have several words, like `SCRIPT LOAD`.

        Raises `ValueError` for a word of which it is not clear how Redis is to get it, such as None.
        """
        words = [_word(word) for word in (*command[0].split(), *command[1:])]
        return [b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])]


def _word(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value).encode()
    raise ValueError(f"no word of a command is {value!r}")
