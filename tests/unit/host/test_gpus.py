"""The GPUs of a host, found where drivers and vendors put them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker.host import gpus
from tests.unit.core.test_cdispecs import NVIDIA, spec

FOUR = tuple(f"vendor.com/gpu={number}" for number in range(4))


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "vendor.json").write_text(spec("0", "1", "2", "3", "all"))
    return folder


@pytest.fixture
def driver(tmp_path: Path) -> str:
    for place in ("0000:81:00.0", "0000:01:00.0"):
        (tmp_path / "driver" / place).mkdir(parents=True)
    return str(tmp_path / "driver")


def with_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nvidia-container-runtime-hook"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(gpus, "_SYSTEM_PATH", str(program.parent))


def test_a_plain_host_has_none(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert gpus.offered("", (), driver=nowhere) == gpus.Gpus(
        (), "Docker has no CDI here, and there is no driver of NVIDIA"
    )
    assert gpus.offered("", (nowhere,), driver=nowhere) == gpus.Gpus(
        (), f"no specification of CDI in {nowhere}, and there is no driver of NVIDIA"
    )


@pytest.mark.parametrize(("setting", "expected"), [("", FOUR), ("all", FOUR), ("2", FOUR[:2]), ("9", FOUR)])
def test_those_of_cdi(etc: Path, driver: str, setting: str, expected: tuple[str, ...]) -> None:
    """Where Docker knows names of CDI, they count, and the driver behind them is not asked."""
    offered = gpus.offered(setting, (str(etc),), driver=driver)
    assert offered == gpus.Gpus(expected, f"by the specifications of CDI in {etc}")


def test_a_specification_of_nvidia_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(NVIDIA)
    (tmp_path / "notes.txt").write_text("kind: a/gpu")
    assert gpus.offered("", (str(tmp_path),)).names == ("nvidia.com/gpu=0", "nvidia.com/gpu=1:0", "nvidia.com/gpu=10")


def test_those_that_are_named(etc: Path) -> None:
    assert gpus.offered("0,1", (str(etc),)) == gpus.Gpus(("0", "1"), "CELERY_DOCKER_GPUS names them")
    assert gpus.offered("device=0", ()).names == ("0",)
    assert gpus.offered("v.com/fpga=a", ()).names == ("v.com/fpga=a",)


def test_none_are_offered_where_0_says_so(etc: Path) -> None:
    assert gpus.offered("0", (str(etc),)) == gpus.Gpus((), "CELERY_DOCKER_GPUS is 0")


@pytest.mark.parametrize("setting", ["", "0,1"])
def test_podman_would_leave_them_out_in_silence(etc: Path, setting: str) -> None:
    assert gpus.offered(setting, (str(etc),), is_podman=True).names == ()


def test_those_of_nvidias_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: str) -> None:
    with_hook(monkeypatch, tmp_path)
    assert gpus.offered("", (), driver=driver) == gpus.Gpus(("0", "1"), "by the driver of NVIDIA")
    assert gpus.offered("1", (), driver=driver).names == ("0",)


def test_gpus_that_docker_cannot_give_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: str) -> None:
    monkeypatch.setattr(gpus, "_SYSTEM_PATH", str(tmp_path))
    offered = gpus.offered("", (), driver=driver)
    assert offered.names == ()
    assert offered.problems == ("2 of NVIDIA cannot be given to containers: install nvidia-container-toolkit",)


def test_a_damaged_file_hides_its_own_devices_only(etc: Path) -> None:
    (etc / "a.json").write_text("{")
    (etc / "b.json").write_bytes(b"\xff\xfe{\0}\0")
    (etc / "c.json").mkdir()
    os.mkfifo(etc / "d.json")
    (etc / "e.json").symlink_to("nowhere")
    (etc / "f.json").symlink_to("/dev/zero")
    (etc / "g.yaml").write_text("x" * 2_000_000)
    (etc / "h.json").symlink_to("h.json")
    offered = gpus.offered("", (str(etc),))
    assert offered.names == FOUR
    assert [problem.removeprefix(f"{etc}/") for problem in offered.problems] == [
        "a.json is not JSON",
        "b.json is UTF-16 text, as Windows writes 'Unicode'; save it as UTF-8",
        "c.json is no file",
        "d.json is no file",
        "e.json cannot be read: No such file or directory",
        "f.json is no file",
        "g.yaml is longer than 1 MiB",
        "h.json cannot be read: Too many levels of symbolic links",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_is_closed_is_none(etc: Path) -> None:
    etc.chmod(0)
    assert gpus.offered("", (str(etc),)).names == ()
    etc.chmod(0o755)
