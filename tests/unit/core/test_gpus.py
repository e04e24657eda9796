"""GPUs as jobs and administrators write them, and as Docker is asked for them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import gpus
from celery_docker.core.gpus import Wanted
from tests.unit.core.test_kinds import patterns

UUID = "GPU-8f6d1c2a-0000-4c4c-9a2e-6cf3b4c5d2f1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, None),
        (1, 1),
        (64, 64),
        ("all", "all"),
        ("device=0", ("0",)),
        ("device=1,0", ("1", "0")),
        ('"device=0,1"', ("0", "1")),  # docker run wants it so
        ("device=vendor.com/gpu=0,nvidia.com/gpu=0:1", ("vendor.com/gpu=0", "nvidia.com/gpu=0:1")),
        (f"device={UUID}", (UUID,)),
        ("device=MIG-GPU-1f/1/0", ("MIG-GPU-1f/1/0",)),
        (["0", "vendor.com/gpu=all"], ("0", "vendor.com/gpu=all")),
        (("0",), ("0",)),
        ([], None),
    ],
    ids=str,
)
def test_what_a_job_asks_for(value: Any, expected: Wanted | None) -> None:
    assert gpus.GPUS.parse(value) == expected
    if expected is not None:
        assert gpus.GPUS.parse(expected) == expected


FORMS = "must be a number of GPUs, 'all', or their names, as in 'device=0,1' or ['vendor.com/gpu=0']"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1, "must be a number of GPUs from 0 to 64"),
        (65, "must be a number of GPUs from 0 to 64"),
        (10**30, "must be a number of GPUs from 0 to 64"),
        (True, FORMS),
        (1.0, FORMS),
        ("1", FORMS),
        ("", FORMS),
        ("ALL", FORMS),
        ("0,1", FORMS),
        ("count=2", FORMS),
        ("capabilities=utility", FORMS),
        ({"count": 1}, FORMS),
        ("device=", "has '', which is no name of a GPU, like '0' or 'vendor.com/gpu=0'"),
        ("device=0,", "has '', which is no name of a GPU"),
        ("device=0,0", "has '0' twice"),
        ("device=0;id", "has '0;id', which is no name of a GPU"),
        (["0\n"], r"has '0\n', which is no name of a GPU"),
        (["٣"], "has '٣', which is no name of a GPU"),
        (["/dev/sda"], "has '/dev/sda', which is no name of a GPU"),
        (["vendor/gpu="], "has 'vendor/gpu=', which is no name of a GPU"),
        (["=0"], "has '=0', which is no name of a GPU"),
        (["a/b=c,d"], "has 'a/b=c,d', which is no name of a GPU"),
        (["v.com/gpu=" + "0" * 200], "has 'v.com/gpu=0000"),
        ([0], "has 0, which is no name of a GPU"),
        ([None], "has None, which is no name of a GPU"),
        ([str(number) for number in range(65)], "has 65 names; 64 are the most"),
    ],
    ids=ascii,
)
def test_what_no_job_can_ask_for(value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=r"^" + re.escape(expected)):
        gpus.GPUS.parse(value)


def test_the_patterns_of_the_schema_are_the_parsers() -> None:
    name, text = patterns(gpus.GPUS.schema)
    for good in ("0", UUID, "vendor.com/gpu=0"):
        assert re.search(name, good)
        assert re.search(text, f"device={good}")
    for bad in ("", "0;id", "gpu0", "a=b", "/dev/sda"):
        assert not re.search(name, bad)
        assert not re.search(text, f"device={bad}")
    assert re.search(text, "all")
    assert re.search(text, '"device=0,1"')


@pytest.mark.parametrize(("text", "expected"), [("2", 2), ("0", 0), ("all", "all"), ("device=0", "device=0")])
def test_the_text_of_a_flag(text: str, expected: Any) -> None:
    assert gpus.GPUS.from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "all"),
        ("all", "all"),
        ("0", 0),
        ("2", 2),
        ("device=0", ("0",)),
        ("0,1", ("0", "1")),
        (" 0 , 1", ("0", "1")),
        (UUID, (UUID,)),
        ("vendor.com/gpu=0,vendor.com/gpu=1", ("vendor.com/gpu=0", "vendor.com/gpu=1")),
        ("vendor.com/fpga=a", ("vendor.com/fpga=a",)),
    ],
)
def test_what_an_administrator_offers(text: str, expected: Wanted) -> None:
    """A number is so many of those that are there; a single index is written as docker run has it."""
    assert gpus.parse_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("65", "must be a number of GPUs from 0 to 64"),
        ("-1", "has '-1', which is no name"),
        ("none", "has 'none', which is no name"),
        ("0,0", "has '0' twice"),
        ("0,", "has '', which is no name"),
        ("device=", "has '', which is no name"),
    ],
)
def test_an_offer_that_is_none(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        gpus.parse_setting(text)
    assert "0 for none, or their names, as in 'device=0'" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        (1, ("0",), ""),
        ("all", ("0", "1"), ""),
        (("1", "0"), ("0", "1"), ""),
        (1, (), "host node1 offers no GPUs"),
        ("all", (), "host node1 offers no GPUs"),
        (3, ("0", "1"), "3 are more than there are; host node1 offers 0, 1"),
        (("7",), ("0", "1"), "'7' is not there; host node1 offers 0, 1"),
        (("7", "0", "8"), ("0", "1"), "'7' and '8' are not there; host node1 offers 0, 1"),
    ],
)
def test_what_a_host_cannot_give(wanted: Wanted, offered: tuple[str, ...], expected: str) -> None:
    assert gpus.problem(wanted, offered, "node1") == expected


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0), (2, 2), ("all", 3), (("0", "1"), 2)])
def test_how_many_a_job_takes(wanted: Wanted | None, expected: int) -> None:
    assert gpus.count(wanted, ("0", "1", "2")) == expected


def test_no_gpus_are_no_request() -> None:
    assert gpus.requests(()) == gpus.preview(None) == []
