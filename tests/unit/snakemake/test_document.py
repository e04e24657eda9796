"""What becomes of a job of Snakemake's: its image, script, folders and limits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import jobspec
from tests.unit.snakemake import load

document = load("document")
Folder = document.Folder


@pytest.mark.parametrize(
    ("url", "image"),
    [
        ("docker://busybox", "busybox"),
        ("docker://registry.example.org:5000/lab/tool:1", "registry.example.org:5000/lab/tool:1"),
        ("quay.io/biocontainers/samtools:1.19", "quay.io/biocontainers/samtools:1.19"),
    ],
)
def test_the_image_of_a_container(url: str, image: str) -> None:
    assert document.image_of(url, "map") == image


@pytest.mark.parametrize("url", ["", "docker://", "shub://a/b", "https://x/y.sif", "/data/tool.sif", "tool.sif", "./x"])
def test_a_container_that_is_no_docker_image_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"rule map: container .* is no Docker image; write docker://IMAGE"):
        document.image_of(url, "map")


def run(shellcmd: str, folder: Path, *shell: str, **options: Any) -> subprocess.CompletedProcess[str]:
    script = folder / "script"
    script.write_text(document.script_of(shellcmd, **options))
    # An image with nothing but a busybox has no bash on its PATH.
    environ = {"PATH": "/nonexistent" if shell else "/usr/bin:/bin"}
    argv = [*(shell or ("/bin/sh",)), str(script)]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["sh", "busybox"])
def test_a_script_is_as_strict_as_snakemake(program: str, tmp_path: Path) -> None:
    """Also where there is no bash."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    shell = (path, "sh") if program == "busybox" else ()
    assert run("echo $((1 + 1))", tmp_path, *shell).stdout == "2\n"
    for shellcmd in ("false; echo no", "false | true; echo no", 'echo "$unset_here"; echo no'):
        made = run(shellcmd, tmp_path, *shell)
        assert made.returncode != 0
        assert made.stdout == ""


def test_a_bash_that_does_not_run_is_left_alone(tmp_path: Path) -> None:
    """Such as that of a host whose /usr is mounted, in an image without its libraries."""
    (tmp_path / "bash").write_text("#!/nonexistent\n")
    (tmp_path / "bash").chmod(0o755)
    script = tmp_path / "script"
    script.write_text(document.script_of("echo here"))
    made = subprocess.run(
        ["/bin/sh", str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout) == (0, "here\n")


def test_a_script_keeps_quotes_and_further_lines(tmp_path: Path) -> None:
    shellcmd = """
        cat <<'END'
$HOME 'a' "b" \\ {x}
END
        for i in 1 2; do echo "$i"; done
    """
    assert run(shellcmd, tmp_path).stdout == "$HOME 'a' \"b\" \\ {x}\n1\n2\n"


def test_the_prefix_and_suffix_of_a_workflow(tmp_path: Path) -> None:
    made = run("false; echo $x", tmp_path, prefix="x=set;", suffix="; echo end")
    assert made.stdout == "set\nend\n"


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (["/a", "/b"], ["/a", "/b"]),
        (["/a/b/c", "/a", "/ab"], ["/a", "/ab"]),
        (["/a", "/a"], ["/a"]),
        (["/srv/wf", "/srv/wf/.venv"], ["/srv/wf"]),
    ],
)
def test_no_folder_lies_in_another(wanted: list[str], kept: list[str]) -> None:
    assert [folder.path for folder in document.folders([Folder(path) for path in wanted])] == kept


def test_an_outer_folder_can_be_changed_where_the_inner_can() -> None:
    assert document.folders([Folder("/opt/env", True), Folder("/opt/env/wf")]) == [Folder("/opt/env")]
    assert document.folders([Folder("/wf"), Folder("/wf/env", True)]) == [Folder("/wf")]
    assert document.folders([Folder("/opt/env", True), Folder("/opt/env/x", True)]) == [Folder("/opt/env", True)]


def test_mounts_as_the_user_writes_them() -> None:
    mounts = document.mounts([Folder("/wf"), Folder("/env", True)], ["/data/", "/ref:/reference:ro"])
    assert mounts == [
        {"type": "bind", "source": "/wf", "target": "/wf"},
        {"type": "bind", "source": "/env", "target": "/env", "readonly": True},
        {"type": "bind", "source": "/data", "target": "/data"},
        "/ref:/reference:ro",
    ]


def test_limits_of_a_rule() -> None:
    asked = document.limits(4, {"mem_mb": 1500, "gpu": 1, "runtime": 90, "disk_mb": 7, "tmpdir": "/tmp"})
    assert asked == {"cpus": 4, "memory": 1_500_000_000, "gpus": 1, "timeout": 5400}
    assert document.limits(0, {"mem_mb": 1, "gpus": 2}) == {"cpus": 1, "memory": 6 * 2**20, "gpus": 2}


@pytest.mark.parametrize("value", ["<TBD>", None, True, 0, -1, 1.5])
def test_a_resource_that_is_no_number_is_left_out(value: object) -> None:
    assert document.limits(1, dict.fromkeys(("mem_mb", "mem_mib", "gpu", "runtime"), value)) == {"cpus": 1}


@given(st.text(min_size=1), st.lists(st.text()))
def test_every_name_is_one_that_a_job_may_have(rule: str, values: list[str]) -> None:
    name = document.name_of(rule, values)
    assert jobspec.parse_document({"image": "busybox", "name": name})[0].name == name


def test_a_document_is_a_job() -> None:
    """With all that the plugin puts into one."""
    table = {
        "image": "busybox",
        "script": document.script_of("true"),
        "env": document.variables(2, {"TOKEN": "x"}),
        "workdir": "/wf",
        **document.limits(2, {"mem_mb": 100, "gpu": 1, "runtime": 5}),
        "mounts": document.mounts([Folder("/wf")], ["/ref:/reference:ro"]),
        "name": document.name_of("map", ["a"]),
        "scratch": True,
        "retries": 0,
        "queue": "gpu",
    }
    spec, options = jobspec.parse_document(table)
    assert (spec.cpus, spec.memory, spec.timeout, options.queue) == (2, 100_000_000, 300, "gpu")
    assert spec.env is not None
    assert spec.env["OMP_NUM_THREADS"] == spec.env["VECLIB_MAXIMUM_THREADS"] == "2"


def test_a_failure_says_why_and_where_the_output_is() -> None:
    receipt = {"state": "failed", "reason": "exit code 3", "host": "node1"}
    lines = document.last_lines("one\n\ntwo \x1b[31m\n")
    assert document.failure("some-id", receipt, lines).splitlines() == [
        "failed: exit code 3 on node1; all of its output: celery-docker logs some-id",
        "        one",
        "        two ?[31m",
    ]
    assert document.failure("some-id", {"state": "lost"}, []) == "lost; all of its output: celery-docker logs some-id"


def test_the_last_lines_of_a_long_output() -> None:
    text = "\n".join(map(str, range(100))) + "\n" + "x" * 10_000
    lines = document.last_lines(text)
    assert lines[:2] == ["91", "92"]
    assert len(lines) == 10
    assert len(lines[-1]) == 500
