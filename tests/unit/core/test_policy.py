"""The host's rules: what the file may say, and what is answered to a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import policy, policyfile
from celery_docker.core.access import Identity
from celery_docker.core.devices import Node
from celery_docker.core.gpus import Wanted
from celery_docker.core.policy import Defaults, HostPath, Limits, Policy, Request
from celery_docker.core.userrules import Asked

SHIPPED = Path(__file__).parents[3] / "etc" / "celery-docker" / "policy.toml"
SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock")


def mount(real: str, path: str | None = None, field: str = "inputpath") -> HostPath:
    return HostPath(field, path or real, real)


def refusal(text: str) -> str:
    with pytest.raises(errors.PolicyError) as caught:
        policyfile.parse(text)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# The file as it is shipped


@pytest.fixture
def shipped() -> Policy:
    return policyfile.parse(SHIPPED.read_text())


def test_the_shipped_file_says_what_the_manual_says(shipped: Policy) -> None:
    assert shipped == Policy(
        images=("*",),
        mounts=("/srv", "/data", "/home", "/mnt", "/media", "/scratch", "/celery", "/tmp", "/var/tmp"),
        logs=("/var/log/celery",),
        users=("*",),
        networks=("bridge",),
        groups=(),
        capabilities=(),
        ulimits=("core", "cpu", "fsize", "memlock", "nofile", "rttime", "sigpending", "stack"),
        platforms=("own",),
        notify=(),
        limits=Limits(pids=4096, memory_bytes=None, cpus=None),
    )


@pytest.mark.parametrize("folder", ["srv", "data", "home", "mnt", "media", "scratch", "celery", "tmp", "var/tmp"])
def test_the_shipped_file_allows_data_folders(shipped: Policy, folder: str) -> None:
    path = f"/{folder}/project/x"
    assert policy.violations(shipped, Request("busybox", mounts=(mount(path),), logs=(mount(path),))) == []


@pytest.mark.parametrize("image", ["busybox", "lab/tool:1", "registry.example.org:5000/a/b/c@sha256:" + "0" * 64])
@pytest.mark.parametrize("user", [None, "alice", "0", "1000:100"])
def test_the_shipped_file_allows_all_images_and_users(shipped: Policy, image: str, user: str | None) -> None:
    assert policy.violations(shipped, Request(image, user=user, uid=user)) == []


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/root", "/var/lib/docker", "/run", "/opt/celery", "/var/log", "/proc/1/root"]
)
def test_the_shipped_file_keeps_the_system_closed(shipped: Policy, path: str) -> None:
    assert len(policy.violations(shipped, Request("busybox", mounts=(mount(path),)))) == 1


def test_the_shipped_file_keeps_its_log_folder_to_logs(shipped: Policy) -> None:
    path = mount("/var/log/celery/job.log")
    assert policy.violations(shipped, Request("busybox", logs=(path,))) == []
    assert len(policy.violations(shipped, Request("busybox", mounts=(path,)))) == 1


# Verdicts


@pytest.mark.parametrize(
    ("globs", "image", "allowed"),
    [
        (("*",), "anything/at:all", True),
        (("busybox",), "busybox", True),
        (("busybox",), "busybox:1.36", False),
        (("busybox:1.*",), "busybox:1.36", True),
        (("busybox:1.*",), "busybox:2.0", False),
        (("registry.example.org/lab/*",), "registry.example.org/lab/tool:1", True),
        (("registry.example.org/lab/*",), "registry.example.org/laboratory/tool", False),
        (("registry.example.org/lab/*",), "evil.org/registry.example.org/lab/tool", False),
        (("Lab/*",), "lab/tool", False),
        (("a", "b"), "b", True),
        (("registry.example.org/x:2.*",), "registry.example.org/x:2.0@sha256:" + "1" * 64, False),
        ((), "busybox", False),
    ],
)
def test_images(globs: tuple[str, ...], image: str, allowed: bool) -> None:
    violations = policy.violations(Policy(images=globs), Request(image))
    assert violations == (
        [] if allowed else [f"image: {image!r} is not allowed on this host; rule images = {list(globs)}"]
    )


@pytest.mark.parametrize(
    ("users", "user", "uid", "allowed"),
    [
        # Anybody, and nobody in particular
        (("*",), None, None, True),
        (("*",), "root", "0", True),
        (("*", "alice"), "bob", "1002", True),
        # By name or by number, however the rule is written
        (("alice",), "alice", "1001", True),
        (("1001",), "alice", "1001", True),
        (("1001",), "1001", "1001", True),
        (("alice",), "bob", "1002", False),
        (("alice",), "root", "0", False),
        (("1001",), "100", "100", False),
        ((), "alice", "1001", False),
        # A rule about a user says nothing about groups: gid 0 or docker's would open the host's folders to the job.
        (("1001",), "1001:0", "1001", False),
        (("alice", "1001"), "alice:0", "1001", False),
        (("1001:50",), "1001:50", "1001", True),
        # By a range of numbers
        (("1000-59999",), "alice", "1001", True),
        (("1000-59999",), "daemon", "1", False),
        (("0", "1000-59999"), "root", "0", True),
    ],
)
def test_users(users: tuple[str, ...], user: str | None, uid: str | None, allowed: bool) -> None:
    violations = policy.violations(Policy(users=users), Request("busybox", user=user, uid=uid))
    assert violations == (
        [] if allowed else [f"user: {user!r} is not allowed on this host; rule users = {list(users)}"]
    )


def test_where_users_are_named_a_job_must_name_its_own() -> None:
    """Without one it would run as the image's user, most often root."""
    assert policy.violations(Policy(users=("alice",)), Request("busybox")) == [
        "user: a job has to name its user on this host; rule users = ['alice']"
    ]


@pytest.mark.parametrize(
    ("networks", "network", "allowed"),
    [
        (("bridge",), None, True),
        (("none",), None, True),
        (("bridge",), "bridge", True),
        (("none", "bridge"), "bridge", True),
        (("bridge",), "none", False),
        (("none",), "bridge", False),
    ],
)
def test_networks(networks: tuple[str, ...], network: str | None, allowed: bool) -> None:
    violations = policy.violations(Policy(networks=networks), Request("busybox", network=network))
    rule = f"network: {network!r} is not allowed on this host; rule networks = {list(networks)}"
    assert violations == ([] if allowed else [rule])


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        # Memory
        (Limits(memory_bytes=2**31), {"memory_bytes": None}, []),
        (Limits(memory_bytes=2**31), {"memory_bytes": 2**31}, []),
        (Limits(memory_bytes=None), {"memory_bytes": 2**40}, []),
        (
            Limits(memory_bytes=2**31),
            {"memory_bytes": 2**32},
            ["memory: 4g is more than this host allows; rule limits.memory = 2g"],
        ),
        (
            Limits(memory_bytes=2**31),
            {"memory_bytes": 2**31 + 1},
            ["memory: 2147483649 bytes is more than this host allows; rule limits.memory = 2g"],
        ),
        # CPUs
        (Limits(cpus=2.0), {"cpus": None}, []),
        (Limits(cpus=2.0), {"cpus": 2.0}, []),
        (Limits(cpus=None), {"cpus": 64.0}, []),
        (Limits(cpus=0.5), {"cpus": 0.75}, ["cpus: 0.75 is more than this host allows; rule limits.cpus = 0.5"]),
        # Processes
        (Limits(pids=100), {"pids": None}, []),
        (Limits(pids=100), {"pids": 100}, []),
        (Limits(pids=100), {"pids": 101}, ["pids_limit: 101 is more than this host allows; rule limits.pids = 100"]),
        # What is written to /dev/shm is memory
        (Limits(memory_bytes=2**30), {"shm_bytes": 2**30}, []),
        (Limits(memory_bytes=None), {"shm_bytes": 2**40}, []),
        (
            Limits(memory_bytes=2**30),
            {"shm_bytes": 2**31},
            ["shm_size: 2g is more than this host allows; rule limits.memory = 1g"],
        ),
        (Limits(memory_bytes=2**30), {"tmpfs": {"/a": "", "/b": f"size={2**30}"}}, []),
        (
            Limits(memory_bytes=2**30),
            {"tmpfs": {"/a": "exec", "/b": f"ro,size={2**31},exec"}},
            ["tmpfs: '/b': 2g is more than this host allows; rule limits.memory = 1g"],
        ),
        # Each rule by itself
        (
            Limits(memory_bytes=2**30, cpus=1.0),
            {"memory_bytes": 2**31, "cpus": 8.0},
            [
                "memory: 2g is more than this host allows; rule limits.memory = 1g",
                "cpus: 8.0 is more than this host allows; rule limits.cpus = 1.0",
            ],
        ),
    ],
)
def test_ceilings(limits: Limits, asked: dict[str, Any], expected: list[str]) -> None:
    assert policy.violations(Policy(limits=limits), Request("busybox", **asked)) == expected


@pytest.mark.parametrize(
    ("rules", "limit", "allowed"),
    [
        (("nofile",), "64:-1", True),
        (("nofile=2048",), "1024:2048", True),
        (("nofile=2048",), "1024:2049", False),
        (("nofile=2048",), "1024:-1", False),
        (("core", "nofile=2048", "nofile=4096"), "64:4096", True),
        (("core",), "64:64", False),
        ((), "64:64", False),
    ],
)
def test_ulimits(rules: tuple[str, ...], limit: str, allowed: bool) -> None:
    """The hard limit counts, up to which a process may raise its own."""
    violations = policy.violations(Policy(ulimits=rules), Request("b", ulimits={"nofile": limit}))
    rule = f"ulimits: nofile={limit} is not allowed on this host; rule ulimits = {list(rules)}"
    assert violations == ([] if allowed else [rule])


VIDEO = Asked("video", "44", "video", has_own_group=True)


@pytest.mark.parametrize(
    ("rules", "group", "allowed"),
    [
        ((), VIDEO, False),
        (("video",), VIDEO, True),
        (("44",), VIDEO, True),
        (("40-50",), VIDEO, True),
        (("*",), VIDEO, True),
        (("render", "0"), VIDEO, False),
        (("video",), Asked("044", "44", "video", has_own_group=True), True),
        (("video",), Asked("0", "0", "root", has_own_group=True), False),
        (("self",), VIDEO, False),
        (("self",), replace(VIDEO, is_self=True), True),
        ((), replace(VIDEO, is_self=True), False),
    ],
)
def test_groups(rules: tuple[str, ...], group: Asked, allowed: bool) -> None:
    violations = policy.violations(Policy(groups=rules), Request("b", groups=(group,)))
    rule = f"group_add: {group.user!r} is not allowed on this host; rule groups = {list(rules)}"
    assert violations == ([] if allowed else [rule])


def test_the_shipped_file_gives_no_group_to_anybody(shipped: Policy) -> None:
    assert len(policy.violations(shipped, Request("b", groups=(VIDEO, replace(VIDEO, is_self=True))))) == 2


@pytest.mark.parametrize(
    ("rules", "name", "allowed"),
    [
        ((), "CHOWN", True),
        ((), "NET_RAW", False),
        ((), "NET_ADMIN", False),
        (("NET_ADMIN",), "NET_ADMIN", True),
        (("NET_ADMIN",), "SYS_PTRACE", False),
    ],
)
def test_capabilities(rules: tuple[str, ...], name: str, allowed: bool) -> None:
    """What every container has may be taken back after all were dropped."""
    rule = f"cap_add: {name!r} is not allowed on this host; rule capabilities = {list(rules)}"
    violations = policy.violations(Policy(capabilities=rules), Request("b", capabilities=(name,)))
    assert violations == ([] if allowed else [rule])


@pytest.mark.parametrize("wanted", [2, "all", ("0", "1")])
def test_gpus(wanted: Wanted) -> None:
    asking = Request("busybox", gpus=wanted)
    assert policy.violations(Policy(), asking) == []
    refused = "gpus: a job may have none on this host; rule gpus = false"
    assert policy.violations(Policy(gpus=False), asking) == [refused]
    assert policy.violations(Policy(gpus=False), Request("busybox")) == []


SERIAL = Node(True, False, 188, 0, ("ttyUSB",))


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ((), "/dev/ttyUSB0", False),
        (("/dev/ttyUSB0",), "/dev/ttyUSB0", True),
        (("/dev/ttyUSB*",), "/dev/ttyUSB0", True),
        (("/dev/ttyUSB?",), "/dev/ttyUSB10", False),
        (("/dev/*",), "/dev/ttyUSB0", True),
        (("/dev/*",), "/dev/snd/seq", False),
        (("/dev/snd/*",), "/dev/snd/seq", True),
        (("/dev/ttyUSB0",), "/dev/ttyUSB0x", False),
    ],
)
def test_devices(rules: tuple[str, ...], path: str, allowed: bool) -> None:
    refused = f"device: {path!r} is not allowed on this host; rule devices = {list(rules)}"
    request = Request("busybox", devices={path: SERIAL})
    assert policy.violations(Policy(devices=rules), request) == ([] if allowed else [refused])


def test_a_device_that_is_no_jobs_whatever_the_rule() -> None:
    request = Request("busybox", devices={"/dev/ttyUSB0": Node(False, is_block=True), "/dev/gone": None})
    assert policy.violations(Policy(devices=("/dev/*",)), request) == [
        "device: '/dev/ttyUSB0' is a disk of the host, or a way to its disks, and no rule gives that to a job"
    ]


def test_gpus_for_some_only() -> None:
    rules = policyfile.parse('submitters = "signed"\ngpus = false\n[submitter.alice]\ngpus = true\n[submitter.bob]\n')
    assert [rules.sections[name].gpus for name in ("alice", "bob")] == [True, False]
    rules = policyfile.parse('submitters = "signed"\n[submitter.bob]\ngpus = false\n')
    refused = "gpus: a job may have none on this host; rule submitter.bob.gpus = false"
    assert policy.violations(rules.sections["bob"], Request("busybox", user="bob", is_self=True, gpus=1)) == [refused]


@pytest.mark.parametrize(
    ("rules", "platform", "allowed"),
    [
        (("own",), None, True),
        (("own",), "linux/amd64", True),
        (("own",), "linux/amd64/v2", True),
        (("own",), "linux/amd", False),
        (("own",), "linux/arm64", False),
        (("own", "linux/arm64"), "linux/arm64", True),
        (("linux/arm64",), "linux/amd64", False),
        ((), "linux/amd64", False),
        ((), None, True),
    ],
)
def test_platforms(rules: tuple[str, ...], platform: str | None, allowed: bool) -> None:
    request = Request("b", platform=platform, own_platform="linux/amd64")
    rule = f"platform: {platform!r} is not allowed on this host, which is linux/amd64; rule platforms = {list(rules)}"
    assert policy.violations(Policy(platforms=rules), request) == ([] if allowed else [rule])


@pytest.mark.parametrize(
    ("rules", "target", "allowed"),
    [
        (("alice@example.org",), "alice@example.org", True),
        (("alice@example.org",), "bob@example.org", False),
        (("*@example.org",), "bob@EXAMPLE.org", True),
        (("*@example.org",), "bob@sub.example.org", False),
        (("*@example.org",), "bob@xexample.org", False),
        (("lab-chat",), "lab-chat", True),
        (("lab-chat",), "lab", False),
        ((), "lab-chat", False),
    ],
)
def test_targets_of_notices(rules: tuple[str, ...], target: str, allowed: bool) -> None:
    rule = f"notify: {target!r} is not allowed on this host; rule notify = {list(rules)}"
    assert policy.violations(Policy(notify=rules), Request("b", notify=(target,))) == ([] if allowed else [rule])


def test_the_shipped_file_lets_nobody_be_told(shipped: Policy) -> None:
    assert len(policy.violations(shipped, Request("b", notify=("alice@example.org",)))) == 1


@pytest.mark.parametrize("name", ["nice", "rtprio", "msgqueue"])
def test_the_shipped_file_lets_nobody_have_precedence_over_the_host(shipped: Policy, name: str) -> None:
    assert len(policy.violations(shipped, Request("b", ulimits={name: "0:1"}))) == 1
    assert len(policy.violations(Policy(), Request("b", ulimits={name: "0:1"}))) == 1


@pytest.mark.parametrize(
    ("real", "allowed"),
    [
        ("/data", True),
        ("/data/a/b", True),
        ("/data/..a", True),
        ("/database", False),
        ("/dat", False),
        ("/", False),
        ("/etc/data", False),
    ],
)
def test_mounts(real: str, allowed: bool) -> None:
    violations = policy.violations(Policy(mounts=("/data",)), Request("b", mounts=(mount(real),)))
    assert violations == (
        [] if allowed else [f"inputpath: {real!r} is outside what this host allows; rule mounts = ['/data']"]
    )


def test_a_symlink_out_of_the_allowed_folders_is_refused_by_where_it_leads() -> None:
    assert policy.violations(Policy(mounts=("/data",)), Request("b", mounts=(mount("/etc", "/data/link"),))) == [
        "inputpath: '/data/link' (which is '/etc') is outside what this host allows; rule mounts = ['/data']"
    ]


def test_a_symlink_into_the_allowed_folders_is_fine() -> None:
    assert policy.violations(Policy(mounts=("/data",)), Request("b", mounts=(mount("/data/x", "/home/link"),))) == []


@pytest.mark.parametrize(
    "path", ["/run/docker.sock", "/run", "/", "/run/containerd", "/run/containerd/containerd.sock"]
)
def test_no_rule_can_allow_the_docker_socket_or_a_folder_above_it(path: str) -> None:
    violations = policy.violations(Policy(mounts=("/",)), Request("b", mounts=(mount(path),), sockets=SOCKETS))
    assert len(violations) == 1
    assert f"inputpath: {path!r} holds /run/" in violations[0]
    assert "the socket of Docker or Podman, which no job may have" in violations[0]


@pytest.mark.parametrize("path", ["/run/user", "/run/docker", "/data", "/run/docker.sock.bak"])
def test_beside_the_docker_socket_the_rules_decide(path: str) -> None:
    assert policy.violations(Policy(mounts=("/",)), Request("b", mounts=(mount(path),), sockets=SOCKETS)) == []


def test_logs_may_lie_in_the_mounts_too() -> None:
    host_policy = Policy(mounts=("/data",), logs=("/var/log/celery",))
    logs = (mount("/data/x.log", field="logoutfile"), mount("/var/log/celery/y", field="logerrfile"))
    assert policy.violations(host_policy, Request("b", logs=logs)) == []
    assert policy.violations(host_policy, Request("b", logs=(mount("/etc/cron.d/x", field="logoutfile"),))) == [
        "logoutfile: '/etc/cron.d/x' is outside what this host allows; "
        "rule mounts or logs = ['/data', '/var/log/celery']"
    ]


def test_all_violations_are_told_at_once() -> None:
    request = Request(
        "evil",
        user="root",
        uid="0",
        mounts=(mount("/etc"), mount("/usr", field="outputpath")),
        logs=(mount("/x"),),
        network="none",
        memory_bytes=2**31,
        cpus=2.0,
    )
    host_policy = Policy(images=("good",), users=("alice",), limits=Limits(memory_bytes=2**30, cpus=1.0))
    assert len(policy.violations(host_policy, request)) == 8


def test_without_rules_no_folder_is_open() -> None:
    """An empty file is the strict one where folders are concerned."""
    host_policy = policyfile.parse("")
    assert host_policy == Policy()
    assert policy.violations(host_policy, Request("busybox")) == []
    assert len(policy.violations(host_policy, Request("busybox", mounts=(mount("/tmp/x"),)))) == 1


# What the file may say


def test_every_key_is_read() -> None:
    text = """
        images = ["lab/*"]
        mounts = ["/data"]
        logs = ["/var/log/celery"]
        users = ["alice", "1001"]
        networks = ["none", "bridge"]
        groups = ["video", "100-200", "self"]
        capabilities = ["NET_ADMIN", "cap_ipc_lock"]
        ulimits = ["nofile=1024", "nice"]
        platforms = ["own", "linux/arm64"]
        notify = ["*@example.org", "lab-chat"]
        gpus = false
        devices = ["/dev/ttyUSB*", "/dev/snd/*"]
        [limits]
        pids = 100
        memory = "8g"
        cpus = 1.5
        [defaults]
        memory = "2g"
        cpus = 0.5
    """
    assert policyfile.parse(text) == Policy(
        images=("lab/*",),
        mounts=("/data",),
        logs=("/var/log/celery",),
        users=("alice", "1001"),
        networks=("none", "bridge"),
        groups=("video", "100-200", "self"),
        capabilities=("NET_ADMIN", "IPC_LOCK"),
        ulimits=("nofile=1024", "nice"),
        platforms=("own", "linux/arm64"),
        notify=("*@example.org", "lab-chat"),
        gpus=False,
        devices=("/dev/ttyUSB*", "/dev/snd/*"),
        limits=Limits(pids=100, memory_bytes=8 * 2**30, cpus=1.5),
        defaults=Defaults(memory_bytes=2 * 2**30, cpus=0.5),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("images = [", "is not TOML: "),
        (
            "image = ['*']",
            "image is not a rule; known are submitters, images, mounts, logs, users, networks, groups, "
            "capabilities, ulimits, platforms, gpus, devices, notify, limits, defaults, submitter, unsigned",
        ),
        ("[limits]\nmem = '8g'", "limits.mem is not a rule; known are limits.pids, limits.memory, limits.cpus"),
        ("limits = 3", "limits = 3 must be a table, [limits]"),
        ("defaults = 3", "defaults = 3 must be a table, [defaults]"),
        ("[defaults]\npids = 3", "defaults.pids is not a rule; known are defaults.memory, defaults.cpus"),
        ("[defaults]\nmemory = '5m'", "defaults.memory = '5m' must be at least 6m, the least that Docker accepts"),
        (
            "[defaults]\ncpus = 'all'",
            "defaults.cpus = 'all' must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no default",
        ),
        (
            "[defaults]\nmemory = '3g'\n[limits]\nmemory = '2g'",
            "defaults.memory = '3g' must be at most limits.memory = 2g",
        ),
        ("[defaults]\ncpus = 4\n[limits]\ncpus = 2.5", "defaults.cpus = 4 must be at most limits.cpus = 2.5"),
        (
            "[limits]\nmemory = '2g'\n[submitter.alice.defaults]\nmemory = '3g'",
            "submitter.alice.defaults.memory = '3g' must be at most limits.memory = 2g",
        ),
        ("images = '*'", "images = '*' must be a list of strings"),
        ("users = [1001]", "users = [1001] must be a list of strings"),
        ("users = ['5-1']", "users has '5-1', which must begin with the lower number"),
        ("users = ['alice', '-5']", "users has '-5', which must be a name, a uid, uid:gid, a range of uids like "),
        ("users = ['0-9999999999']", "users has '0-9999999999', which must have numbers from 0 to 2147483647"),
        ("mounts = ['data']", "mounts has 'data', which must be an absolute path"),
        ("mounts = ['']", "mounts has '', which must be an absolute path"),
        ("logs = ['/var/../etc']", "logs has '/var/../etc', which must be an absolute path"),
        ("networks = []", "networks = [] must name one or more of bridge, none"),
        ("networks = ['host']", "networks = ['host'] must name one or more of bridge, none"),
        ("networks = ['bridge', 'container:x']", "networks = ['bridge', 'container:x'] must name one or more of "),
        ("groups = [44]", "groups = [44] must be a list of strings"),
        ("groups = ['5-1']", "groups has '5-1', which must begin with the lower number"),
        ("groups = ['video:44']", "groups has 'video:44', which must be one group"),
        ("groups = ['']", "groups has '', which must be a name, a gid, a range of gids like '1000-59999', or '*'"),
        (
            "notify = ['*']",
            "notify has '*', which must be a mail address, '*@' and a domain, or the name of a target, like 'lab-chat'",
        ),
        (
            "platforms = ['arm64']",
            "platforms has 'arm64', which must be like 'linux/amd64' or 'linux/arm/v7', or 'own'",
        ),
        ("capabilities = ['ALL']", "capabilities has 'ALL', which no host gives to a job; it can have AUDIT_WRITE, "),
        ("capabilities = ['SYS_ADMIN']", "capabilities has 'SYS_ADMIN', which no host gives to a job; it can have "),
        ("capabilities = ['NOPE']", "capabilities has 'NOPE', which is no capability; "),
        ("capabilities = '*'", "capabilities = '*' must be a list of strings"),
        ("platforms = 'own'", "platforms = 'own' must be a list of strings"),
        ("devices = '/dev/x'", "devices = '/dev/x' must be a list of strings"),
        *(
            (f"devices = ['{path}']", f"devices has '{path}', which must be a path below /dev, as '/dev/ttyUSB*'")
            for path in ("*", "/dev", "dev/x", "/devices/x", "/dev/../etc", "")
        ),
        ("gpus = 1", "gpus = 1 must be true or false"),
        ("gpus = ['0']", "gpus = ['0'] must be true or false"),
        ("ulimits = ['files']", "ulimits has 'files', which must be one of core, cpu, "),
        ("ulimits = ['nproc']", "ulimits has 'nproc', which must be one of core, cpu, "),
        ("ulimits = ['nofile=']", "ulimits has 'nofile=', which must be one of core, cpu, "),
        ("ulimits = ['nofile=-1']", "ulimits has 'nofile=-1', which must be one of core, cpu, "),
        ("ulimits = ['nofile=1:2']", "ulimits has 'nofile=1:2', which must be one of core, cpu, "),
        ("ulimits = 'nofile'", "ulimits = 'nofile' must be a list of strings"),
        ("[limits]\npids = 0", "limits.pids = 0 must be a whole number from 1"),
        ("[limits]\npids = -1", "limits.pids = -1 must be a whole number from 1"),
        ("[limits]\npids = true", "limits.pids = True must be a whole number from 1"),
        ("[limits]\npids = '7'", "limits.pids = '7' must be a whole number from 1"),
        ("[limits]\nmemory = 'much'", "limits.memory = 'much' must be a number of bytes, or one with k, m, g or t"),
        ("[limits]\nmemory = '-1'", "limits.memory = '-1' must be a number of bytes"),
        ("[limits]\nmemory = 1.5", "limits.memory = 1.5 must be a number of bytes"),
        ("[limits]\nmemory = 1", "limits.memory = 1 must be at least 6m, the least that Docker accepts"),
        ("[limits]\nmemory = '5m'", "limits.memory = '5m' must be at least 6m, the least that Docker accepts"),
        ("[limits]\nmemory = ['8g']", "limits.memory = ['8g'] must be a number of bytes"),
        ("[limits]\nmemory = true", "limits.memory = True must be a number of bytes"),
        ("[limits]\nmemory = false", "limits.memory = False must be a number of bytes"),
        (
            "[limits]\ncpus = -1",
            "limits.cpus = -1 must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no limit",
        ),
        (
            "[limits]\ncpus = '2'",
            "limits.cpus = '2' must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no limit",
        ),
        (
            "[limits]\ncpus = true",
            "limits.cpus = True must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no limit",
        ),
        # TOML has these numbers; Docker has not.
        (
            "[limits]\ncpus = inf",
            "limits.cpus = inf must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no limit",
        ),
        (
            "[limits]\ncpus = nan",
            "limits.cpus = nan must be a number of CPUs from 0.01 to 8192, like 2 or 0.5, or 0 for no limit",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("''", None),
        ("0", None),
        ("'512m'", 512 * 2**20),
        ("'8G'", 8 * 2**30),
        ("' 8g '", 8 * 2**30),
        ("'1.5g'", 3 * 2**29),
        ("10000000", 10**7),
    ],
)
def test_memory(memory: str, expected: int | None) -> None:
    assert policyfile.parse(f"[limits]\nmemory = {memory}").limits.memory_bytes == expected


@pytest.mark.parametrize(("cpus", "expected"), [("0", None), ("0.0", None), ("2", 2.0), ("0.5", 0.5)])
def test_cpus(cpus: str, expected: float | None) -> None:
    assert policyfile.parse(f"[limits]\ncpus = {cpus}").limits.cpus == expected


# Submitters

ALICE = Identity("alice", 1000, 1000, (27, 100))
ROOT = Identity("root", 0, 0, ())
SECTIONS = """
submitters = "signed"
images = ["lab/*"]
mounts = ["/data"]
[limits]
memory = "1g"
[submitter."@students"]
mounts = ["/data/course"]
[submitter."@students".limits]
cpus = 2
[submitter.alice]
images = ["*"]
users = ["self", "render"]
[submitter."@staff"]
networks = ["none"]
"""


def applied(submitter: Identity | None, *groups: str, text: str = SECTIONS) -> Policy:
    return policy.applying(policyfile.parse(text), submitter, groups)


@pytest.mark.parametrize(
    ("submitter", "groups", "images", "mounts", "networks", "cpus"),
    [
        (Identity("bob", 1001, 1001, ()), (), ("lab/*",), ("/data",), ("bridge",), None),
        (ALICE, (), ("*",), ("/data",), ("bridge",), None),
        (ALICE, ("students",), ("*",), ("/data",), ("bridge",), None),
        (Identity("bob", 1001, 1001, ()), ("staff", "students"), ("lab/*",), ("/data/course",), ("bridge",), 2.0),
        (Identity("bob", 1001, 1001, ()), ("staff",), ("lab/*",), ("/data",), ("none",), None),
        (Identity("@staff", 1001, 1001, ()), (), ("lab/*",), ("/data",), ("none",), None),
    ],
)
def test_the_rules_for_a_submitter(
    submitter: Identity, groups: tuple[str, ...], images: object, mounts: object, networks: object, cpus: object
) -> None:
    rules = applied(submitter, *groups)
    assert (rules.images, rules.mounts, rules.networks, rules.limits.cpus) == (images, mounts, networks, cpus)
    assert rules.limits.memory_bytes == 2**30


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("images = ['*']", Defaults(2**31, 2.0)),
        ("[submitter.alice.defaults]\nmemory = '512m'", Defaults(2**29, 2.0)),
        ("[submitter.alice.defaults]\nmemory = ''\ncpus = 0", Defaults()),
        # A section that lowers a limit need not repeat the default.
        ("[submitter.alice.limits]\nmemory = '1g'\ncpus = 1", Defaults(2**30, 1.0)),
        ("[submitter.alice.limits]\nmemory = ''\n[submitter.alice.defaults]\nmemory = '8g'", Defaults(2**33, 2.0)),
    ],
)
def test_the_defaults_of_a_submitter(section: str, expected: Defaults) -> None:
    general = "[limits]\nmemory = '4g'\ncpus = 4\n[defaults]\nmemory = '2g'\ncpus = 2\n[submitter.alice]\n"
    assert applied(ALICE, text=general + section).defaults == expected


def test_the_defaults_that_a_job_gets() -> None:
    general = policyfile.parse("[defaults]\nmemory = '2g'\ncpus = 2\n[submitter.alice.defaults]\ncpus = 1.5")
    lines = [
        "memory: the job asks for none and gets 2g; rule submitter.alice.defaults.memory",
        "cpus: the job asks for none and gets 1.5; rule submitter.alice.defaults.cpus",
    ]
    rules = policy.applying(general, ALICE, ())
    assert rules.defaults_for(memory_bytes=None, cpus=None) == lines
    assert rules.defaults_for(memory_bytes=2**20, cpus=None) == lines[1:]
    assert rules.defaults_for(memory_bytes=2**20, cpus=9.0) == []
    assert general.defaults_for(memory_bytes=None, cpus=1.0) == [lines[0].replace("submitter.alice.", "")]
    assert Policy().defaults_for(memory_bytes=None, cpus=None) == []


def test_a_broken_rule_is_named_with_its_section() -> None:
    request = Request("lab/x", user="bob", uid="1", submitter=ALICE, cpus=9.0, mounts=(mount("/etc"),))
    rules = applied(ALICE)
    assert policy.violations(rules, request) == [
        "user: 'bob' is not allowed on this host; rule submitter.alice.users = ['self', 'render']",
        "inputpath: '/etc' is outside what this host allows; rule mounts = ['/data']",
    ]
    rules = applied(Identity("bob", 1, 1, ()), "students")
    assert policy.violations(rules, Request("lab/x", is_self=True, cpus=9.0, mounts=(mount("/data/x"),)))[1:] == [
        "inputpath: '/data/x' is outside what this host allows; rule submitter.@students.mounts = ['/data/course']"
    ]
    assert "rule submitter.@students.limits.cpus = 2.0" in policy.violations(rules, Request("lab/x", cpus=9.0))[0]


@pytest.mark.parametrize(
    ("text", "submitter", "is_self", "user", "allowed"),
    [
        ("", ALICE, True, "alice", True),
        ("", ALICE, False, "bob", True),
        ("", None, False, "bob", True),
        ("", None, False, None, True),
        ('submitters = "signed"', ALICE, True, "alice", True),
        ('submitters = "signed"', ALICE, False, "bob", False),
        ('submitters = "signed"', ALICE, False, "0", False),
        ('submitters = "signed"', ROOT, False, "bob", True),
        ('submitters = "signed"', ROOT, False, None, True),
        ('submitters = "signed"\nusers = ["1000-59999"]', ALICE, True, "alice", True),
        ('submitters = "signed"\nusers = ["1000-59999"]', ALICE, False, "bob", False),
        ('submitters = "signed"\nusers = ["2000-59999"]', ALICE, True, "alice", False),
        ('submitters = "signed"\n[submitter.alice]\nusers = ["bob"]', ALICE, False, "bob", True),
        ('submitters = "signed"\n[submitter.alice]\nusers = ["bob"]', ALICE, True, "alice", False),
        ('submitters = "signed"\n[submitter.alice]\nusers = ["*"]', ALICE, False, "root", True),
        ('submitters = "signed"\n[submitter.alice]\nimages = ["*"]', ALICE, False, "bob", False),
        ('users = ["self"]', ALICE, True, "alice", True),
        ('users = ["self"]', ALICE, False, "bob", False),
        ('users = ["self"]', None, False, "self", False),
        ('users = ["self"]', None, False, "alice", False),
        ('users = ["self"]', None, False, None, False),
        ('submitters = "signed"\n[unsigned]\nusers = ["bob"]', None, False, "bob", True),
        ('submitters = "signed"\n[unsigned]\nusers = ["bob"]', None, False, "alice", False),
        ('submitters = "signed"\n[unsigned]\nusers = ["bob"]', None, False, None, False),
    ],
)
def test_as_whom_a_job_may_run(
    text: str, submitter: Identity | None, is_self: bool, user: str | None, allowed: bool
) -> None:
    uid = {"alice": "1000", "bob": "1001", "root": "0", "0": "0", "self": "3000", None: None}[user]
    request = Request("b", user=user, uid=uid, submitter=submitter, is_self=is_self, has_own_group=True)
    found = policy.violations(applied(submitter, text=text), request)
    assert (found == []) is allowed
    assert all(line.startswith("user: ") and "; rule " in line for line in found)


def test_an_unsigned_job_is_refused_where_jobs_are_to_be_signed() -> None:
    with pytest.raises(errors.SignatureError, match=r"^signature: the job has none.*; rule submitters = 'signed': "):
        applied(None)
    assert applied(None, text="") == Policy()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'submitters = "all"',
            "submitters = 'all' must be 'any' or 'signed'; rules for one submitter are in a section",
        ),
        ("[submitters.alice]", "must be 'any' or 'signed'; rules for one submitter are in a section [submitter.NAME]"),
        ("submitter = 5", "submitter = 5 must be a table, [submitter]"),
        ("[submitter]\nalice = 5", "submitter.alice = 5 must be a table, [submitter.alice]"),
        ("[submitter.alice]\nimage = []", "submitter.alice.image is not a rule; known are submitter.alice.images, "),
        ("[submitter.alice]\nimages = 5", "submitter.alice.images = 5 must be a list of strings"),
        ('[submitter.alice]\nmounts = ["x"]', "submitter.alice.mounts has 'x', which must be an absolute path"),
        (
            '[submitter.alice]\nusers = ["9-1"]',
            "submitter.alice.users has '9-1', which must begin with the lower number",
        ),
        ("[submitter.alice]\nnetworks = []", "submitter.alice.networks = [] must name one or more of"),
        ("[submitter.alice]\nlimits = 5", "submitter.alice.limits = 5 must be a table, [submitter.alice.limits]"),
        ("[submitter.alice.limits]\npids = 0", "submitter.alice.limits.pids = 0 must be a whole number"),
        ("[submitter.alice.limits]\ncpu = 1", "submitter.alice.limits.cpu is not a rule; known are "),
        ("[submitter.alice]\n[submitter.alice.submitter]", "submitter.alice.submitter is not a rule"),
        ('[submitter.""]', "must be named like a user, or @ and a group"),
        ('[submitter."@"]', "must be named like a user, or @ and a group"),
        ('[submitter."a b"]', "must be named like a user, or @ and a group"),
        ('[unsigned]\nusers = ["bob"]', "[unsigned] means nothing where every job is run; set submitters = 'signed'"),
        ('submitters = "signed"\n[unsigned]', "[unsigned] has to say by users = [...] as whom"),
        ('submitters = "signed"\n[unsigned]\nusers = ["self"]', "'self' is nobody there"),
        ('submitters = "signed"\nunsigned = true', "unsigned = True must be a table, [unsigned]"),
        ('submitters = "signed"\n[unsigned]\nuser = []', "unsigned.user is not a rule; known are unsigned.images, "),
    ],
)
def test_a_section_that_is_wrong_is_named_with_the_remedy(text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_the_examples_in_the_shipped_file_are_usable() -> None:
    text = SHIPPED.read_text()
    first, examples = text.split("# Sections for single submitters")
    lines = [
        line.removeprefix("#")
        for line in examples.splitlines()
        if line.startswith(("#[", "#images", "#users", "#mounts", "#net"))
    ]
    rules = policyfile.parse(first.replace('submitters = "any"', 'submitters = "signed"') + "\n".join(lines))
    assert list(rules.sections) == ["alice", "@students"]
    assert rules.unsigned is not None
    assert rules.unsigned.users == ("nobody",)
