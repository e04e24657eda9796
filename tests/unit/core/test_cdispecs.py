"""Specifications of CDI as vendors' programs write them, damaged ones, and those made to harm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker.core import cdispecs
from celery_docker.core.cdispecs import Device

# As nvidia-ctk cdi generate writes it, shortened: each GPU by its index and by its UUID.
NVIDIA = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/dri/card1
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/dri/card1
  name: GPU-8f6d1c2a-0000-4c4c-9a2e-6cf3b4c5d2f1
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia10
  name: "10"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
  name: "1:0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/nvidia1
  name: all
kind: nvidia.com/gpu
"""
# As somebody may write it by hand.
BY_HAND = """\
# two cards
kind: 'vendor.com/gpu'   # ours
cdiVersion: "0.6.0"

devices:
    # the first
    - name: left
      containerEdits:
        deviceNodes:
            - path: /dev/null
    -   containerEdits: {deviceNodes: [{path: /dev/zero}]}
        name: 'right'  # the other
"""


def names(text: str, *, is_json: bool = False) -> list[str]:
    return [device.name for device in cdispecs.parse(text, is_json=is_json)]


def offered(*folders: dict[str, str]) -> cdispecs.Gpus:
    """Return the GPUs of folders with these files."""
    return cdispecs.gpus_of(
        [
            {path: cdispecs.parse(text, is_json=path.endswith("json")) for path, text in files.items()}
            for files in folders
        ]
    )


def spec(*devices: str, kind: str = "vendor.com/gpu", edits: Any = None) -> str:
    rows = [{"name": name, "containerEdits": edits or {"env": [f"A={name}"]}} for name in devices]
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": rows})


def test_as_nvidia_writes_it() -> None:
    """Each GPU counts once, in the order of their numbers."""
    assert names(NVIDIA) == [
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=GPU-8f6d1c2a-0000-4c4c-9a2e-6cf3b4c5d2f1",
        "nvidia.com/gpu=10",
        "nvidia.com/gpu=1:0",
        "nvidia.com/gpu=all",
    ]
    assert offered({"a.yaml": NVIDIA}) == cdispecs.Gpus(("nvidia.com/gpu=0", "nvidia.com/gpu=1:0", "nvidia.com/gpu=10"))


def test_as_people_write_it() -> None:
    assert names(BY_HAND) == ["vendor.com/gpu=left", "vendor.com/gpu=right"]


def test_json_says_the_same() -> None:
    edits = {"deviceNodes": [{"path": "/dev/null"}]}
    assert cdispecs.parse(spec("0", edits=edits), is_json=True) == [
        Device("vendor.com/gpu=0", '{"deviceNodes": [{"path": "/dev/null"}]}')
    ]


def test_the_same_edits_under_several_indexes_are_several_gpus() -> None:
    edits = {"deviceNodes": [{"path": "/dev/null"}]}
    four = tuple(f"vendor.com/gpu={number}" for number in range(4))
    assert offered({"a.json": spec("3", "0", "2", "1", edits=edits)}).names == four
    assert offered({"a.json": spec("0", "GPU-f", edits=edits)}).names == ("vendor.com/gpu=0",)
    assert offered({"a.json": spec("GPU-e", "GPU-f", edits=edits)}).names == (
        "vendor.com/gpu=GPU-e",
        "vendor.com/gpu=GPU-f",
    )


def test_devices_that_are_no_gpus_do_not_count() -> None:
    files = {"a.json": spec("0", kind="vendor.com/net"), "b.json": spec("all"), "c.json": spec("a b", "", "x;y")}
    assert offered(files) == cdispecs.Gpus(())


def test_a_later_folder_comes_before_an_earlier_one() -> None:
    read = offered({"etc/a.json": spec("0", "1")}, {"run/a.json": spec("1", "2")})
    assert read == cdispecs.Gpus(tuple(f"vendor.com/gpu={number}" for number in range(3)))


def test_a_name_that_two_files_of_a_folder_have_means_nothing_to_docker() -> None:
    read = offered({"a.json": spec("0", "1"), "b.json": spec("1"), "c.json": spec("1")})
    assert read == cdispecs.Gpus(("vendor.com/gpu=0",), ("vendor.com/gpu=1 is in a.json and in b.json",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "null",
        "{",
        '{"kind": 7}',
        '{"kind": "a/gpu", "kind": "b/gpu"}',
        "[" * 100_000,
        '{"kind": "a/gpu", "devices": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"kind": "a/gpu", "devices": [' + "0," * 300_000 + "0]}",
        '{"kind": "a/gpu", "devices": [{"name": "\\ud800"}]}',
        '{"kind": "a/gpu", "devices": [{"name": 1' + "0" * 5000 + "}]}",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_json_that_is_no_specification(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        cdispecs.parse(text, is_json=True)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "devices", [None, 7, {}, "x", [7, None, [], {}, {"name": 7}, {"name": None}, {"name": ["0"]}]], ids=str
)
def test_devices_that_are_damaged_are_left_out(devices: Any) -> None:
    assert names(json.dumps({"kind": "vendor.com/gpu", "devices": devices}), is_json=True) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0",
        "- a\n- b",
        "devices:\n- name: x",
        "{kind: vendor.com/gpu, devices: [{name: x}]}",
        "kind:\n  vendor.com/gpu",
        "\t" * 10_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_yaml_that_is_no_specification(text: str) -> None:
    with pytest.raises(ValueError, match="has no kind that can be read"):
        cdispecs.parse(text, is_json=False)


@pytest.mark.parametrize(
    "text",
    [
        "kind: v.com/gpu\ndevices: [{name: x}]",
        "kind: v.com/gpu\ndevices:\n  name: x\n",
        "kind: v.com/gpu\ndevices:\n-\n  name: x\n",
        "kind: v.com/gpu\ndevices:\n- {name: x}\n",
        "kind: v.com/gpu\ndevices:\n- &a name\n",
        "kind: v.com/gpu\ndevices:\n- name: |\n    x\n",
        "kind: v.com/gpu\ndevices:\n- name: [x]\n",
        "kind: v.com/gpu\ndevices:\n- name: *a\n",
        "kind: [v.com/gpu]\ndevices:\n- name: x\n",
        "kind: v.com/gpu\nother:\n- name: x\n",
        "kind: v.com/gpu\ndevices:\n" + "- name: {}\n".format("x" * 500),
        "kind: v.com/gpu\ndevices:\n- containerEdits:\n    env:\n    - name: x\n",
    ],
    ids=lambda text: repr(text[:60]),
)
def test_what_is_not_in_block_style_gives_no_gpu(text: str) -> None:
    """Better none than a wrong one: an administrator can name them by CELERY_DOCKER_GPUS."""
    assert offered({"a.yaml": text}).names == ()
