"""Snakemake 9 with the shipped plugin and wrappers, as an ordinary user on a real gateway, worker, Redis and Docker."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import servers, snakemakes
from tests.conftest import require
from tests.gateways import Gateway
from tests.snakemakes import GLIBC, Desk, cluster_generic, plugin
from tests.waiting import eventually
from tests.workers.worker import Worker

ALICE = 31001
# With it a job script runs in an image that has nothing of its own.
USR = "/usr:/usr:ro"
BUSYBOX = 'container: "docker://busybox"\n'


@pytest.fixture(scope="session")
def environment() -> Path:
    """The virtual environment of Snakemake."""
    try:
        return snakemakes.installed()
    except snakemakes.NotInstalled as exc:
        require("snakemake", str(exc))
        raise


@pytest.fixture(scope="module")
def worker(server: servers.RedisServer, dockerd: servers.Dockerd, environment: Path) -> Iterator[Worker]:
    dockerd.import_image(GLIBC, snakemakes.glibc_tar())
    worker = Worker(server.url, dockerd, CELERY_DOCKER_CONCURRENCY="4", CELERY_DOCKER_CPUS="8")
    worker.policy.write_text(f'mounts = ["/tmp", "/usr", "{environment}"]\nnetworks = ["none"]\n')
    with worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer, worker: Worker) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        yield gateway
        assert "Traceback" not in gateway.log


@pytest.fixture
def desk(environment: Path, gateway: Gateway, dockerd: servers.Dockerd) -> Iterator[Desk]:
    with Desk(environment, ALICE, gateway.url) as desk:
        yield desk
    assert dockerd.running() == []
    eventually(lambda: dockerd.containers() == [], 60, "no container left")


def jobs(gateway: Gateway, state: str = "") -> list[dict[str, object]]:
    """The jobs of alice, the newest first."""
    query = f"?limit=500{'&state=' + state if state else ''}"
    ((status, answer),) = gateway.ask_as(ALICE, ("GET", f"/api/v1/jobs{query}"))
    assert status == 200
    listed: list[dict[str, object]] = answer["jobs"]
    return listed


def test_the_example_while_a_worker_is_killed(desk: Desk, worker: Worker, gateway: Gateway) -> None:
    """Thirty samples in plain images: all files are there, and each job ran as the user."""
    desk.take("example")
    with desk.begun("--profile", "profile") as run:
        eventually(lambda: len(list(desk.folder.glob("samples/*"))) > 5, 60, "some jobs have run")
        worker.kill()
        worker.start()
        assert run.wait() == 0, run.output
    table = (desk.folder / "results/table.txt").read_text().splitlines()
    assert table == [f"results/s{number:02}/lines.txt 1001" for number in range(1, 31)]
    assert {path.stat().st_uid for path in desk.folder.glob("*/**/*.txt")} == {ALICE}
    listed = {str(job["name"]): job for job in jobs(gateway)}
    assert listed["count.s07"]["state"] == "succeeded"
    assert len([name for name in listed if name.startswith("count.")]) == 30
    again = desk.snakemake("--profile", "profile")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


FAILING = f"""{BUSYBOX}
rule all:
    input: expand("good/{{n}}.txt", n=range(3)), "bad/out.txt"
rule good:
    output: "good/{{n}}.txt"
    shell: "echo {{wildcards.n}} > {{output}}"
rule bad:
    output: "bad/out.txt"
    shell: "echo part > {{output}}; echo no memory of that >&2; exit 3"
rule strange:
    output: "strange.txt"
    container: "docker://NoImage"
    shell: "true"
rule script:
    output: "script.txt"
    run: pass
"""


def test_a_failing_rule_says_why(desk: Desk, worker: Worker, gateway: Gateway) -> None:
    desk.write(FAILING)
    made = desk.snakemake(*plugin("--keep-going"))
    assert made.returncode == 1
    failed = next(job for job in jobs(gateway, "failed") if job["name"] == "bad")
    assert (
        f"message: failed: exit code 3 on {failed['host']}; all of its output: celery-docker logs {failed['id']}"
        in (made.stdout)
    )
    assert "\n        no memory of that\n" in made.stdout
    assert {path.name: path.read_text() for path in (desk.folder / "good").iterdir()} == {
        f"{n}.txt": f"{n}\n" for n in range(3)
    }
    assert not (desk.folder / "bad/out.txt").exists()


def test_what_cannot_be_a_job_is_named_with_its_rule(desk: Desk, worker: Worker) -> None:
    """The service says what is wrong with an image; that a rule needs one, the plugin knows."""
    desk.write(FAILING.replace(BUSYBOX, ""))
    made = desk.snakemake(*plugin("strange.txt"))
    assert made.returncode == 1
    assert "celery-docker: image: 'NoImage' " in made.stdout
    made = desk.snakemake(*plugin("script.txt"))
    assert made.returncode == 1
    assert "script is no shell command with a container; name an image" in made.stdout


SLOW = f"""{BUSYBOX}
rule all:
    input: expand("slow/{{n}}.txt", n=range(6))
rule slow:
    output: "slow/{{n}}.txt"
    shell: "touch began.{{wildcards.n}}; until test -e go; do sleep 0.1; done; echo whole > {{output}}"
"""


def begun(desk: Desk, count: int) -> bool:
    return len(list(desk.folder.glob("began.*"))) >= count


def test_ctrl_c_leaves_no_container(desk: Desk, dockerd: servers.Dockerd, gateway: Gateway) -> None:
    """Four run and two wait: all are cancelled, and when Snakemake has ended nothing runs any more."""
    desk.write(SLOW)
    with desk.begun(*plugin()) as run:
        eventually(lambda: begun(desk, 4), 60, "four jobs run")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 1, run.output
        assert dockerd.running() == []
    assert [job["state"] for job in jobs(gateway)[:6]] == ["cancelled"] * 6
    assert "Snakemake was interrupted" in str(jobs(gateway)[0]["cancel_reason"])


def test_for_what_jobs_wait_is_said(desk: Desk) -> None:
    snakefile = (
        f'{BUSYBOX}\nrule large:\n    output: "large.txt"\n    resources: mem_mb=90_000_000\n    shell: "true"\n'
    )
    desk.write(snakefile)
    with desk.begun(*plugin()) as run:
        eventually(lambda: "Jobs wait in the queue: no host offers" in run.output, 60, "it is said")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 1, run.output


def test_a_killed_snakemake_goes_on_with_its_jobs(desk: Desk, gateway: Gateway) -> None:
    desk.write(SLOW)
    with desk.begun(*plugin()) as run:
        eventually(lambda: begun(desk, 4), 60, "four jobs run")
        run.process.kill()
    before = len(jobs(gateway))
    desk.snakemake("--unlock")
    with desk.begun(*plugin()) as run:
        eventually(lambda: run.output.count("is there from before") == 6, 60, "all are found")
        (desk.folder / "go").touch()
        assert run.wait() == 0, run.output
    assert len(jobs(gateway)) == before
    assert {path.read_text() for path in (desk.folder / "slow").iterdir()} == {"whole\n"}


def test_incomplete_jobs_are_ended_before_they_run_anew(desk: Desk, gateway: Gateway) -> None:
    desk.write(SLOW.replace('"touch', '"echo part > {output}; touch'))
    with desk.begun(*plugin("slow/1.txt")) as run:
        eventually(lambda: begun(desk, 1), 60, "it runs")
        run.process.kill()
    desk.snakemake("--unlock")
    refused = desk.snakemake(*plugin("slow/1.txt"))
    assert "Incomplete files" in refused.stdout
    (desk.folder / "began.1").unlink()
    with desk.begun(*plugin("slow/1.txt", "--rerun-incomplete")) as run:
        eventually(lambda: begun(desk, 1), 60, "it runs anew")
        assert [job["state"] for job in jobs(gateway)[:2]] == ["running", "cancelled"]
        (desk.folder / "go").touch()
        assert run.wait() == 0, run.output


def test_a_service_and_a_redis_that_are_away_are_waited_for(
    desk: Desk, gateway: Gateway, server: servers.RedisServer
) -> None:
    desk.write(SLOW)
    with desk.begun(*plugin()) as run:
        eventually(lambda: begun(desk, 4), 60, "four jobs run")
        gateway.kill()
        gateway.start()
        server.pause()
        try:
            eventually(lambda: "does not answer now, and is waited for" in run.output, 120, "it says so")
        finally:
            server.resume()
        (desk.folder / "go").touch()
        assert run.wait() == 0, run.output
        assert "celery-docker-api answers again." in run.output


def _request(asking: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        text += asking.recv(65_536)
    head, _, body = text.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
    while len(body) < length:
        body += asking.recv(65_536)
    return head + b"\r\n\r\n" + body


@contextmanager
def passing(listening: socket.socket, pass_on: Callable[[socket.socket], None]) -> Iterator[None]:
    """Hand over each connection that comes, one after the other."""

    def serve() -> None:
        while True:
            try:
                asking, _ = listening.accept()
            except OSError:
                return
            pass_on(asking)

    with listening:
        listening.listen()
        threading.Thread(target=serve, daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def losing(gateway: Gateway, folder: Path) -> Iterator[str]:
    """A way to the service on which the answer to the first job is lost."""
    path = folder / "lossy.sock"
    lost: list[bytes] = []

    def pass_on(asking: socket.socket) -> None:
        with asking, socket.socket(socket.AF_UNIX) as service:
            service.connect(gateway.path)
            text = _request(asking)
            service.sendall(text)
            answer = b"".join(iter(lambda: service.recv(65_536), b""))
            if text.startswith(b"POST /api/v1/jobs ") and not lost:
                lost.append(text)
            else:
                asking.sendall(answer)

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o666)
    with passing(listening, pass_on):
        yield f"http+unix://{path}"
    assert lost


@contextmanager
def behind_tls(gateway: Gateway, folder: Path) -> Iterator[tuple[str, str]]:
    """A proxy with a certificate of its own in front of the service; yields the URL and the certificate's text."""
    certificate = folder / "certificate.pem"
    servers.make_certificate(folder, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, folder / "key.pem")

    def pass_on(asking: socket.socket) -> None:
        # One who does not trust the certificate asks nothing.
        with (
            suppress(ssl.SSLError, ConnectionError),
            context.wrap_socket(asking, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", gateway.port)) as service,
        ):
            service.sendall(_request(secure))
            secure.sendall(b"".join(iter(lambda: service.recv(65_536), b"")))

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    with passing(listening, pass_on):
        yield url, certificate.read_text()


def test_a_lost_answer_makes_no_second_job(environment: Path, gateway: Gateway, tmp_path: Path) -> None:
    """Through this test's own socket: as root, whose jobs are all of them."""
    before = len(jobs(gateway))
    with losing(gateway, tmp_path) as url, Desk(environment, 0, url) as desk:
        desk.write(f'{BUSYBOX}\nrule one:\n    output: "one.txt"\n    shell: "echo 1 >> {{output}}"\n')
        made = desk.snakemake(*plugin())
        assert made.returncode == 0, made.stdout
        assert "is waited for" in made.stdout
        assert (desk.folder / "one.txt").read_text() == "1\n"
        listed = gateway.ask("GET", "/api/v1/jobs?name=one")[1]["jobs"]
    assert len(listed) == 1
    assert len(jobs(gateway)) == before


EVERY_KIND = """
rule all:
    input: "script.txt", "run.txt", "touched.txt", "shadow.txt", "bench.txt", "tmp.txt", "folder", "env.txt"
envvars: "GREETING"
rule script:
    output: "script.txt"
    script: "code.py"
rule run:
    output: "run.txt"
    run:
        with open(output[0], "w") as file:
            file.write("run")
rule touched:
    output: touch("touched.txt")
    container: "docker://busybox"
    shell: "true"
rule shadow:
    output: "shadow.txt"
    container: "docker://busybox"
    shadow: "minimal"
    shell: "touch junk.txt; echo shadow > {output}"
rule bench:
    output: "bench.txt"
    benchmark: "bench.tsv"
    container: "docker://glibc:1"
    shell: "echo bench > {output}"
rule tmp:
    output: "tmp.txt"
    container: "docker://busybox"
    shell: "echo tmp > {resources.tmpdir}/x; cat $TMPDIR/x > {output}"
rule folder:
    output: directory("folder")
    container: "docker://busybox"
    shell: "mkdir -p {output}; id -u > {output}/id"
rule env:
    output: protected("env.txt")
    container: "docker://busybox"
    threads: 2
    shell: "echo $GREETING $OMP_NUM_THREADS {threads} > {output}"
"""


def test_every_kind_of_rule(environment: Path, gateway: Gateway) -> None:
    """What is no shell command runs Snakemake's job script in an image that has no Python of its own."""
    with Desk(environment, ALICE, gateway.url, GREETING="word") as desk:
        desk.write(EVERY_KIND, code__py='with open(snakemake.output[0], "w") as file:\n    file.write("script")\n')
        made = desk.snakemake(*plugin("--celery-docker-image", GLIBC, "--celery-docker-mounts", USR))
        assert made.returncode == 0, made.stdout
        read = {path.name: path.read_text().strip() for path in desk.folder.glob("*.txt")}
        assert read == {
            **{f"{name}.txt": name for name in ("script", "run", "shadow", "bench", "tmp")},
            "touched.txt": "",
            "env.txt": "word 2 2",
        }
        assert (desk.folder / "folder/id").read_text() == f"{ALICE}\n"
        assert (desk.folder / "bench.tsv").exists()
        assert not (desk.folder / "junk.txt").exists()
        assert (desk.folder / "env.txt").stat().st_mode & 0o222 == 0


def test_over_tls_with_a_token(environment: Path, gateway: Gateway, tmp_path: Path) -> None:
    """Of the certificates that are trusted, SSL_CERT_FILE names the file, as for the command line."""
    gateway.users(alice=ALICE)
    with behind_tls(gateway, tmp_path) as (url, certificate), Desk(environment, ALICE, url) as desk:
        snakefile = f'{BUSYBOX}\nrule one:\n    output: "one.txt"\n    shell: "id -u > {{output}}"\n'
        desk.write(snakefile, certificate__pem=certificate)
        refused = desk.snakemake(*plugin())
        assert refused.returncode == 1
        assert "cannot read the token" in refused.stdout
        desk.environ = {**desk.environ, "CELERY_DOCKER_TOKEN": gateway.token("alice")}
        refused = desk.snakemake(*plugin())
        assert refused.returncode == 1
        assert f"the certificate of {url} is not valid: self-signed certificate; " in refused.stdout
        desk.environ = {**desk.environ, "SSL_CERT_FILE": f"{desk.folder}/certificate.pem"}
        made = desk.snakemake(*plugin())
        assert made.returncode == 0, made.stdout
        assert f"Jobs run as alice ({ALICE}) by celery-docker at {url}." in made.stdout
        assert (desk.folder / "one.txt").read_text() == f"{ALICE}\n"


def test_a_service_that_is_off_is_named(environment: Path, tmp_path: Path) -> None:
    with Desk(environment, ALICE, f"http+unix://{tmp_path}/none.sock") as desk:
        desk.write(SLOW)
        made = desk.snakemake(*plugin())
    assert made.returncode == 1
    assert "celery-docker-api does not answer" in made.stdout
    assert "systemctl enable --now celery-docker-api.socket" in made.stdout


def test_the_wrappers_under_cluster_generic(desk: Desk, environment: Path, worker: Worker) -> None:
    """The Snakemake of this host runs in each container; the wrappers say what has become of it."""
    snakefile = FAILING.replace("range(3)", "range(2)").replace(BUSYBOX, "")
    desk.write(snakefile)
    submit = f"--image {GLIBC} --mount {environment} --mount /usr --cpus {{threads}} --name {{rule}}"
    made = desk.snakemake(*cluster_generic(desk.shipped, submit), "--keep-going")
    assert made.returncode == 1
    assert {path.name for path in (desk.folder / "good").iterdir()} == {"0.txt", "1.txt"}
    assert made.stdout.count("Error in rule bad") == 1
    assert "is failed; celery-docker logs " in made.stdout


def test_the_wrappers_cancel(desk: Desk, environment: Path, dockerd: servers.Dockerd, gateway: Gateway) -> None:
    desk.write(SLOW.replace(BUSYBOX, ""))
    submit = f"--image {GLIBC} --mount {environment} --mount /usr"
    with desk.begun(*cluster_generic(desk.shipped, submit), "slow/1.txt") as run:
        eventually(lambda: begun(desk, 1), 120, "it runs")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 1, run.output
    eventually(lambda: dockerd.running() == [], 60, "its container has ended")
    assert jobs(gateway)[0]["state"] == "cancelled"


def test_a_wrapper_by_itself(desk: Desk, gateway: Gateway) -> None:
    """Names that would break JSON, many jobs in one request, refusals and a service that is away."""
    folder = desk.folder / 'a "quoted" \\ folder'
    desk.run("mkdir", str(folder), check=True)
    desk.run("sh", "-c", 'echo "pwd > out; echo \\$PATH > path" > script', cwd=folder, check=True)
    submit = f"{desk.shipped}/submit"
    made = desk.run(
        *(submit, "--image", "busybox", "--cpus", "1", "--memory", "20m", "--minutes", "5", "--name", "a \"b\" 'c'"),
        *("--queue", "celery", str(folder / "script")),
        cwd=folder,
    )
    assert made.returncode == 0, made.stdout
    job_id = made.stdout.strip()
    status = f"{desk.shipped}/status"
    eventually(lambda: desk.run(status, job_id).stdout == "success\n", 60, "it succeeds")
    assert (folder / "out").read_text() == f"{folder}\n"
    ((_, job),) = gateway.ask_as(ALICE, ("GET", f"/api/v1/jobs/{job_id}"))
    assert (job["name"], job["spec"]["memory"], job["spec"]["timeout"]) == ("a \"b\" 'c'", 20 * 2**20, 300)
    made = desk.run(status, job_id, "no-such-job", job_id)
    assert made.stdout.splitlines()[0] == "success"
    assert made.stdout.count("success\n") == 2
    assert "failed\n" in made.stdout
    for words, complaint in (
        ((submit, "script"), "name an image that has a glibc"),
        ((submit, "--image", "busybox", "none"), "there is no script 'none'"),
        ((submit, "--image", "busybox", "--cpus", "many", str(folder / "script")), "--cpus 'many' must be a number"),
        ((submit, "--image", "busybox", "--cpus"), "there is no script '--cpus'"),
        ((submit, "--image", "busy\nbox", str(folder / "script")), "there is a line break"),
        ((submit, "--image", "Busybox", str(folder / "script")), "image: 'Busybox' "),
        ((submit, "--privileged", "1", str(folder / "script")), "--privileged is not known"),
        ((status,), "name the jobs"),
        ((f"{desk.shipped}/cancel", "a b"), "a b"),
    ):
        made = desk.run(*words)
        assert made.returncode == 1
        assert complaint in made.stdout
        assert made.stdout.count("\n") == 1
    away = {**desk.environ, "CELERY_DOCKER_BROKER_URL": "http+unix:///tmp/none.sock"}
    assert desk.run(status, "a", "b", env=away).stdout == "running\nrunning\n"


def test_a_wrapper_over_tls_with_a_token(environment: Path, gateway: Gateway, tmp_path: Path) -> None:
    gateway.users(alice=ALICE)
    token = gateway.token("alice")
    with (
        behind_tls(gateway, tmp_path) as (url, certificate),
        Desk(environment, ALICE, url, CELERY_DOCKER_TOKEN=token) as desk,
    ):
        desk.write("", script="true\n", certificate__pem=certificate)
        submit = (f"{desk.shipped}/submit", "--image", "busybox", f"{desk.folder}/script")
        made = desk.run(*submit)
        assert made.returncode == 1
        assert f"the certificate of {url} is not valid" in made.stdout
        # Its certificate may be mended, and what is running goes on.
        assert desk.run(f"{desk.shipped}/status", "some-job").stdout == "running\n"
        desk.environ = {**desk.environ, "SSL_CERT_FILE": f"{desk.folder}/certificate.pem"}
        made = desk.run(*submit)
        assert made.returncode == 0, made.stdout
        job_id = made.stdout.strip()
        eventually(lambda: desk.run(f"{desk.shipped}/status", job_id).stdout == "success\n", 60, "it succeeds")
        desk.environ = {**desk.environ, "CELERY_DOCKER_TOKEN": "wrong"}
        made = desk.run(f"{desk.shipped}/status", job_id)
        assert made.returncode == 1
        assert "token" in made.stdout
