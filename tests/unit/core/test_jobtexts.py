"""The texts that travel with a job: what they may be, and what is said about everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import jobspec, jobtexts, message

MOST = 256 * 1024


def refusal(value: Any) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        jobtexts.SCRIPT.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "\n",
        "#!/bin/sh\n",
        "#!/bin/sh",
        "#! /usr/bin/env -S python3 -u\n",
        "#!sh",
        "echo 'ä 漢 \U0001f600'\n",
        "echo a\\\n\techo b\r\n",  # only the first line is what a start fails at
        "#!/" + "x" * 252 + "\n#",
        "x" * MOST,
        "ä" * (MOST // 2),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_script_is_kept_as_it_is(text: str) -> None:
    assert jobtexts.SCRIPT.parse(text) == text


def test_a_byte_order_mark_does_not_hide_the_first_line() -> None:
    assert jobtexts.SCRIPT.parse("\ufeff#!/bin/sh\n") == "#!/bin/sh\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "must be a string, the text itself, not int"),
        (b"#!/bin/sh", "must be a string, the text itself, not bytes"),
        (True, "must be a string, the text itself, not bool"),
        ({"path": "/x"}, "must be a string, the text itself, not dict"),
        ("", "is empty; give the text of a script, such as '#!/bin/sh' and its commands"),
        ("\ufeff", "is empty; give the text of a script, such as '#!/bin/sh' and its commands"),
        ("a\ud800", "must be valid Unicode"),
        (
            "\x7fELF\0",
            "has a NUL byte, so it is a program and no script; put it into the image or a mounted folder",
        ),
        (
            "#!/bin/sh\r\necho\r\n",
            "has lines that end with CR, as Windows writes them: no interpreter is found; save it with LF",
        ),
        (
            "echo a\recho b",
            "has lines that end with CR, as Windows writes them: no interpreter is found; save it with LF",
        ),
        ("#!", "names no interpreter after '#!'; write for instance '#!/bin/sh'"),
        ("#! \t\nx", "names no interpreter after '#!'; write for instance '#!/bin/sh'"),
        ("#!/" + "ä" * 127, "has a first line of more than 255 bytes, of which the kernel reads none"),
        (
            "x" * (MOST + 1),
            "has more than 256 KiB, which is the most that travels with a job; put it into a mounted file",
        ),
        (
            "ä" * (MOST // 2) + "x",
            "has more than 256 KiB, which is the most that travels with a job; put it into a mounted file",
        ),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_no_script(value: Any, expected: str) -> None:
    assert refusal(value) == expected


def test_the_largest_script_fits_into_a_message_and_one_of_control_characters_is_refused_in_words() -> None:
    """JSON writes a letter that is not ASCII with six bytes or twelve, and so each control character."""
    for letter in ("x", "\n", "ä", "漢", "\U0001f600"):
        script = letter * (MOST // len(letter.encode()))
        kwargs = jobspec.parse(["busybox"], {"script": script}).to_kwargs()
        assert json.loads(json.dumps(kwargs))["script"] == script
        message.task_message("j", kwargs, queue="q", tag="t", origin="o")
    with pytest.raises(errors.SpecError, match="1,048,576 are the most"):
        message.task_message("j", {"script": "\1" * MOST}, queue="q", tag="t", origin="o")


@pytest.mark.parametrize(
    "text", ["", "a", "\0", "\ufeffa\r\nb\r", "x" * MOST, "\U0001f600" * (MOST // 4)], ids=lambda t: ascii(t[:9])
)
def test_a_standard_input_is_any_text(text: str) -> None:
    assert jobtexts.STDIN.parse(text) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a", "must be a string, the text itself, not bytes"),
        ("a\udcff", "must be valid Unicode"),
        ("ä" * MOST, "has more than 256 KiB, which is the most that travels with a job; put it into a mounted file"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_no_standard_input(value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{expected}$"):
        jobtexts.STDIN.parse(value)


def test_a_shell_opens_the_standard_input_and_takes_nothing_of_the_command_for_its_own() -> None:
    folder = "/celery-docker/stdin"
    assert jobtexts.with_stdin(["-c", "$(x)", ""]) == ["/bin/sh", "-c", f'exec "$@" < {folder}', "sh", "-c", "$(x)", ""]
