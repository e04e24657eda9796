"""The job that a command line describes: flags over a document, paths as the caller sees them, the caller's user."""

from __future__ import annotations

import io
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import jobargs
from celery_docker.cli.syntax import parser
from celery_docker.core import batch, batchinputs, gatewayurl, jobfields

CALLER = jobargs.LocalUser({"HOME": "/home/a", "TOKEN": "s3", "EMPTY": ""}, "1000:100", "/data/run")


def document(line: str, local_user: jobargs.LocalUser = CALLER) -> dict[str, Any]:
    words = parser.parse(["submit", *shlex.split(line)])
    assert isinstance(words, parser.Arguments)
    return jobargs.document(words, local_user, "celery")


ALWAYS = {"user": "1000:100", "queue": "celery"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("busybox", {"image": "busybox"}),
        ("busybox echo 'a b' -m", {"image": "busybox", "command": ["echo", "a b", "-m"]}),
        ("-u nobody --queue night busybox", {"image": "busybox", "user": "nobody", "queue": "night"}),
        # Paths are seen from where the caller stands.
        ("-i in.txt -o . busybox", {"image": "busybox", "inputpath": "/data/run/in.txt", "outputpath": "/data/run"}),
        (
            "--log-file ./a//b.log --err-file ../e busybox",
            {"image": "busybox", "logoutfile": "/data/run/a/b.log", "logerrfile": "/data/run/../e"},
        ),
        ("-i /in -w /w busybox", {"image": "busybox", "inputpath": "/in", "workdir": "/w"}),
        (
            "-v ./a:/a --mount type=bind,src=b:c,dst=/b,ro --volume ~/x:/x:ro -v d/e:/e -v '{}/x:/f' busybox",
            {
                "image": "busybox",
                "mounts": [
                    {"type": "bind", "source": "/data/run/a", "target": "/a"},
                    {"type": "bind", "source": "/data/run/b:c", "target": "/b", "readonly": True},
                    {"type": "bind", "source": "/home/a/x", "target": "/x", "readonly": True},
                    {"type": "bind", "source": "/data/run/d/e", "target": "/e"},
                    {"type": "bind", "source": "/data/run/{}/x", "target": "/f"},
                ],
            },
        ),
        ("--mount type=tmpfs,dst=/t busybox", {"image": "busybox", "mounts": [{"type": "tmpfs", "target": "/t"}]}),
        # Braces are a batch's; a tilde is the home, as in a word of its own for the shell.
        ("-i '{x}/{}' busybox", {"image": "busybox", "inputpath": "/data/run/{x}/{}"}),
        ("--input=~/in -o ~ busybox", {"image": "busybox", "inputpath": "/home/a/in", "outputpath": "/home/a"}),
        ("--input=~root/in busybox", {"image": "busybox", "inputpath": "/root/in"}),
        ("--input=~nobody-at-all/in busybox", {"image": "busybox", "inputpath": "/data/run/~nobody-at-all/in"}),
        ("-m 2GB busybox", {"image": "busybox", "memory": 2**31}),
        # A bare name is the caller's own value; one that the caller does not have is left out, as docker does.
        (
            "-e TOKEN -e EMPTY -e NOPE -e A=b=c busybox",
            {"image": "busybox", "env": {"TOKEN": "s3", "EMPTY": "", "A": "b=c"}},
        ),
        ("-e NOPE busybox", {"image": "busybox"}),
        (
            "-m 1g --timeout 2h --no-requeue busybox",
            {"image": "busybox", "memory": 2**30, "timeout": 7200, "requeue": False},
        ),
    ],
)
def test_flags(line: str, expected: dict[str, Any]) -> None:
    assert document(line) == {**ALWAYS, **expected}


def test_the_fields_made_absolute_are_those_on_the_workers_host() -> None:
    """Should a field of that kind come, this says that the command line does not know it yet."""
    names = [line.name for line in jobfields.FIELDS if "worker's host" in _complaint(line)]
    assert sorted(names) == sorted(jobfields.HOST_PATHS)


def _complaint(line: jobfields.Field) -> str:
    try:
        line.parse("relative")
    except ValueError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("-v ref:/ref", "--volume: 'ref:/ref' names a volume: a job has no volumes of Docker"),
        ("-v ./a:/etc", "--volume: '/etc' must lie outside of"),
        ("--mount type=volume,dst=/a", "--volume: type 'volume' is refused"),
        ("-v ./a:/a -v ./b:/a:z", "--volume: './b:/a:z' has 'z', which is refused"),
    ],
)
def test_a_mount_that_is_refused_is_named_as_it_was_typed(flags: str, problem: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        document(f"{flags} busybox")
    assert str(caught.value).startswith(problem)


def test_flags_go_over_the_document_and_its_tables_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    base = {"image": "a", "command": ["x"], "env": ["A=1", "B=2"], "labels": {"l": "1"}, "memory": "1g", "user": None}
    path.write_text(json.dumps(base))
    merged = document(f"-f {path} -e B=3 --label m=2 -m 2g")
    expected = {"image": "a", "command": ["x"], "env": {"A": "1", "B": "3"}, "labels": {"l": "1", "m": "2"}}
    assert merged == {**ALWAYS, **expected, "memory": 2**31}
    assert document(f"-f {path} other cmd")["image"] == "other"
    assert document(f"-f {path}")["env"] == ["A=1", "B=2"]


def test_an_image_alone_keeps_the_documents_command(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"image": "a", "command": ["x"]}')
    assert document(f"-f {path} other")["command"] == ["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{\n  'a'", "line 2, column 3: Expecting property name enclosed in double quotes; it must be JSON"),
        ("[]", "must be a table of fields"),
        ('{"image": "a", "env": {"A": "1", "A": "2"}}', "has the key 'A' twice in one table; remove one"),
        ('{"image": "a", "cpus": NaN}', "NaN is not a number in JSON"),
        ("[" * 100_000, "is nested too deeply"),
        (f"[{'1' * 5000}]", "has a number that is too large"),
    ],
)
def test_a_document_that_is_none(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(errors.SpecError) as caught:
        document(f"-f {path}")
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_document_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(b'\xef\xbb\xbf{"image": "a"}')
    assert document(f"-f {path}")["image"] == "a"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(errors.SpecError, match=r"^cannot read /no/job.json: No such file or directory"):
        document("-f /no/job.json")


def test_env_files_are_read_as_docker_reads_them() -> None:
    text = "# no\n\n  A=1\nB='x y' # z\r\nTOKEN\nNOPE\nC=\n"
    assert jobargs.env_file("f", text, CALLER.environ) == ["A=1", "B='x y' # z", "TOKEN=s3", "C="]


def test_an_env_file_has_no_other_line_ends() -> None:
    text = "A=1\u20282\x853\x0b4\x0c5\r6\r\n\tB=2"
    assert jobargs.env_file("f", text, {}) == ["A=1\u20282\x853\x0b4\x0c5\r6", "B=2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("A=1\n".encode("utf-16"), "it is UTF-16 text, as Windows writes 'Unicode'; save it as UTF-8"),
        (b"A=\xe9\n", "it is not UTF-8 text, at byte 2 in line 1; save it as UTF-8"),
        (b"A=\0\n", "it is not text: it has a NUL byte in line 1"),
    ],
)
@pytest.mark.parametrize("flag", ["--env-file", "-f", "--script"])
def test_a_file_and_the_standard_input_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str, flag: str
) -> None:
    path = tmp_path / "a\nfile"
    path.write_bytes(data)
    for word, place in ((path, f"{tmp_path}/a\\nfile"), ("-", "the standard input")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(errors.SpecError) as caught:
            document(f"{flag} {shlex.quote(str(word))} busybox")
        assert str(caught.value) == f"cannot read {place}: {words}"


SCRIPT = '#!/bin/sh\necho {} ${HOME} "$@"\n'


def test_the_text_of_a_script_goes_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch fills in nothing there."""
    path = tmp_path / "a {}.sh"
    path.write_text(f"\ufeff{SCRIPT}")
    caller = replace(CALLER, environ={"HOME": str(tmp_path)})
    for word in (shlex.quote(str(path)), "'~/a {}.sh'", "-"):
        line = f"--script {word} busybox -x {{}}"
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SCRIPT.encode())))
        expected = {**ALWAYS, "image": "busybox", "command": ["-x", "{}"], "script": SCRIPT}
        assert document(line, caller) == expected
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SCRIPT.encode())))
        words = parser.parse(["batch", "--each", "*", *shlex.split(line)])
        assert isinstance(words, parser.Arguments)
        (job,) = batch.expand(jobargs.template(words, caller, "celery"), batchinputs.from_paths(["/a"]))
        assert (job.kwargs["script"], job.kwargs["command"]) == (SCRIPT, ["-x", "/a"])


def test_a_script_that_cannot_be_used_is_named_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "script"
    for text, words in (("", "is empty; give"), ("#!/bin/sh\r\nhunter2\n", "has lines that end with CR, as Windows")):
        path.write_bytes(text.encode())
        with pytest.raises(errors.SpecError, match=f"^--script: {words}") as caught:
            document(f"--script {path} busybox")
        assert "hunter2" not in str(caught.value)
    with pytest.raises(errors.SpecError, match=r"^cannot read /no: No such file or directory$"):
        document("--script /no busybox")


def test_the_text_of_a_standard_input_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With marks, line ends and NULs; a batch fills in nothing there."""
    data = "\ufeff{} a\r\n\0b\rc".encode()
    (tmp_path / "in").write_bytes(data)
    for word in (tmp_path / "in", "-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert document(f"--stdin {word} busybox")["stdin"].encode() == data
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        words = parser.parse(["batch", "--each", "*", "--stdin", str(word), "busybox", "{}"])
        assert isinstance(words, parser.Arguments)
        (job,) = batch.expand(jobargs.template(words, CALLER, "celery"), batchinputs.from_paths(["/a"]))
        assert job.kwargs["stdin"].encode() == data
        assert "inputpath" not in job.kwargs


def test_a_standard_input_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"abc\xff")
    with pytest.raises(errors.SpecError) as caught:
        document(f"--stdin {path} busybox")
    problem = "it is not UTF-8 text, at byte 3; a job takes other data from a file that it mounts"
    assert str(caught.value) == f"cannot read {path}: {problem}"
    path.write_bytes(b"x" * 2**21)
    with pytest.raises(errors.SpecError, match=r"it is longer than 1 MiB$"):
        document(f"--stdin {path} busybox")
    path.write_bytes(b"x" * 2**19)
    with pytest.raises(errors.SpecError, match=r"^--stdin: has more than 256 KiB"):
        document(f"--stdin {path} busybox")


@pytest.mark.parametrize(
    "line",
    [
        "--script - --stdin - busybox",
        "--script - --env-file - busybox",
        "-f - --env-file - busybox",
        "--env-file - --env-file - busybox",
    ],
)
def test_the_standard_input_is_read_once(line: str) -> None:
    with pytest.raises(
        errors.UsageError, match=r"^submit: --(env-file|script|stdin) -: the standard input can be read only once$"
    ):
        document(line)


@pytest.mark.parametrize("line", ["A B=1", "=1", "A B"])
def test_a_bad_line_of_an_env_file_is_named(line: str) -> None:
    with pytest.raises(errors.SpecError, match=r"^f, line 2: "):
        jobargs.env_file("f", f"A=1\n{line}\n", {})


def test_a_flag_goes_over_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=1\nB=1\n")
    assert document(f"-e B=2 --env-file {path} busybox")["env"] == {"A": "1", "B": "2"}


def test_a_folder_that_is_gone() -> None:
    gone = jobargs.LocalUser({}, "0:0", None)
    assert document("-i /in busybox", gone)["inputpath"] == "/in"
    with pytest.raises(errors.SpecError, match="the current folder is gone; give an absolute path"):
        document("-i in busybox", gone)


def test_the_caller_of_this_process() -> None:
    own = jobargs.LocalUser({}, f"{os.getuid()}:{os.getgid()}", os.getcwd())
    for url in ("redis://127.0.0.1", gatewayurl.URL):
        assert jobargs.of_process({}, url) == own
    # The gateway says who the user is there: here he may have another number.
    for url in ("https://jobs.example.org", "http://127.0.0.1:9809", "http+unix:///home/a/api.sock"):
        elsewhere = jobargs.of_process({}, url)
        assert elsewhere == replace(own, user=None)
        assert "user" not in document("busybox", elsewhere)
        assert document("-u bob busybox", elsewhere)["user"] == "bob"
        words = parser.parse(["batch", "--array", "1-2", "busybox"])
        assert isinstance(words, parser.Arguments)
        assert "user" not in jobargs.template(words, elsewhere, "celery")


def test_a_user_without_a_name_is_their_number() -> None:
    assert jobargs.login(0) == "root"
    assert jobargs.login(3_999_999_999) == "3999999999"
