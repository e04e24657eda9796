"""Blame for a refusal of Docker's: the words of registries and dockerd, as they were seen."""

from __future__ import annotations

import errno
import grp
import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from celery_docker import errors
from celery_docker.engine import faults

_AT = "unix:///run/docker.sock"

# status (None: inside the stream), Docker's text, the error it stands for
PULLS = [
    (404, "manifest for x:y not found: manifest unknown: manifest unknown", errors.RequestError),
    (404, "pull access denied for x, repository does not exist or may require 'docker login'", errors.RequestError),
    (500, "unauthorized: authentication required", errors.RequestError),
    (500, 'Get "http://127.0.0.1:5000/v2/x/manifests/y": no basic auth credentials', errors.RequestError),
    (500, "denied: requested access to the resource is denied", errors.RequestError),
    (400, "invalid reference format: repository name must be lowercase", errors.RequestError),
    (None, "no matching manifest for linux/arm64 in the manifest list entries", errors.RequestError),
    (None, "name unknown: repository name not known to registry", errors.RequestError),
    (500, 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused', errors.HostError),
    (500, 'Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', errors.HostError),
    (500, 'Get "https://r.example/v2/": net/http: request canceled while waiting for connection', errors.HostError),
    (500, "toomanyrequests: you have reached your pull rate limit. unauthorized users may", errors.HostError),
    (429, "unauthorized", errors.HostError),
    (None, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", errors.NoSpace),
    (None, "received unexpected HTTP status: 503 Service Unavailable", errors.HostError),
    (None, "error pulling image configuration: blob unknown to registry", errors.HostError),
    (None, "unexpected EOF", errors.HostError),
]


@pytest.mark.parametrize(("status", "text", "kind"), PULLS)
def test_a_failed_pull(status: int | None, text: str, kind: type[Exception]) -> None:
    """A pull that can never work is the request's fault; everything else passes."""
    error = faults.pull_refused("x:y", status, text + "\n")
    assert type(error) is kind
    now = " now" * issubclass(kind, errors.HostError)
    assert str(error).startswith(f"image 'x:y' cannot be pulled{now}: {text[:20]}")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("image", "status", "text", "registry"),
    [
        ("x:y", 404, "pull access denied for x, repository does not exist or may require 'docker login'", ""),
        ("group/x:y", 500, "unauthorized: authentication required", ""),
        ("r.example/x:y", 500, 'Get "https://r.example/v2/x/manifests/y": no basic auth credentials', " r.example"),
        ("r.example:5000/g/x:y", 403, "forbidden", " r.example:5000"),
        ("localhost/x:y", None, "denied: requested access to the resource is denied", " localhost"),
    ],
)
def test_a_registry_that_wants_a_login(image: str, status: int | None, text: str, registry: str) -> None:
    error = faults.pull_refused(image, status, text)
    assert str(error).endswith(
        "; check its name and tag; if the registry is private, root has to log this host in: "
        f"docker --config /etc/celery-docker/docker login{registry}"
    )


def test_a_login_that_the_worker_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker login` of root has made the folder for itself alone: that is what has to be mended."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert str(faults.pull_refused("r.example/x:y", 401, "unauthorized")).endswith(
        "; root has logged this host in, but the worker may not read that: "
        f"chgrp -R celery {tmp_path}; chmod 2750 {tmp_path}; chmod 640 {tmp_path}/config.json"
    )


def test_podman_is_called_by_its_name_and_has_a_login_of_its_own() -> None:
    """Where it takes Docker's place, there need be no program `docker`."""
    full = "no space left on device"
    lines = [
        faults.pull_refused("r.example/x:y", 401, "unauthorized", "podman"),
        faults.pull_refused("x:y", None, full, "podman"),
        faults.create_refused("run-x", "x:y", 500, full, "podman"),
        faults.create_refused("run-x", "x:y", 400, "bad parameter", "podman"),
    ]
    assert [str(line).rpartition("; ")[2] for line in lines] == [
        "if the registry is private, root has to log this host in: "
        "podman login --authfile /etc/celery-docker/docker/config.json r.example",
        "make room for Podman",
        "make room for Podman",
        "Podman refuses this job: bad parameter",
    ]


def test_the_login_is_where_the_unit_has_it() -> None:
    unit = (Path(__file__).parents[3] / "systemd/celery-worker.service").read_text()
    assert f"\nEnvironment=DOCKER_CONFIG={faults.LOGIN_FOLDER}\n" in unit


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, errors.ImageMissing), (409, errors.NameTaken), (400, errors.RequestError), (500, errors.HostError)],
)
def test_a_refused_create(status: int, kind: type[Exception]) -> None:
    """Docker's status says what kind of refusal it is."""
    assert type(faults.create_refused("run-x", "x:y", status, "why")) is kind


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, '{"message":"No command specified"}'),
        (500, "no command or entrypoint provided, and no CMD or ENTRYPOINT from image"),
    ],
)
def test_a_job_without_a_command(status: int, text: str) -> None:
    """Docker's words, and Podman's."""
    error = faults.create_refused("run-x", "x:y", status, text)
    assert type(error) is errors.RequestError
    assert str(error) == "command: image 'x:y' names none; name the command to run"


def test_a_user_of_an_image_that_nobody_can_be() -> None:
    error = faults.start_refused("true", None, 500, "uids and gids must be in range 0-2147483647")
    assert type(error) is errors.RequestError


def test_a_full_disk_is_told_apart() -> None:
    """The host takes no new jobs then."""
    text = "mkdir /var/lib/docker/overlay2/9f: no space left on device"
    error = faults.create_refused("run-x", "x:y", 500, text)
    assert type(error) is errors.NoSpace
    assert str(error) == f"container run-x cannot be made: {text} (HTTP 500); make room for Docker"


@pytest.mark.parametrize(
    ("status", "exit_code", "kind"),
    [
        (400, 127, errors.CannotStart),
        (400, 126, errors.CannotStart),
        (400, 128, errors.RequestError),
        (400, None, errors.RequestError),
        (500, 127, errors.HostError),
        (409, None, errors.HostError),
    ],
)
def test_a_refused_start(status: int, exit_code: int | None, kind: type[Exception]) -> None:
    """The exit code that Docker wrote into the container tells a bad command from a bad request."""
    assert type(faults.start_refused("nope", exit_code, status, "why")) is kind


@pytest.mark.parametrize(
    "text",
    [
        "runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?)",
        'failed to write "4194304": write /sys/fs/cgroup/memory/12/memory.limit_in_bytes: device or resource busy',
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_a_memory_limit_that_no_container_can_start_in(text: str, status: int) -> None:
    """Docker gives it the exit code of a command that does not exist; another try finds it no better."""
    error = faults.start_refused("true", 127, status, text)
    assert type(error) is errors.RequestError
    assert str(error) == "the container's memory limit is too small to start it; raise it with -m"


@pytest.mark.parametrize(
    "text",
    [
        'could not select device driver "nvidia" with capabilities: [[gpu]]',
        'exec: "nvidia-container-runtime-hook": executable file not found in $PATH',
        "OCI runtime create failed: error running prestart hook #0: fork/exec "
        "/usr/bin/nvidia-container-runtime-hook: no such file or directory: unknown",
        "runc create failed: error running hook #0: error running hook: exit status 1, stderr: Auto-detected mode as "
        "'legacy' nvidia-container-cli: initialization error: driver/library version mismatch",
        "CDI device injection failed: unresolvable CDI devices example.org/gpu=0",
    ],
)
@pytest.mark.parametrize(("status", "exit_code"), [(400, 127), (400, None), (500, 128)])
def test_gpus_that_a_host_cannot_give(text: str, status: int, exit_code: int | None) -> None:
    """Docker may say 400, and write 127 into the container, as if the command did not exist."""
    error = faults.start_refused("true", exit_code, status, text)
    assert type(error) is errors.HostError
    assert str(error).startswith(f"the container cannot be given its GPUs: {text[:20]}")


def test_a_command_that_is_called_like_a_program_of_nvidias() -> None:
    text = 'runc create failed: exec: "nvidia-container-cli": executable file not found in $PATH'
    assert type(faults.start_refused("nvidia-container-cli", 127, 400, text)) is errors.CannotStart


@pytest.mark.parametrize(
    ("exc", "kind", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), errors.EngineAway, "no such file; install docker.io or start docker"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), errors.EngineAway, "connection refused; start docker"),
        (PermissionError(errno.EACCES, "x"), errors.EngineDenied, "usermod -aG docker "),
        (TimeoutError("timed out"), errors.EngineAway, "did not answer in 7 s"),
        (ConnectionResetError(errno.ECONNRESET, "x"), errors.EngineAway, "broke the connection (ConnectionResetError)"),
    ],
)
def test_no_answer(exc: OSError, kind: type[Exception], words: str) -> None:
    """Each reason with what the administrator can do about it."""
    error = faults.unreachable(exc, _AT, 7)
    assert type(error) is kind
    assert _AT in str(error)
    assert words in str(error)


def test_a_long_text_stays_a_line() -> None:
    """Docker passes on whole pages of a proxy's HTML."""
    line = faults.one_line("a \n\t b" * 1000)
    assert len(line) == 500
    assert line.startswith("a ba b")
    assert line.endswith("...")


def test_podmans_refusals_of_a_create() -> None:
    """It has status 500 for both."""
    taken = (
        'creating container storage: the container name "run-x" is already in use by c0: that name is already in use'
    )
    assert isinstance(faults.create_refused("run-x", "busybox", 500, taken), errors.NameTaken)
    lacking = (
        "container-init binary not found on the host: stat /usr/libexec/podman/catatonit: no such file or directory"
    )
    refusal = faults.create_refused("run-x", "busybox", 500, lacking)
    assert isinstance(refusal, errors.HostError)
    assert str(refusal) == "Podman lacks the init that it puts into containers; apt install catatonit"


_MISSING = ": OCI runtime attempted to invoke a command that was not found"


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        ('runc: runc create failed: exec: "nope": executable file not found in $PATH' + _MISSING, 127),
        ('runc: runc create failed: exec: "/nope/x": stat /nope/x: no such file or directory' + _MISSING, 127),
        ("crun: executable file `nope` not found in $PATH: No such file or directory" + _MISSING, 127),
        ('runc: runc create failed: exec: "/etc/passwd": permission denied: OCI permission denied', 126),
        ("crun: open executable: Permission denied: OCI permission denied", 126),
    ],
)
def test_podmans_refusal_of_a_command(text: str, exit_code: int) -> None:
    """It has status 500 and words."""
    error = faults.start_refused("nope", 0, 500, text)
    assert isinstance(error, errors.CannotStart)
    assert error.exit_code == exit_code


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "crun: error while loading shared libraries: libyajl.so.2: No such file or directory" + _MISSING,
            errors.HostError,
        ),
        ("crun: make `/srv/merged` private: Permission denied: OCI permission denied", errors.HostError),
        ('workdir "/etc/passwd" exists on container 7f10, but is not a directory', errors.RequestError),
    ],
)
def test_podmans_refusal_of_something_else(text: str, kind: type[Exception]) -> None:
    """It ends with the same words where a file of its own is missing: that is the host's trouble."""
    assert type(faults.start_refused("nope", 0, 500, text)) is kind


def test_a_refusal_names_the_journal_that_says_more() -> None:
    assert str(faults.refused("no", 500, "why")).endswith("; see journalctl -u docker")
    assert str(faults.refused("no", 500, "why", "podman")).endswith("; see journalctl -u podman")


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (
            FileNotFoundError(errno.ENOENT, "x"),
            "cannot reach Podman at {}: no such file; install podman or start podman.",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "connection refused; start podman.socket"),
        (TimeoutError("timed out"), "see systemctl status podman"),
    ],
)
def test_no_answer_of_podman(exc: OSError, words: str) -> None:
    """Its socket's name says that it is Podman's."""
    at = "unix:///run/podman/podman.sock"
    assert words.format(at) in str(faults.unreachable(exc, at, 7))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("docker.sock", "chgrp docker {}"),
        ("podman.sock", "see Podman in the README"),
    ],
)
def test_a_socket_of_root(name: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is to be added to group root."""
    monkeypatch.setattr(grp, "getgrgid", lambda _number: grp.struct_group(("root", "x", 0, [])))
    socket = tmp_path / name
    socket.touch()
    error = str(faults.unreachable(PermissionError(errno.EACCES, "x"), f"unix://{socket}", 7))
    assert error.endswith(f", which is of group root; give it to group docker: {remedy.format(socket)}")
    assert "usermod" not in error


def test_a_socket_in_a_closed_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Podman's is."""
    closed = MagicMock(side_effect=PermissionError(errno.EACCES, "x"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", closed)
        error = str(faults.unreachable(PermissionError(errno.EACCES, "x"), "unix:///run/podman/podman.sock", 7))
    assert error.endswith(
        "podman.sock, which lies in a folder that is closed to it; for Podman's see Podman in the README"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot start a stopped process: unknown", True),
        ("OCI runtime start failed: container process is already dead: unknown", True),
        ("failed to create shim task: no such file or directory", False),
        ("", False),
    ],
)
def test_a_start_of_what_has_ended_already(text: str, expected: bool) -> None:
    """With a memory limit the kernel has ended it; a second try would be a second run."""
    assert faults.ended_before_its_start(text) is expected
    assert "too small to start it; raise it with -m" in str(faults.memory_too_small())
