"""Users of other hosts in a booted Debian: by a token through nginx and Caddy with TLS, and by a socket through ssh."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import machine
from tests.machines.installed import Installed
from tests.waiting import eventually

NAME = "jobs.example.org"
HERE, THERE = "http://127.0.0.1:9809", f"https://{NAME}"
CERTIFICATE = f"/etc/ssl/certs/{NAME}.pem"
KEYS = "/home/alice/.ssh/authorized_keys"
EXAMPLES = "/usr/share/doc/celery-docker/examples"
# By proxy: the user whose key it has to read, the example, and where that goes.
PROXIES = {
    "nginx": ("root", "nginx.conf", "/etc/nginx/sites-enabled/celery-docker"),
    "caddy": ("caddy", "Caddyfile", "/etc/caddy/Caddyfile"),
}
_PACKAGES = ("caddy", "nginx", "openssh-server", "openssl")
_CERTIFY = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -addext "subjectAltName=DNS:$1" \
    -keyout "/etc/ssl/private/$1.key" -out "/etc/ssl/certs/$1.pem" 2>/dev/null
chmod 711 /etc/ssl/private
echo "127.0.0.1 $1" >>/etc/hosts
"""
# Asks through the proxy with the headers of one that is trusted elsewhere; prints the status.
_SPOOF = """
import http.client, sys
connection = http.client.HTTPSConnection(sys.argv[1])
names = ("X-Forwarded-For", "X-Real-IP", "X-Remote-User", "Forwarded")
connection.request("GET", "/api/v1/jobs", headers=dict.fromkeys(names, "127.0.0.1"))
print(connection.getresponse().status)
"""


# Logs in as a browser, with the token on standard input; prints the attributes of the cookie, whose the session is,
# and what becomes of a request that another website has the browser send.
_LOGIN = """
import http.client, json, sys
def ask(method, target, body=None, **headers):
    connection = http.client.HTTPSConnection(sys.argv[1])
    connection.request(method, target, body, headers)
    return connection.getresponse()
own, token = {"Origin": f"https://{sys.argv[1]}"}, sys.stdin.read().strip()
assert ask("GET", "/").read().lower().startswith(b"<!doctype html>")
made = ask("POST", "/login", json.dumps({"token": token}), **own)
cookie, _, attributes = made.headers["Set-Cookie"].partition("; ")
whose = json.load(ask("GET", "/api/v1/identity", Cookie=cookie))["name"]
cross = ask("POST", "/api/v1/cancel", '{"ids": ["a"]}', Cookie=cookie, Origin="https://evil.example").status
print(attributes, whose, ask("POST", "/api/v1/cancel", '{"ids": ["a"]}', Cookie=cookie, **own).status, cross)
"""


@pytest.fixture(scope="module")
def installed(package: Path) -> Iterator[Installed]:
    """A machine with the package and both proxies; bob is whoever asks, alice the account that he asks for."""
    release = machine.package_release()
    own_cli = () if release == "bookworm" else ("docker-cli",)
    image = machine.base_image(release, packages=(*machine.READY, *own_cli, *_PACKAGES), variant="proxies")
    with machine.Machine.boot("remote", image) as booted:
        booted.run("systemctl", "stop", "nginx", "caddy")
        machine.import_busybox(booted)
        debian = Installed(booted)
        debian.install(package)
        for name in ("alice", "bob"):
            booted.run("useradd", "--create-home", name)
        booted.shell(_CERTIFY, NAME)
        debian.wait_until_ready()
        yield debian
    assert machine.leftovers() == []


def asked(
    installed: Installed, *words: str, url: str = THERE, trusts: str = CERTIFICATE, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the command line as bob."""
    env = {"HOME": "/home/bob", "CELERY_DOCKER_BROKER_URL": url}
    env |= {"SSL_CERT_FILE": trusts} if trusts else {}
    return installed.debian.run("celery-docker", *words, user="bob", env=env, check=check)


def uid(installed: Installed, user: str) -> str:
    return installed.debian.run("id", "-u", user).stdout


@pytest.fixture(scope="module")
def secret(installed: Installed) -> str:
    """A token of alice's, in bob's file."""
    debian = installed.debian
    debian.run("systemctl", "enable", "--now", "celery-docker-api-tcp.socket")
    made = debian.run("celery-docker", "token", "add", "alice", "--rights", "read,submit,cancel").stdout
    debian.shell(
        "umask 077; mkdir -p /home/bob/.config/celery-docker; cat >/home/bob/.config/celery-docker/token;"
        " chown -R bob:bob /home/bob/.config",
        input=made,
    )
    return made.strip()


def test_an_installation_listens_nowhere(installed: Installed) -> None:
    debian = installed.debian
    assert debian.run("systemctl", "is-enabled", "celery-docker-api-tcp.socket", check=False).stdout == "disabled\n"
    assert "9809" not in debian.run("ss", "-Htln").stdout
    assert "there is no token: put the one" in asked(installed, "ps", url=HERE, check=False).stderr


def test_a_token_works_on_its_own_host(installed: Installed, secret: str) -> None:
    debian = installed.debian
    assert "127.0.0.1:9809" in debian.run("ss", "-Htln").stdout
    assert installed.show("ActiveState", "celery-docker-api-tcp") == "inactive"
    assert asked(installed, "run", "busybox", "id", "-u", url=HERE).stdout == uid(installed, "alice")
    assert installed.show("ActiveState", "celery-docker-api-tcp") == "active"
    assert debian.run("stat", "-c", "%U:%G:%a", "/etc/celery-docker/tokens").stdout == "root:celery:640\n"
    journal = debian.journal("celery-docker-api-tcp")
    assert "alice (uid " in journal
    assert secret not in journal
    # The Unix socket is another service, and off.
    assert debian.run("test", "-e", "/run/celery-docker/api.sock", check=False).returncode == 1


def test_systemd_finds_nothing_to_mend_in_the_units(installed: Installed) -> None:
    for unit in ("celery-docker-api-tcp.service", "celery-docker-api-tcp.socket"):
        made = installed.debian.run("systemd-analyze", "verify", unit)
        assert made.stdout + made.stderr == ""


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_example_of_a_proxy(installed: Installed, secret: str, proxy: str) -> None:
    debian = installed.debian
    owner, example, place = PROXIES[proxy]
    debian.run("chown", owner, f"/etc/ssl/private/{NAME}.key")
    debian.run("cp", f"{EXAMPLES}/{example}", place)
    debian.run("systemctl", "start", proxy)
    try:
        # The name that a proxy passes on is to be told to the service first.
        if proxy == next(iter(PROXIES)):
            assert "is no name of this service" in asked(installed, "ps", check=False).stderr
            debian.shell("echo CELERY_DOCKER_API_HOSTS=$1 >>/etc/default/celery-worker", NAME)
            debian.run("systemctl", "try-restart", "celery-docker-api-tcp")
        made = debian.run("/usr/bin/python3", "-c", _LOGIN, NAME, input=secret, env={"SSL_CERT_FILE": CERTIFICATE})
        assert made.stdout == "HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure alice 200 403\n"
        assert asked(installed, "run", "busybox", "id", "-u").stdout == uid(installed, "alice")
        # The certificate is its own, and no authority of this system has signed it.
        refused = asked(installed, "ps", trusts="", check=False)
        assert f"the certificate of {THERE} is not valid: self-signed certificate; " in refused.stderr
        made = debian.run("/usr/bin/python3", "-c", _SPOOF, NAME, env={"SSL_CERT_FILE": CERTIFICATE})
        assert made.stdout == "401\n"
        # What the job has written is there while it runs.
        job_id = asked(installed, "submit", "busybox", "sh", "-c", "echo first; sleep 1000").stdout.strip()
        follow = "setsid runuser -u bob -- celery-docker logs -f $1 >/tmp/followed 2>&1 </dev/null &"
        env = {"HOME": "/home/bob", "CELERY_DOCKER_BROKER_URL": THERE, "SSL_CERT_FILE": CERTIFICATE}
        debian.shell(follow, job_id, env=env)
        eventually(lambda: debian.read("/tmp/followed") == "first\n", 60, "the output of a job that runs")
        debian.run("systemctl", "restart", "celery-docker-api-tcp")
        asked(installed, "cancel", job_id)
        assert asked(installed, "wait", job_id, check=False).returncode == 143
        # More in one request than nginx takes by itself.
        batch = ("batch", "--queue", "nowhere", "--array", "1-1000", "busybox", "echo", "x" * 2000)
        batch_id = asked(installed, *batch).stdout.strip()
        assert json.loads(asked(installed, "status", "--json", batch_id).stdout)["counts"] == {"queued": 1000}
        debian.run("systemctl", "stop", "celery-docker-api-tcp.socket", "celery-docker-api-tcp.service")
        away = asked(installed, "ps", check=False)
        assert f"celery-docker-api at {THERE} does not answer its proxy: status 502" in away.stderr
        assert secret not in away.stderr
    finally:
        debian.run("systemctl", "start", "celery-docker-api-tcp.socket")
        debian.run("systemctl", "stop", proxy)


def test_a_socket_through_ssh_is_that_of_the_account_there(installed: Installed) -> None:
    """No token: sshd opens the socket as alice, who has logged in, and the kernel says so."""
    debian = installed.debian
    debian.run("systemctl", "enable", "--now", "celery-docker-api.socket")
    debian.run("systemctl", "start", "ssh")
    debian.run("runuser", "-u", "bob", "--", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/bob/key")
    debian.shell("install -d -o alice -m 700 /home/alice/.ssh; install -o alice /home/bob/key.pub $1", KEYS)
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    words = ("ssh", "-f", "-N", *options, "-i", "/home/bob/key", "-L", "/home/bob/api.sock:/run/celery-docker/api.sock")
    debian.shell('"$@" >/dev/null 2>&1 </dev/null', "runuser", "-u", "bob", "--", *words, "alice@localhost")
    url = "http+unix:///home/bob/api.sock"
    assert asked(installed, "run", "busybox", "id", "-u", url=url).stdout == uid(installed, "alice")
    refused = asked(installed, "run", "--user", "bob", "busybox", "id", url=url, check=False)
    assert "user: 'bob' is not the submitter: jobs of 'alice'" in refused.stderr
    assert debian.run("stat", "-c", "%U:%a", "/home/bob/api.sock").stdout == "bob:600\n"


def test_a_token_ends_when_it_is_removed_and_a_purge_leaves_none(installed: Installed, secret: str) -> None:
    debian = installed.debian
    (row,) = json.loads(debian.run("celery-docker", "token", "list", "--json").stdout)["tokens"]
    assert (row["account"], row["rights"]) == ("alice", ["cancel", "read", "submit"])
    assert asked(installed, "ps", url=HERE).returncode == 0
    debian.run("celery-docker", "token", "remove", row["id"])
    assert "this token is not known, or was removed" in asked(installed, "ps", url=HERE, check=False).stderr
    debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=300)
    assert debian.shell("find /etc /run -name '*celery-docker*' -not -path '/etc/nginx/*'").stdout == ""
    assert "9809" not in debian.run("ss", "-Htln").stdout
