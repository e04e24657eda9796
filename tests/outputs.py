"""Outputs that are not what programs mostly print: bytes, long lines, lines without an end."""

from __future__ import annotations

from random import Random

OUTPUTS = {
    "random bytes": Random(1).randbytes(2_000_000),  # noqa: S311  # the same bytes each time
    "Latin-1": b"".join(b"line %03d caf\xe9 na\xefve\n" % number for number in range(60)),
    "UTF-8 lines of 100 kB": (("ä€𐍈" * 11_111).encode()[:99_999] + b"\n") * 10,
    "a last line of 100 kB without its end": b"a\n" + b"y" * 100_000,
    "progress bar": b"".join(b"\rdone %6d of 9000" % number for number in range(9000)),
    "short progress bar": b"".join(b"\r%d%%" % number for number in range(100)),
    "no line end": b"one\ntwo",
    "NUL": b"\0" * 50_000 + b"\n\n\n" + b"\0\n" * 500,
    "lines around 16 KiB": b"".join(b"x" * (16_384 + more) + b"\n" for more in (-1, 0, 1, 16_384)),
    "empty lines": b"\n" * 5000,
    "nothing": b"",
}
