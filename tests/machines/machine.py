"""Real Debian machines for the system tests: systemd as PID 1 under systemd-nspawn.

Owns the cache folder (base images, the disks of machines), all mounts below it and all cgroups
`mach-*`. Imports nothing of celery_docker: these tests look at it from outside. Needs root,
mmdebstrap and systemd-nspawn, and slirp4netns for `nat`.

Invariant: whatever ends a machine (close, a failed boot, Ctrl-C, SIGTERM) removes its processes,
cgroups, mounts and disk. Only SIGKILL of the test run leaves something; the next boot sweeps it.

Kernel, page cache and disk are the host's: a power cut loses processes, not unsynced writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

BARE = (
    *("adduser", "apt-utils", "ca-certificates", "dbus"),
    *("iproute2", "procps", "systemd", "systemd-sysv"),
)
READY = (
    *BARE,
    *("busybox-static", "docker.io", "iptables", "python3", "python3-venv", "redis-server"),
)

_IMAGE_FORMAT = 1  # raise it when images are built in another way: the cached ones are stale then
_RELEASES = {"12": "bookworm", "13": "trixie"}
_CGROUP_ROOT = Path("/sys/fs/cgroup")
# Ten times what a group, or one process of the host, has: whatever runs beside a machine, its Docker is not starved.
_WEIGHTS = {"cpu.shares": "10240", "cpu.weight": "1000"}
_NSPAWN_RUN = Path("/run/systemd/nspawn/propagate")
_CABLE = "cable"
_ADDRESSES = ("192.0.2.1", "192.0.2.2")  # of a network for documentation (RFC 5737)
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # A standard Debian would fetch the changelog of each new package.
    "APT_LISTCHANGES_FRONTEND": "none",
}

# Kernel modules are the host's; a timer that takes apt's lock would fail a test once a day.
_MASKED_UNITS = ("systemd-modules-load.service", "apt-daily.timer", "apt-daily-upgrade.timer")

# On a cgroup v1 host nspawn mounts the controllers read-only, and Docker could start nothing. A v2
# tree is writable as it is. In a unit, since jobs may be recovered while the machine still boots.
_CGROUPS_UNIT = """\
[Unit]
Description=Let Docker make cgroups
DefaultDependencies=no
Before=sysinit.target
ConditionPathExists=!/sys/fs/cgroup/cgroup.controllers
[Service]
Type=oneshot
ExecStart=/bin/sh -euc 'for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$d"; done'
"""

# The arguments before `--` are cgroups to enter, those after it the command to become.
_ENTER_CGROUPS = """\
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec "$@"
"""

_BUSYBOX = """\
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir "$root/bin" "$root/etc" "$root/root" "$root/tmp"
chmod 755 "$root"
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/"
for a in $(busybox --list | grep -vx busybox); do ln -s busybox "$root/bin/$a"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >>"$root/etc/passwd"
printf 'root:x:0:\\nnogroup:x:65534:\\n' >"$root/etc/group"
tar -C "$root" -c . | "$2" import --change 'CMD ["sh"]' - "$1"
"""


def missing() -> str:
    """Say what this computer lacks to boot a machine; empty if nothing."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    lacking = [name for name in ("mmdebstrap", "systemd-nspawn", "slirp4netns") if not shutil.which(name)]
    return f"{', '.join(lacking)}: not installed" if lacking else ""


def cache_folder() -> Path:
    """Return the folder of images and disks; it may not lie on an overlayfs, as in a container."""
    name = os.environ.get("CELERY_DOCKER_TEST_CACHE") or "/var/cache/celery-docker-test"
    return Path(name).resolve()


def package_release() -> str:
    """Return the name of the release, such as bookworm, that the package under test was built for.

    The name of the file that CELERY_DOCKER_TEST_DEB names says it; without one it is this computer's.
    """
    match = re.search(r"\+deb(\d+)u\d+_", os.environ.get("CELERY_DOCKER_TEST_DEB", ""))
    return _RELEASES[match[1]] if match else platform.freedesktop_os_release()["VERSION_CODENAME"]


def bare_image(release: str) -> Path:
    """Return a Debian with systemd, but without Docker, Redis and venv."""
    return base_image(release, packages=BARE, variant="bare")


def standard_image(release: str) -> Path:
    """Return a Debian as its installer leaves it, with the standard system utilities and nothing of ours."""
    return base_image(release, packages=BARE, variant="standard", packages_of="standard")


def ready_image(release: str = "") -> Path:
    """Return a Debian with all that our package needs: `apt install ./x.deb` works offline."""
    release = release or package_release()
    own_cli = () if release == "bookworm" else ("docker-cli",)  # of docker.io until then
    return base_image(release, packages=(*READY, *own_cli), variant="ready")


def base_image(release: str, *, packages: Sequence[str], variant: str, packages_of: str = "minbase") -> Path:
    """Return a root tree, built from the network unless it is cached; it must not be written to.

    It holds those packages, and all that mmdebstrap's variant `packages_of` has. A new one replaces the
    older ones of its release and variant.
    """
    content = (_IMAGE_FORMAT, release, packages_of, sorted(packages))
    key = hashlib.sha256(repr(content).encode()).hexdigest()[:12]
    family = cache_folder() / "images" / f"{release}-{variant}"
    image = family.with_name(f"{family.name}-{key}")
    family.parent.mkdir(parents=True, exist_ok=True)
    with _locked(family.with_name(f"{family.name}.lock")):
        if not image.exists():
            _build(image, family.with_name(f"{family.name}.part"), release, packages, packages_of)
        for older in family.parent.glob(f"{family.name}-" + "[0-9a-f]" * 12):
            if older != image:
                with suppress(BlockingIOError), _locked(older, wait=False):  # a machine uses it
                    _remove_tree(older)
    return image


@contextmanager
def kept(image: Path) -> Iterator[None]:
    """Keep an image from being replaced meanwhile, as a machine that uses it does."""
    with _locked(image, shared=True):
        yield


def _build(image: Path, part: Path, release: str, packages: Sequence[str], packages_of: str) -> None:
    # In namespaces of its own: when this process dies, all of the build and its mounts are gone.
    argv = ["setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", f"--variant={packages_of}"]
    argv += [f"--include={','.join(packages)}"] if packages else []
    argv += [release, str(part)]
    try:
        _remove_tree(part)
        _host(*argv, timeout_s=900)
        part.rename(image)
    finally:
        _remove_tree(part)


class Machine:
    """A booted Debian, a context manager that leaves nothing behind. Make one with `boot`."""

    def __init__(self, name: str, image: Path, *, private_network: bool, nat: bool) -> None:
        self.name = name
        self.machine_id = f"mach-{os.getpid()}-{name}-{uuid.uuid4().hex[:4]}"
        self._image = image
        self._private_network = private_network
        self._nat = nat
        self._folder = _machines_folder() / self.machine_id
        self._root = self._folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._while_on = ExitStack()
        self._while_it_exists = ExitStack()
        _machines.add(self)

    @classmethod
    def boot(cls, name: str, image: Path, *, private_network: bool = True, nat: bool = False) -> Machine:
        """Boot a new machine and wait until its systemd is up.

        Its network is a loopback and nothing else; with `nat`, also a way out through slirp4netns;
        with `private_network=False` the host's own, where its Redis and Docker meet those of the
        host. The latter two get the host's resolver and CA certificates: apt and pip work there.
        """
        _interrupt_on_sigterm()
        machine = cls(name, image, private_network=private_network, nat=nat)
        try:
            machine._claim()
            machine._make_disk()
            machine.start()
        except BaseException:
            machine.close()
            raise
        return machine

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_on(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    def start(self, timeout_s: float = 300) -> None:
        """Boot from the machine's disk, again after `poweroff` or `kill`."""
        assert not self.is_on, f"machine {self.name} is on already"
        deadline = time.monotonic() + timeout_s
        self._nspawn = self._spawn()
        while not self._find_init():
            self._still_booting(deadline)
        if self._nat:
            self._while_on.enter_context(_way_out(self._init_pid))
        while not self._is_up():
            self._still_booting(deadline)

    def poweroff(self, timeout_s: float = 300) -> None:
        """Shut down in good order."""
        self.run("systemctl", "poweroff", "--no-block")
        if not self._ends_within(timeout_s):
            raise AssertionError(f"{self.name} is on after {timeout_s} s:\n{self.console()}")
        self.kill()

    def kill(self) -> None:
        """Cut the power: SIGKILL to everything at once; the disk stays. Off already is fine."""
        with self._while_on:
            if self.is_on and self._init_pid:
                # The kernel then kills its whole PID namespace, containers included, and nspawn
                # tidies up behind it, which it would not when killed itself.
                os.kill(self._init_pid, signal.SIGKILL)
                self._ends_within(5)
            _remove_cgroups(self.machine_id)
            if self._nspawn is not None:
                self._nspawn.kill()
                self._nspawn.wait(5)
            self._nspawn, self._init_pid = None, 0

    def reboot(self, timeout_s: float = 300) -> None:
        """Shut down in good order, then start again."""
        self.poweroff(timeout_s)
        self.start(timeout_s)

    def close(self) -> None:
        """Remove the machine and its disk."""
        with self._while_it_exists:
            self.kill()
            _destroy(self.machine_id)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout_s: float = 300,
        user: str | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine; its environment is clean but for `env`.

        A non-zero exit with `check`, and a timeout always, is an AssertionError that shows all.
        """
        assert self.is_on, f"machine {self.name} is off, cannot run {shlex.join(argv)}"
        full = ["nsenter", f"--target={self._init_pid}", "--all", "--"]
        full += ["timeout", "-k", "2", str(timeout_s)]  # killing nsenter would not end the command
        full += [*(["runuser", "-u", user, "--"] if user else []), *argv]
        begin = time.monotonic()
        try:
            completed = subprocess.run(
                full,
                env=_ENV | dict(env or {}),
                input=input or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s + 10,
            )
        except subprocess.TimeoutExpired as exc:  # it ended, but left its output open to another
            held = f"{self.name}: {shlex.join(argv)}: output still open: {exc.output!r}"
            raise AssertionError(held) from None
        timed_out = completed.returncode in (124, 137) and time.monotonic() - begin >= timeout_s
        if timed_out or (check and completed.returncode != 0):
            why = f"no end after {timeout_s} s" if timed_out else f"exit {completed.returncode}"
            streams = f"--- stdout\n{completed.stdout}\n--- stderr\n{completed.stderr}"
            raise AssertionError(f"{self.name}: {shlex.join(argv)}: {why}\n{streams}")
        return completed

    def shell(self, script: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a script with `sh -eu`, `args` being its $1, $2…; the options are those of `run`."""
        return self.run("sh", "-euc", script, "sh", *args, **options)

    def path(self, inner: str) -> Path:
        """Return a path of the machine as the host sees it.

        While the machine is off, its /tmp, /run and /var/lib/docker are not there. Mind absolute
        symlinks: the host follows them on its own disk.
        """
        root = Path(f"/proc/{self._init_pid}/root") if self.is_on else self._root
        return root / inner.lstrip("/")

    def read(self, inner: str) -> str:
        """Return the text of a file."""
        return self.path(inner).read_text(errors="replace")

    def write(self, inner: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root, with its folders."""
        target = self.path(inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def push(self, host_path: Path, inner: str) -> None:
        """Copy a file or a folder of the host to exactly this path, with its folders, for root."""
        target = self.path(inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        if host_path.is_dir():
            shutil.copytree(host_path, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(host_path, target)

    def journal(self, unit: str) -> str:
        """Return the unit's journal, of all boots."""
        return self.run("journalctl", "--no-pager", "--output=short-iso", f"--unit={unit}").stdout

    def console(self) -> str:
        """Return the end of what was printed while it booted and shut down."""
        return (self._folder / "console").read_text(errors="replace")[-4000:]

    @property
    def init_pid(self) -> int:
        """The host's PID of its init, for those who enter it by themselves."""
        return self._init_pid

    def pids(self) -> list[int]:
        """Return the host's PIDs of its processes and of its nspawn, without those of `run`."""
        return _cgroup_pids(self.machine_id)

    def _claim(self) -> None:
        """Make the machine's folder; the lock on it says that the owner lives."""
        _machines_folder().mkdir(parents=True, exist_ok=True)
        with _locked(_machines_folder()):  # nobody sweeps between the making and the locking
            _sweep()
            self._folder.mkdir()
            self._while_it_exists.enter_context(_locked(self._folder, wait=False))
        self._while_it_exists.enter_context(kept(self._image))

    def _make_disk(self) -> None:
        for part in ("root", "upper", "work", "docker"):
            (self._folder / part).mkdir()
        layers = [f"{layer}dir={self._folder / layer}" for layer in ("upper", "work")]
        # Its disk goes with it: nothing waits until something is really written.
        options = ",".join([f"lowerdir={self._image}", *layers, "volatile"])
        _host("mount", "-t", "overlay", "-o", options, self.machine_id, str(self._root))
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.write("/etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
        units = self.path("/etc/systemd/system")
        for unit in _MASKED_UNITS:
            (units / unit).symlink_to("/dev/null")
        self.write("/etc/systemd/system/test-cgroups.service", _CGROUPS_UNIT)
        (units / "sysinit.target.wants").mkdir(exist_ok=True)
        (units / "sysinit.target.wants/test-cgroups.service").symlink_to("../test-cgroups.service")
        if self._nat or not self._private_network:
            for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"):
                self.push(Path(file), file)
        if self._nat:
            self.write("/etc/resolv.conf", "nameserver 10.0.2.3\n")  # slirp4netns asks the host's

    def _spawn(self) -> subprocess.Popen[bytes]:
        groups = [str(_make_cgroup(hierarchy / self.machine_id)) for hierarchy in _hierarchies()]
        argv = ["systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--console=pipe"]
        argv += [f"--directory={self._root}", f"--machine={self.machine_id}"]
        argv += [f"--hostname={self.name}", "--resolv-conf=off"]
        # Some hosts lack CAP_SYS_RESOURCE: without it a machine is the same everywhere.
        argv += ["--capability=all", "--drop-capability=CAP_SYS_RESOURCE"]
        argv += ["--system-call-filter=@keyring bpf @privileged"]
        # overlay2 does not stack on an overlayfs: Docker gets a folder of the real disk.
        argv += [f"--bind={self._folder}/docker:/var/lib/docker"]
        argv += ["--private-network"] if self._private_network else []
        with (self._folder / "console").open("ab") as console:
            return subprocess.Popen(
                ["sh", "-euc", _ENTER_CGROUPS, "sh", *groups, "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for the tests; they end the machine
            )

    def _find_init(self) -> bool:
        """Remember PID 1, once it is systemd; before that it is nspawn, partly in the host."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        with suppress(OSError):
            for process in (Path("/proc", pid) for pid in children.read_text().split()):
                is_pid_1 = re.search(r"(?m)^NSpid:.*\t1$", (process / "status").read_text())
                if is_pid_1 and (process / "comm").read_text() == "systemd\n":
                    self._init_pid = int(process.name)
        return self._init_pid != 0

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        has_route = not self._nat or bool(self.run("ip", "route", check=False).stdout)
        return state in ("running", "degraded") and has_route

    def _still_booting(self, deadline: float) -> None:
        if not self.is_on or time.monotonic() > deadline:
            raise AssertionError(f"machine {self.name} does not boot:\n{self.console()}")
        time.sleep(0.02)

    def _ends_within(self, timeout_s: float) -> bool:
        assert self._nspawn is not None
        with suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(timeout_s)
        return not self.is_on


_machines: weakref.WeakSet[Machine] = weakref.WeakSet()


def all_on() -> list[Machine]:
    """Return the machines of this process that are on."""
    return [machine for machine in _machines if machine.is_on]


def import_busybox(machine: Machine, tag: str = "docker.io/library/busybox:latest", engine: str = "docker") -> None:
    """Make an image in the machine from Debian's busybox-static, without any network."""
    machine.shell(_BUSYBOX, tag, engine)


def connect(first: Machine, second: Machine) -> tuple[str, str]:
    """Lay a cable between two machines that are on, and return their addresses; it goes when either is switched off."""
    argv = ("ip", "link", "add", _CABLE, "type", "veth", "peer", "name", _CABLE, "netns", str(second.init_pid))
    _host("nsenter", f"--target={first.init_pid}", "--net", *argv)
    for machine, address in ((first, _ADDRESSES[0]), (second, _ADDRESSES[1])):
        machine.run("ip", "address", "add", f"{address}/24", "dev", _CABLE)
        machine.run("ip", "link", "set", _CABLE, "up")
    return _ADDRESSES


def leftovers(owner_pid: int = 0) -> list[str]:
    """Return what is there of the machines of a process; 0: of this one.

    Disks, mounts, cgroups with their processes, nspawn's own folder. Network namespaces have no
    name here and end with their processes. Other runs of tests have machines too; these are theirs.
    """
    prefix = f"mach-{owner_pid or os.getpid()}-"
    traces = [f"disk {disk}" for disk in _machines_folder().glob(f"{prefix}*")]
    traces += [f"mount {mount}" for mount in _mounts() if mount.parent.name.startswith(prefix)]
    traces += [f"folder {folder}" for folder in _NSPAWN_RUN.glob(f"{prefix}*")]
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(f"{prefix}*"):
            traces.append(f"cgroup {group}, processes {_cgroup_pids(group.name)}")
    return traces


@contextmanager
def no_sweep() -> Iterator[None]:
    """Keep every process from booting a machine, and hence from removing those whose owner is dead."""
    with _locked(_machines_folder()):
        yield


def _sweep() -> None:
    """Remove the machines whose owner was killed before it could."""
    for disk in _machines_folder().glob("mach-*"):
        if _is_orphan(disk.name):
            _destroy(disk.name)


def _is_orphan(machine_id: str) -> bool:
    try:
        with _locked(_machines_folder() / machine_id, wait=False):
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _destroy(machine_id: str) -> None:
    """Remove all of a machine; its folder last, because a sweep knows the machine by that."""
    _remove_cgroups(machine_id)
    folder = _machines_folder() / machine_id
    for mount in _mounts():
        if mount.is_relative_to(folder):
            _host("umount", "--lazy", str(mount))
    with suppress(FileNotFoundError):
        (_NSPAWN_RUN / machine_id).rmdir()  # left behind by an nspawn that was killed itself
    _remove_tree(folder)


def _machines_folder() -> Path:
    return cache_folder() / "machines"


def _mounts() -> list[Path]:
    """Return our mount points, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = (Path(line.split()[4]) for line in lines)
    return sorted((p for p in points if p.is_relative_to(_machines_folder())), reverse=True)


def _hierarchies() -> list[Path]:
    """Return the root of the one cgroup v2 tree, or those of all v1 trees.

    A machine has its own cgroup in each, so that nothing of it mixes with the host's Docker.
    """
    if (_CGROUP_ROOT / "cgroup.controllers").exists():
        return [_CGROUP_ROOT]
    return [entry for entry in _CGROUP_ROOT.iterdir() if not entry.is_symlink()]


def _make_cgroup(group: Path) -> Path:
    group.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group.parent / name).exists():  # v1 only: a new cpuset is empty and takes no process
            (group / name).write_text((group.parent / name).read_text())
    for name, weight in _WEIGHTS.items():
        if (group / name).exists():
            (group / name).write_text(weight)
    return group


def _cgroup_pids(machine_id: str) -> list[int]:
    pids: set[int] = set()
    for hierarchy in _hierarchies():
        for procs in (hierarchy / machine_id).rglob("cgroup.procs"):
            with suppress(OSError):
                pids.update(map(int, procs.read_text().split()))
    return sorted(pids)


def _remove_cgroups(machine_id: str) -> None:
    """Kill what is still in a machine's cgroups, and remove them."""
    groups = [hierarchy / machine_id for hierarchy in _hierarchies()]
    deadline = time.monotonic() + 20
    while any(group.exists() for group in groups):
        for pid in _cgroup_pids(machine_id):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in (top for group in groups for top, _, _ in os.walk(group, topdown=False)):
            with suppress(OSError):  # busy: what was killed takes a moment to go
                os.rmdir(folder)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{machine_id} does not die: {_cgroup_pids(machine_id)}")
        time.sleep(0.005)


@contextmanager
def _way_out(init_pid: int) -> Iterator[None]:
    """Give a machine's network a way out, without touching the host's: no rule, no bridge."""
    argv = ["slirp4netns", "--configure", "--disable-host-loopback", str(init_pid), "eth0"]
    read_end, write_end = os.pipe()  # slirp4netns ends when the pipe closes, hence with us
    with os.fdopen(write_end, "wb"), os.fdopen(read_end, "rb"):
        slirp = subprocess.Popen(
            [*argv, f"--exit-fd={read_end}"],
            pass_fds=[read_end],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            slirp.kill()
            slirp.wait(5)


@contextmanager
def _locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a flock on a folder or a `.lock` file; BlockingIOError if it is taken and not `wait`."""
    is_file = path.suffix == ".lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT if is_file else os.O_RDONLY, 0o600)
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_tree(tree: Path) -> None:
    _host("rm", "-rf", "--one-file-system", str(tree), timeout_s=600)


def _host(*argv: str, timeout_s: float = 120) -> None:
    completed = subprocess.run(argv, input="", capture_output=True, text=True, timeout=timeout_s)
    if completed.returncode != 0:
        raise RuntimeError(f"{shlex.join(argv)}: exit {completed.returncode}\n{completed.stderr[-4000:]}")


def _interrupt_on_sigterm() -> None:
    """Make SIGTERM act like Ctrl-C, so that a run that is told to end removes its machines."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
