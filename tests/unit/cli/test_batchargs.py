"""The batch that a command line describes: rows, placeholders in every flag, and what is refused as a whole."""

from __future__ import annotations

import io
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import batchargs, jobargs
from celery_docker.cli.syntax import parser


def batch(line: str, folder: Path, environ: Mapping[str, str] | None = None) -> tuple[list[dict[str, Any]], int | None]:
    words = parser.parse(["batch", *shlex.split(line)])
    assert isinstance(words, parser.Arguments)
    request = batchargs.batch_request(words, jobargs.LocalUser(environ or {}, "5:6", str(folder)), "celery")
    return [{**job.kwargs, **job.options} for job in request.jobs], request.limit


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with awkward names, in which the caller stands."""
    for name in ("b c.txt", "a.txt", "größe'.txt", "new\nline.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_job_for_each_file(inputs: Path) -> None:
    jobs, limit = batch("--each '*.txt' -i {} -o out/{/.} busybox cp /input /output/{/}", inputs)
    names = ["a.txt", "b c.txt", "größe'.txt", "new\nline.txt"]
    assert [job["inputpath"] for job in jobs] == [f"{inputs}/{name}" for name in names]
    assert [job["outputpath"] for job in jobs] == [f"{inputs}/out/{name.removesuffix('.txt')}" for name in names]
    assert [job["command"] for job in jobs] == [["cp", "/input", f"/output/{name}"] for name in names]
    assert {job["user"] for job in jobs} == {"5:6"}
    assert limit is None


def test_placeholders_in_paths_and_tables(inputs: Path) -> None:
    jobs, _ = batch("--each a.txt -i {} -o {//} -e 'X={#}' --name {/.} busybox", inputs)
    expected = {"inputpath": f"{inputs}/a.txt", "outputpath": f"{inputs}", "env": {"X": "1"}, "name": "a"}
    assert expected.items() <= jobs[0].items()


def test_numbers_with_a_limit(tmp_path: Path) -> None:
    jobs, limit = batch("--array 1-5:2%2 busybox echo {}", tmp_path)
    assert ([job["command"] for job in jobs], limit) == ([["echo", "1"], ["echo", "3"], ["echo", "5"]], 2)
    assert batch("--array 1-5%2 --limit 4 busybox echo {}", tmp_path)[1] == 4


def test_a_manifest_and_its_columns(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_bytes(b"\xef\xbb\xbfrate,job.memory\r\n0.1,1g\r\n0.2,\r\n")
    jobs, _ = batch(f"--manifest {tmp_path}/runs.csv busybox fit {{rate}}", tmp_path)
    assert [(job["command"], job.get("memory")) for job in jobs] == [(["fit", "0.1"], 2**30), (["fit", "0.2"], None)]
    (tmp_path / "runs.jsonl").write_text('{"rate": 3}\n')
    assert batch(f"--manifest {tmp_path}/runs.jsonl busybox fit {{rate}}", tmp_path)[0][0]["command"] == ["fit", "3"]


def test_a_list_of_paths(inputs: Path) -> None:
    (inputs / "list").write_text("a.txt\n\n/abs/b\n")
    jobs, _ = batch("--each-from list busybox", inputs)
    assert [job["inputpath"] for job in jobs] == [f"{inputs}/a.txt", "/abs/b"]
    (inputs / "list").write_bytes(b"new\nline.txt\0a.txt\0")
    jobs, _ = batch("--each-from list busybox", inputs)
    assert [job["inputpath"] for job in jobs] == [f"{inputs}/new\nline.txt", f"{inputs}/a.txt"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("busybox", "batch: give one of --each, --each-from, --array, --manifest, not none"),
        ("--each a --array 1-2 busybox", "batch: give one of --each, --each-from, --array, --manifest, not --each and"),
        ("--each '*.no' busybox", "--each: no file matches '*.no'; quote it"),
        ("--each-from /dev/null busybox", "--each-from: has no line, so there is nothing to run"),
        ("--each-from /no/list busybox", "cannot read /no/list: No such file or directory"),
        ("--array 1-2 --priority 12 busybox", "--priority: '12' must be a whole number from 0 to 9"),
        ("--array 1-2 --queue 'a {}' busybox", "queue: 'a 1' must be letters"),
        ("--array 1-2", "array number 1: image: is missing"),
    ],
)
def test_what_is_refused(inputs: Path, line: str, expected: str) -> None:
    with pytest.raises(errors.CeleryDockerError) as caught:
        batch(line, inputs)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"./a\r\n\0/b c\r\0 \0", ["a\r\n", "/b c\r", " "]),
        ("\ufeff/a\u2028b\r\n/c\x85\n/d\re\n".encode(), ["/a\u2028b", "/c\x85", "/d\re"]),
    ],
)
def test_a_list_keeps_the_bytes_of_its_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, paths: list[str]
) -> None:
    (tmp_path / "list").write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    for word in ("list", "-"):
        monkeypatch.chdir(tmp_path)
        jobs, _ = batch(f"--each-from {word} busybox cat", tmp_path)
        assert [job["inputpath"] for job in jobs] == [os.path.join(tmp_path, path) for path in paths]


def test_a_manifest_of_json_is_known_by_its_text_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'\xef\xbb\xbf\r\n{"sample": "a"}\n'
    (tmp_path / "runs").write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    for word in (tmp_path / "runs", "-"):
        jobs, _ = batch(f"--manifest {word} busybox echo {{sample}}", tmp_path)
        assert [job["command"] for job in jobs] == [["echo", "a"]]


def test_numbers_from_columns(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("t,rank\n5m,1\n90,2\n")
    jobs, _ = batch(f"--manifest {tmp_path}/m.csv --timeout {{t}} --priority {{rank}} busybox", tmp_path)
    assert [(job["timeout"], job["priority"]) for job in jobs] == [(300, 1), (90, 2)]


def test_what_is_said_about_the_submission_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("rank\n1\n12\n")
    with pytest.raises(errors.BatchError, match=r"^line 3: priority: 12 must be a whole number from 0 to 9$"):
        batch(f"--manifest {tmp_path}/m.csv --priority {{rank}} busybox", tmp_path)


def test_columns_that_look_like_fields_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image,mask,user\nscan1.nii.gz,m1.nii.gz,root\n")
    arguments = parser.parse(["batch", "--manifest", f"{tmp_path}/m.csv", "tool:2", "fit", "{image}", "{mask}"])
    assert isinstance(arguments, parser.Arguments)
    request = batchargs.batch_request(arguments, jobargs.LocalUser({}, "5:6", str(tmp_path)), "celery")
    (job,) = request.jobs
    assert (job.kwargs["image"], job.kwargs["user"]) == ("tool:2", "5:6")
    assert job.kwargs["command"] == ["fit", "scan1.nii.gz", "m1.nii.gz"]
    assert request.unused_columns == ("user",)


@pytest.mark.parametrize("column", ["job.memmory", "Job.memory", "JOB.MEMORY", "job.", "job.Memory"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_field_that_there_is_not_is_refused(tmp_path: Path, form: str, column: str) -> None:
    text = f"{column}\n1g\n" if form == "csv" else json.dumps({column: "1g"})
    (tmp_path / f"m.{form}").write_text(text)
    with pytest.raises(
        errors.BatchError, match=r"line 1.*'(?i:job\.)\w*' (is not a field of a job; known are job\.|must be)"
    ):
        batch(f"--manifest {tmp_path}/m.{form} busybox", tmp_path)


# Text that nobody typed as a template


def test_braces_from_files_and_the_environment_are_not_filled(inputs: Path) -> None:
    (inputs / "e.env").write_text("OPTS={}\nTOKEN\n")
    (inputs / "job.json").write_text('{"image": "busybox", "command": ["x", "{}"], "env": {"DOC": "{#}"}}')
    environ = {"OPT2": "{/}", "TOKEN": "{.}"}
    jobs, _ = batch("--each 'a.txt' --env-file e.env -e OPT2 -e 'MINE={/}' -f job.json", inputs, environ)
    assert jobs[0]["env"] == {"DOC": "{#}", "OPTS": "{}", "TOKEN": "{.}", "OPT2": "{/}", "MINE": "a.txt"}
    assert jobs[0]["command"] == ["x", "{}"]
    # No placeholder was typed that takes the path, so it is the input.
    assert jobs[0]["inputpath"] == f"{inputs}/a.txt"


def test_braces_in_names_of_folders_and_files_are_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "{}{#}"
    folder.mkdir()
    (folder / "{.}.csv").touch()
    (folder / "list").write_text("{/}.csv\n")
    monkeypatch.chdir(folder)
    jobs, _ = batch("--each '*.csv' -o out --log-file 'logs/{/.}.log' busybox echo {}", folder)
    assert jobs[0]["command"] == ["echo", f"{folder}/{{.}}.csv"]
    assert (jobs[0]["outputpath"], jobs[0]["logoutfile"]) == (f"{folder}/out", f"{folder}/logs/{{.}}.log")
    jobs, _ = batch("--each-from list -o 'out/{/.}' busybox", folder)
    assert (jobs[0]["inputpath"], jobs[0]["outputpath"]) == (f"{folder}/{{/}}.csv", f"{folder}/out/}}")


def test_a_relative_path_from_a_number_or_a_column_is_completed(tmp_path: Path) -> None:
    assert batch("--array 7 -o {} busybox", tmp_path)[0][0]["outputpath"] == f"{tmp_path}/7"
    (tmp_path / "m.csv").write_text("sample\n~/a\n")
    # A tilde in a table is data.
    jobs, _ = batch(f"--manifest {tmp_path}/m.csv -o {{sample}} busybox", tmp_path, {"HOME": "/home/a"})
    assert jobs[0]["outputpath"] == f"{tmp_path}/~/a"


def test_what_is_filled_into_a_mount_stays_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in the name of the file: a colon, a comma, or what would be another option."""
    folder = tmp_path / "{#}"
    folder.mkdir()
    (folder / "a:rw,target=b.csv").touch()
    monkeypatch.chdir(folder)
    flags = "-v {}:/in.csv:ro --mount type=bind,src=out/{/.},dst=/out -v ./ref:/ref -v {/}:/base"
    jobs, _ = batch(f"--each '*.csv' {flags} busybox cat {{}}", folder)
    assert jobs[0]["mounts"] == [
        {"type": "bind", "source": f"{folder}/a:rw,target=b.csv", "target": "/in.csv", "readonly": True},
        {"type": "bind", "source": f"{folder}/out/a:rw,target=b", "target": "/out"},
        {"type": "bind", "source": f"{folder}/ref", "target": "/ref"},
        {"type": "bind", "source": f"{folder}/a:rw,target=b.csv", "target": "/base"},
    ]
    assert "inputpath" not in jobs[0]


def test_a_mount_from_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('job.mounts,x\n/data/a:/a:ro,1\n"[""/data/a:/a"", ""/data/b:/b""]",2\n')
    jobs, _ = batch(f"--manifest {tmp_path}/m.csv -v ./other:/other busybox", tmp_path)
    assert [len(job["mounts"]) for job in jobs] == [1, 2]
    assert jobs[0]["mounts"] == [{"type": "bind", "source": "/data/a", "target": "/a", "readonly": True}]


def test_a_typed_tilde_is_the_home(inputs: Path) -> None:
    environ = {"HOME": str(inputs)}
    (inputs / "list").write_text("a.txt\n")
    jobs, _ = batch("--each '~/a.txt' --output=~/out/{/.} --log-file=~root/{#} busybox", inputs, environ)
    assert jobs[0]["inputpath"] == f"{inputs}/a.txt"
    assert (jobs[0]["outputpath"], jobs[0]["logoutfile"]) == (f"{inputs}/out/a", "/root/1")
    assert batch("--each-from=~/list busybox", inputs, environ)[0][0]["inputpath"] == f"{inputs}/a.txt"


def test_one_bad_line_in_a_long_manifest_is_named(tmp_path: Path) -> None:
    lines = ["job.memory", *["1g"] * 5000, "1x", *["1g"] * 4999]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    with pytest.raises(errors.BatchError, match=r"line 5002, column job\.memory") as caught:
        batch(f"--manifest {tmp_path}/m.csv busybox", tmp_path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        (
            "--array 1-4 --log-file /logs/l.txt busybox",
            "/logs/l.txt",
            "4 jobs (array number 1, array number 2, array number 3, ...)",
        ),
        ("--array 1-2 --err-file /logs/{#}/../l.txt busybox", "/logs/l.txt", "2 jobs (array number 1, array number 2)"),
        ("--manifest logs.csv busybox", "/logs/a", "2 jobs (line 2, line 4)"),
        ("--manifest crossed.csv busybox", "/logs/a", "2 jobs (line 2, line 3)"),
        ("--manifest link.csv busybox", "{folder}/real", "2 jobs (line 2, line 3)"),
        ("--manifest folders.csv busybox", "{folder}/x", "2 jobs (line 2, line 3)"),
        ("--array 1-2 -f doc.json", "/logs/doc", "2 jobs (array number 1, array number 2)"),
    ],
)
def test_jobs_that_share_a_log_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "here").symlink_to(".")
    tables = {
        "logs": "job.logoutfile\n/logs/a\n/logs/b\n//logs/./a\n",
        "crossed": "job.logoutfile,job.logerrfile\n/logs/a,/logs/b\n/logs/c,/logs/x/../a\n",
        "link": f"job.logoutfile\n{tmp_path}/real\n{tmp_path}/link\n",
        "folders": f"job.logoutfile\n{tmp_path}/x\n{tmp_path}/here/here/x\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "doc.json").write_text('{"image": "busybox", "logoutfile": "/logs/doc"}')
    with pytest.raises(errors.BatchError) as caught:
        batch(line, tmp_path)
    assert str(caught.value).startswith(f"{path.format(folder=tmp_path)!r} is the log file of {words}, and each would")
    assert "put {#}, the job's number, into its name, like '" in str(caught.value)


def test_a_job_may_have_one_file_for_both_streams(tmp_path: Path) -> None:
    jobs, _ = batch("--array 1-2 --log-file /l/{#} --err-file /l/{#} busybox", tmp_path)
    assert len(jobs) == 2
