"""Facts that only a real Docker can show: lost answers, restarts, registries, the kernel's numbers, error texts."""

from __future__ import annotations

import base64
import concurrent.futures
import http.server
import os
import resource
import socket
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import container, plan, policy
from celery_docker.core.container import Status, Stream, Usage
from celery_docker.core.jobspec import JobSpec
from celery_docker.engine import unixhttp
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.run.retrying import Retrying
from celery_docker.run.unseen import Unseen
from tests import servers
from tests.conftest import require
from tests.outputs import OUTPUTS
from tests.waiting import eventually
from tests.workers.registry import Registry

_TIMEOUT_S = 60


def planned(
    *command: str,
    name: str = "one",
    image: str = "busybox",
    network: str = "none",
    memory: int | None = None,
    **paths: str,
) -> plan.ContainerPlan:
    """Return the plan of a job, as the worker makes it."""
    host_policy = policy.Policy(networks=(network,), limits=policy.Limits(memory_bytes=memory))
    spec = JobSpec(image, command or None)
    resolved = plan.Resolved(**dict[str, Any](paths))
    return plan.plan(spec, job_id=name, attempt=1, host="here", resolved=resolved, policy=host_policy)


def run(engine: DockerEngine, container_plan: plan.ContainerPlan) -> tuple[container.Container, bytes, bytes]:
    """Run a container to its end; return it with its two streams."""
    container_id = engine.create(container_plan)
    with engine.attach(container_id) as stream:
        engine.start(container_id)
        out, err = streams(stream)
    assert engine.ended(container_id, within_s=60)
    return inspected(engine, container_id), out, err


def streams(frames: Any) -> tuple[bytes, bytes]:
    parts: dict[Stream, list[bytes]] = {Stream.STDOUT: [], Stream.STDERR: []}
    for frame in frames:
        parts[frame.stream].append(frame.payload)
    return b"".join(parts[Stream.STDOUT]), b"".join(parts[Stream.STDERR])


def inspected(engine: DockerEngine, name: str) -> container.Container:
    finished = engine.inspect(name)
    assert finished is not None
    return finished


def started(engine: DockerEngine, container_plan: plan.ContainerPlan) -> str:
    container_id = engine.create(container_plan)
    engine.start(container_id)
    return container_id


class Waiter(threading.Thread):
    """Waits for a container's end in the background."""

    def __init__(self, engine: DockerEngine, container_id: str) -> None:
        super().__init__(daemon=True)
        self._engine, self._container_id = engine, container_id
        self._said: container.End | None = None
        self.start()

    def run(self) -> None:
        self._said = self._engine.ended(self._container_id, within_s=60)

    def answer(self) -> container.End | None:
        self.join(_TIMEOUT_S)
        assert not self.is_alive()
        return self._said


def waiting(engine: DockerEngine, container_id: str) -> Waiter:
    return Waiter(engine, container_id)


class TestOutput:
    def test_30_short_jobs_lose_nothing(self, engine: DockerEngine, dockerd: servers.Dockerd) -> None:
        """Containers that are over before anybody could look are where output gets lost.

        Not by us: what is missing are streams that dockerd says it has given up.
        """

        def echo_numbers(number: int) -> tuple[bytes, bytes]:
            _, out, err = run(
                engine, planned("sh", "-c", f"echo out {number}; echo err {number} >&2", name=str(number))
            )
            return out, err

        given_up = dockerd.log.count(servers.GIVEN_UP)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            results = list(pool.map(echo_numbers, range(30)))
        printed = [(b"out %d\n" % n, b"err %d\n" % n) for n in range(30)]
        pairs = [pair for job in zip(results, printed, strict=True) for pair in zip(*job, strict=True)]
        lost = [line for got, line in pairs if got != line]
        assert all(got in (line, b"") for got, line in pairs)
        assert len(lost) <= dockerd.log.count(servers.GIVEN_UP) - given_up

    def test_large_output_in_constant_memory(self, engine: DockerEngine) -> None:
        """64 MiB, counted and thrown away: the process hardly grows."""
        container_id = engine.create(planned("head", "-c", str(64 * 2**20), "/dev/zero"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with engine.attach(container_id) as stream:
            engine.start(container_id)
            sizes = [len(frame.payload) for frame in stream]
        assert sum(sizes) == 64 * 2**20
        assert max(sizes) <= 64 * 1024
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_a_replay_is_the_output_byte_for_byte(self, engine: DockerEngine, tmp_path: Path, name: str) -> None:
        """While the container runs and after its end, on every Docker that there is."""
        source = tmp_path / "output"
        source.write_bytes(OUTPUTS[name])
        container_id = started(
            engine, planned("sh", "-c", "cat /input; cat /input >&2; sleep 1", inputpath=str(source))
        )
        with engine.replay(container_id) as stream:
            out, err = streams(stream)
        assert engine.ended(container_id, within_s=_TIMEOUT_S)
        # Docker may cut off the end of one that was begun before.
        assert OUTPUTS[name].startswith(out)
        assert OUTPUTS[name].startswith(err)
        with engine.replay(container_id) as stream:
            assert streams(stream) == (OUTPUTS[name], OUTPUTS[name])

    def test_a_replay_of_a_container_made_by_an_older_version(self, engine: DockerEngine) -> None:
        """Its log is json-file, which has every line end."""
        body = planned("sh", "-c", "for n in 16383 16384 20000; do head -c $n /dev/zero | tr '\\0' x; echo; done")
        body.body["HostConfig"] |= {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1000p"}}}
        state, out, _ = run(engine, body)
        with engine.replay(state.container_id) as stream:
            assert streams(stream)[0] == out == b"".join(b"x" * size + b"\n" for size in (16383, 16384, 20000))

    def test_the_daemons_log_options_cut_nothing(self) -> None:
        """An administrator's rotation default would leave holes in what an adopted job has written."""
        require("docker", servers.Dockerd.missing())
        options = ("--log-opt=max-size=1k", "--log-opt=max-file=2", "--log-opt=compress=true")
        with servers.Dockerd(*options) as server:
            server.import_busybox()
            engine = DockerEngine(server.url, connections=4)
            finished, out, _ = run(engine, planned("seq", "20000"))
            with engine.replay(finished.container_id) as stream:
                replayed, _ = streams(stream)
            cut = planned("seq", "20000", name="control")
            del cut.body["HostConfig"]["LogConfig"]
            control, _, _ = run(engine, cut)
            with engine.replay(control.container_id) as stream:
                assert len(streams(stream)[0]) < len(out), "the daemon's options did not bite: this test shows nothing"
        assert out.count(b"\n") == 20000
        assert replayed == out
        assert server.leftovers() == []


class TestRefusals:
    def test_a_missing_bind_source(self, engine: DockerEngine, dockerd: servers.Dockerd) -> None:
        """One line that names the path; Docker does not make it, as it does for volumes."""
        with pytest.raises(errors.RequestError, match="/nowhere/at/all") as raised:
            engine.create(planned("true", inputpath="/nowhere/at/all"))
        assert "\n" not in str(raised.value)
        assert not Path("/nowhere").exists()
        assert dockerd.containers() == []

    def test_no_command_and_an_image_that_has_none(self, engine: DockerEngine) -> None:
        """The remedy is named."""
        with pytest.raises(errors.RequestError, match=r"'busybox:latest' names none; name the command to run"):
            engine.create(planned())

    @pytest.mark.parametrize(("command", "exit_code"), [("nope", 127), ("/etc/passwd", 126), ("/bin", 126)])
    def test_a_command_that_init_cannot_start(self, engine: DockerEngine, command: str, exit_code: int) -> None:
        """With an init the start succeeds; the exit code is the one of a command that cannot be run."""
        finished, out, err = run(engine, planned(command, "x"))
        assert (finished.exit_code, out) == (exit_code, b"")
        assert command.encode() in err


class TestEnds:
    def test_out_of_memory(self, engine: DockerEngine) -> None:
        """The kernel's verdict is on the container."""
        finished, _, _ = run(engine, planned("tail", "/dev/zero", memory=16 * 2**20))
        assert (finished.oom_killed, finished.exit_code) == (True, 137)

    def test_a_stop_is_quick_with_init(self, engine: DockerEngine) -> None:
        """Without one the whole grace would pass and the job would be killed."""
        container_id = engine.create(planned("sh", "-c", "echo begun; exec sleep 1000"))
        with engine.attach(container_id) as stream:
            engine.start(container_id)
            next(iter(stream))  # before that its init may not listen yet
        engine.stop(container_id, grace_s=30)
        assert inspected(engine, container_id).exit_code == 143

    @pytest.mark.parametrize("signal", [None, "SIGINT", "NONSENSE"])
    def test_a_stop_does_not_take_no_for_an_answer(self, engine: DockerEngine, signal: str | None) -> None:
        """Signal, grace, KILL; a signal that does not exist is no excuse."""
        container_id = engine.create(planned("sh", "-c", "trap '' TERM INT; echo ready; while :; do sleep 1; done"))
        with engine.attach(container_id) as stream:
            engine.start(container_id)
            next(iter(stream))
            begun = time.monotonic()
            engine.stop(container_id, signal=signal, grace_s=1)
        assert 1 <= time.monotonic() - begun < 10
        assert inspected(engine, container_id).exit_code == 137

    def test_usage_of_a_busy_container(self, engine: DockerEngine) -> None:
        """CPU seconds are those of its work, and the memory peak is what it touched, within 5 %."""
        # dd fills a buffer of that size.
        work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec dd if=/dev/zero of=/dev/null bs=64M count=1"

        def measured() -> list[Usage]:
            container_id = engine.create(planned("sh", "-c", work))
            with engine.attach(container_id) as stream:
                engine.start(container_id)
                engine.watch_usage(container_id)
                list(stream)
            engine.ended(container_id, within_s=_TIMEOUT_S)
            usage = engine.usage(container_id)
            engine.remove(container_id)
            return [] if usage.cpu_s is None else [usage]

        # Docker of the tests has precedence over them, and may have cleared its groups before they are read.
        (usage,) = eventually(measured, 3 * _TIMEOUT_S)
        assert 0.05 < (usage.cpu_s or 0) < 30
        assert usage.memory_peak_bytes == pytest.approx(64 * 2**20, rel=0.05)


class TestRestarts:
    def test_a_dockerd_that_takes_its_containers_along(self, own_dockerd: servers.Dockerd) -> None:
        """The wait sees the end, or that it was disturbed; the log is all there afterwards."""
        engine = DockerEngine(own_dockerd.url, connections=4)
        container_id = engine.create(planned("sh", "-c", "echo begun; sleep 1000"))
        stream = engine.attach(container_id)
        engine.start(container_id)
        waiter = waiting(engine, container_id)
        own_dockerd.end()
        assert streams(stream) == (b"begun\n", b"")
        stream.close()
        with pytest.raises(errors.EngineAway, match=r"start docker\.service"):
            engine.inspect(container_id)
        own_dockerd.start()
        assert waiter.answer() or engine.ended(container_id, within_s=60)
        assert inspected(engine, container_id).status is Status.EXITED
        with engine.replay(container_id) as again:
            assert streams(again) == (b"begun\n", b"")

    def test_a_container_that_outlives_dockerd(self) -> None:
        """With live-restore the container goes on through a crash of dockerd; the wait says that it was disturbed."""
        require("docker", servers.Dockerd.missing())
        with servers.Dockerd("--live-restore=true") as server:
            server.import_busybox()
            engine = DockerEngine(server.url, connections=4)
            container_id = started(engine, planned("sh", "-c", "while :; do sleep 1; done"))
            waiter = waiting(engine, container_id)
            server.kill()
            server.start()
            assert waiter.answer() is None
            assert inspected(engine, container_id).status is Status.RUNNING
            waiter = waiting(engine, container_id)
            engine.stop(container_id, grace_s=5)
            assert waiter.answer() is not None
        assert server.leftovers() == []

    def test_a_docker_that_hangs(self, own_dockerd: servers.Dockerd) -> None:
        """A call ends in time and says so; afterwards the same engine works."""
        engine = DockerEngine(own_dockerd.url, call_timeout_s=0.5, connections=4)
        engine.check()
        own_dockerd.pause()
        try:
            with pytest.raises(errors.EngineAway, match=r"did not answer in 0\.5 s"):
                engine.inspect("x")
            with pytest.raises(errors.EngineAway, match=r"did not answer in 0\.5 s"):
                engine.attach("x")
            with pytest.raises(errors.EngineAway, match=r"did not answer in 0\.7 s"):
                engine.ping(within_s=0.7)
        finally:
            own_dockerd.resume()
        assert engine.inspect("x") is None


class _Forgetful(unixhttp.Http):
    """Does what it is asked, then loses the first answer about `path`."""

    def __init__(self, path: str, lost: str) -> None:
        super().__init__(path, keep=4)
        self.lost = lost

    def call(self, method: str, path: str, *, body: Any = None, timeout_s: float) -> unixhttp.Answer:
        answer = super().call(method, path, body=body, timeout_s=timeout_s)
        if self.lost and self.lost in path:
            self.lost = ""
            raise TimeoutError("timed out")
        return answer


class TestLostAnswers:
    def test_a_create_that_did_happen(self, engine: DockerEngine, dockerd: servers.Dockerd) -> None:
        """The container is found by its name: no second one, no error."""
        engine._calls.http = _Forgetful(str(dockerd.socket), "/containers/create")
        container_id = engine.create(planned("true"))
        assert inspected(engine, "run-one").container_id == container_id

    def test_a_create_that_met_a_strangers_container(self, engine: DockerEngine, dockerd: servers.Dockerd) -> None:
        """The container under that name is not the one that was planned: nothing is claimed."""
        stranger = planned("true")
        stranger.body["Labels"] = {}
        engine.create(stranger)
        engine._calls.http = _Forgetful(str(dockerd.socket), "/containers/create")
        with pytest.raises(errors.EngineAway):
            engine.create(planned("true"))

    def test_a_start_that_did_happen(self, engine: DockerEngine, dockerd: servers.Dockerd) -> None:
        """The engine asks nothing more, which could wait for the next Docker; whoever looks up its state goes on."""
        container_id = engine.create(planned("sleep", "1000"))
        engine._calls.http = forgetful = _Forgetful(str(dockerd.socket), "/start")
        with pytest.raises(errors.EngineAway):
            engine.start(container_id)
        forgetful.lost = "/start"
        Unseen(engine, Retrying()).start(container_id)
        assert inspected(engine, container_id).status is Status.RUNNING


class TestConnections:
    def test_many_threads_share_few_connections(self, engine: DockerEngine) -> None:
        """100 at once work, and afterwards only as many stay open as were asked for."""
        before = len(os.listdir("/proc/self/fd"))
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(engine.inspect, ["run-nobody"] * 1000))
        assert answers == [None] * 1000
        assert len(os.listdir("/proc/self/fd")) - before <= 16

    def test_streams_give_their_connections_back(self, engine: DockerEngine) -> None:
        """A worker of weeks must not run out of file descriptors."""
        container_id = engine.create(planned("true"))
        engine.attach(container_id).close()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            engine.attach(container_id).close()
            engine.replay(container_id).close()
        assert len(os.listdir("/proc/self/fd")) <= before

    def test_a_docker_that_goes_down_answers_no_new_caller(self, own_dockerd: servers.Dockerd) -> None:
        """The ping says why, and the next one says that it is back; an engine that was in use makes no difference."""
        engine = DockerEngine(own_dockerd.url, connections=4)
        engine.check()
        life = engine.life()
        assert engine.life() == life
        own_dockerd.end()
        with pytest.raises(errors.EngineAway, match=r"start docker\.service"):
            engine.ping()
        own_dockerd.start()
        engine.ping()
        assert engine.life() != life, "another process answers"
        assert engine.life() == engine.life()

    def test_a_docker_that_was_restarted_remembers_nothing(self, own_dockerd: servers.Dockerd) -> None:
        """Neither of what ended before, nor of what its predecessor ended itself."""
        own_dockerd.import_busybox()
        engine = DockerEngine(own_dockerd.url, connections=4)
        ended, running = (
            engine.create(planned("sh", "-c", script, name=name))
            for name, script in (("ended", "exit 143"), ("running", "sleep 600"))
        )
        for container_id in (ended, running):
            engine.start(container_id)
        assert engine.ended(ended, within_s=30)
        inspected(engine, ended)
        assert container.ended_by_itself(engine.remembered(ended))
        own_dockerd.restart()
        assert [engine.remembered(container_id) for container_id in (ended, running)] == [[], []]

    def test_the_folder_of_docker(self, dockerd: servers.Dockerd, engine: DockerEngine) -> None:
        """Where its disk fills up."""
        assert engine.folder() == f"{dockerd.folder}/data"


class TestUnreachable:
    def test_no_socket(self, tmp_path: Path) -> None:
        """Docker is not installed or not started: the line says what to do."""
        with pytest.raises(errors.EngineAway) as raised:
            DockerEngine(f"unix://{tmp_path}/docker.sock", connections=1).check()
        expected = f"cannot reach Docker at unix://{tmp_path}/docker.sock: no such file; "
        assert str(raised.value) == expected + "install docker.io or start docker.service"

    def test_a_socket_that_nobody_listens_on(self, tmp_path: Path) -> None:
        """Left behind by a dockerd that died."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{tmp_path}/docker.sock")
        with pytest.raises(errors.EngineAway, match=r"connection refused; start docker\.service"):
            DockerEngine(f"unix://{tmp_path}/docker.sock", connections=1).check()

    def test_a_user_who_may_not(self, dockerd: servers.Dockerd) -> None:
        """The administrator is told the command that helps."""
        program = (
            "import os; from celery_docker import errors\nfrom celery_docker.engine import dockerd as engine\n"
            f"docker = engine.DockerEngine({dockerd.url!r}, connections=1)\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "try: docker.check()\n"
            "except errors.EngineDenied as exc: print(exc)\n"
        )
        dockerd.folder.chmod(0o755)
        group = Path(dockerd.socket).group()
        assert not dockerd.socket.stat().st_mode & stat.S_IWOTH
        command = [sys.executable, "-c", program]
        completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert completed.stdout.strip() == (
            f"the user nobody may not use the socket {dockerd.url}; add it to the group that owns it ('{group}'): "
            f"usermod -aG {group} nobody, then restart"
        )

    def test_a_docker_that_is_too_old(self, tmp_path: Path) -> None:
        """Its version and the one that is needed."""
        refused = pytest.raises(
            errors.HostError, match=r"is too old: it speaks API 1\.40, and 1\.41 is the least; install Docker 20"
        )
        with _stub(f"{tmp_path}/docker.sock", b'{"ApiVersion": "1.40"}') as url, refused:
            DockerEngine(url, connections=1).check()

    def test_something_that_is_not_docker(self, tmp_path: Path) -> None:
        """Any other server on that socket."""
        refused = pytest.raises(errors.EngineAway, match="broke the connection")
        with _stub(f"{tmp_path}/docker.sock", b"<html>hello</html>") as url, refused:
            DockerEngine(url, connections=1).check()

    @pytest.mark.parametrize("status", [200, 500])
    @pytest.mark.parametrize("body", [b'{"message": "context canceled"}', b"[]", b"null"])
    def test_a_docker_that_does_not_say_its_version(self, tmp_path: Path, body: bytes, status: int) -> None:
        """It is asked again by whoever waits for its answer: no job ends for it."""
        with _stub(f"{tmp_path}/docker.sock", body, status) as url:
            engine = DockerEngine(url, connections=1)
            for ask in (engine.check, lambda: engine.inspect("run-one"), lambda: engine.attach("run-one")):
                with pytest.raises(errors.HostError):
                    ask()
            assert engine.ended("run-one", within_s=1) is None


class _stub:
    """A server on a socket that gives one answer to everything."""

    def __init__(self, path: str, body: bytes, status: int = 200) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self) -> str:
                return "local"

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = socketserver.ThreadingUnixStreamServer(path, Handler)
        self._url = f"unix://{path}"

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self._url

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class TestPull:
    def test_a_good_image(self, engine: DockerEngine, registry: Registry, dockerd: servers.Dockerd) -> None:
        """It runs afterwards, and its digest is the registry's."""
        image = f"{registry.address}/group/good:1.0"
        engine.pull(image)
        try:
            finished, out, _ = run(engine, planned("echo", "pulled", image=image))
            assert out == b"pulled\n"
            assert engine.digest(finished.image_id).startswith(f"{registry.address}/group/good@sha256:")
        finally:
            dockerd.remove_containers()
            dockerd.request("DELETE", f"/images/{image}?force=1")

    @pytest.mark.parametrize(
        ("status", "code"),
        [(404, "MANIFEST_UNKNOWN"), (404, "NAME_UNKNOWN"), (401, "UNAUTHORIZED"), (403, "DENIED")],
    )
    def test_the_requests_fault(self, engine: DockerEngine, registry: Registry, status: int, code: str) -> None:
        """Trying again cannot help: the name, the tag or the access is wrong."""
        registry.failures["/manifests/latest"] = (status, code)
        image = f"{registry.address}/{code.lower()}:latest"
        with pytest.raises(errors.RequestError, match=f"^image '{image}' cannot be pulled: ") as raised:
            engine.pull(image)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("status", "code"), [(429, "TOOMANYREQUESTS"), (500, "UNKNOWN"), (503, "UNAVAILABLE"), (502, "X")]
    )
    def test_the_registrys_trouble(self, engine: DockerEngine, registry: Registry, status: int, code: str) -> None:
        """It passes: the job is tried again."""
        registry.failures["/manifests/latest"] = (status, code)
        with pytest.raises(errors.HostError, match="cannot be pulled now"):
            engine.pull(f"{registry.address}/{code.lower()}:latest")

    @pytest.mark.parametrize("status", [404, 500])
    def test_an_error_inside_the_stream(self, engine: DockerEngine, registry: Registry, status: int) -> None:
        """Docker said 200 before it failed: every line is read."""
        registry.failures[registry.config_digest] = (status, "BLOB_UNKNOWN")
        with pytest.raises(errors.HostError, match="cannot be pulled now"):
            engine.pull(f"{registry.address}/broken:{status}")

    def test_a_closed_port(self, engine: DockerEngine) -> None:
        """The registry is down."""
        image = f"127.0.0.1:{servers.free_port()}/x:latest"
        with pytest.raises(errors.HostError, match=r"connection refused.*; check registry and network"):
            engine.pull(image)

    def test_a_malformed_name(self, engine: DockerEngine) -> None:
        """The spec refuses these first; should one get here, it is not tried again."""
        with pytest.raises(errors.RequestError, match="invalid reference format"):
            engine.pull("UPPER:latest")

    def test_credentials_of_docker_login(
        self, engine: DockerEngine, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A private registry gets those that `docker login` has put into the worker's home."""
        with tempfile.TemporaryDirectory() as home:
            login = base64.b64encode(b"user:pass").decode()
            Path(home, "config.json").write_text(f'{{"auths": {{"{registry.address}": {{"auth": "{login}"}}}}}}')
            monkeypatch.setenv("DOCKER_CONFIG", home)
            registry.password = login
            engine.pull(f"{registry.address}/private:latest")
            monkeypatch.setenv("DOCKER_CONFIG", f"{home}/none")
            with pytest.raises(errors.RequestError, match="no basic auth credentials") as raised:
                engine.pull(f"{registry.address}/private:latest")
        assert login not in str(raised.value)
        assert str(raised.value).endswith(f"docker --config /etc/celery-docker/docker login {registry.address}")

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "[]",
                "1",
                "null",
                "{",
                "[" * 100_000,
                '{"auths": [1]}',
                '{"auths": {"REGISTRY": {"auth": "c2VjcmV0"}}}',
            ),
            *(
                '{"auths": {"REGISTRY": {"auth": "?"}}}',
                '{"auths": {"REGISTRY": {"auth": 1}}}',
                '{"auths": {"REGISTRY": 1}}',
            ),
            *('{"credsStore": "no-such-helper"}', '{"credHelpers": 1}', '{"credHelpers": {"REGISTRY": 1}}', "\xff"),
        ],
    )
    def test_credentials_that_cannot_be_read_are_named(
        self, engine: DockerEngine, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "config.json").write_bytes(text.replace("REGISTRY", registry.address).encode("latin-1"))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(errors.HostError) as raised:
            engine.pull(f"{registry.address}/private:latest")
        complaint = str(raised.value)
        assert complaint.startswith(
            f"the credentials for {registry.address} in {tmp_path}/config.json cannot be read: "
        )
        assert complaint.endswith(
            f"write them anew: docker --config /etc/celery-docker/docker login {registry.address}"
        )
        assert complaint.isprintable()
        assert "secret" not in complaint


@pytest.mark.parametrize("off_s", [3600, -3600], ids=["ahead", "behind"])
def test_events_are_remembered_by_dockers_own_clock(
    dockerd: servers.Dockerd, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    """Somebody has set this process's clock: Docker neither waits for that time, nor leaves anything out."""
    ended, _, _ = run(engine, planned("sh", "-c", "exit 3"))
    right_time = time.time
    monkeypatch.setattr(time, "time", lambda: right_time() + off_s)
    impatient = DockerEngine(dockerd.url, call_timeout_s=10, connections=1)
    assert impatient.remembered(ended.container_id) == [container.Event.START, container.Event.DIE]
    impatient.close()
