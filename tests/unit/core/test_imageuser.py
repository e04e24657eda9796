"""The name and the home of a user whom an image does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import imageuser
from celery_docker.core.imageuser import ImageUsers
from celery_docker.core.plan import ContainerPlan


def planned(user: str = "7:8", *env: str, user_name: str | None = "alice") -> ContainerPlan:
    return ContainerPlan(
        "run-1", {"User": user, "Env": ["A=1", *env], "HostConfig": {"Init": True}}, "missing", user_name
    )


def test_only_what_nobody_sets_is_added() -> None:
    plan = imageuser.completed(planned("7:8", "LOGNAME="), {"USER"}, ImageUsers(frozenset({0}), True))
    assert plan == ContainerPlan(
        "run-1",
        {"User": "7:8", "Env": ["A=1", "HOME=/tmp", "LOGNAME="], "HostConfig": {"Init": True}},
        "missing",
        "alice",
    )


def test_without_an_open_tmp_the_home_is_the_users_own() -> None:
    nothing = ImageUsers(frozenset(), False)
    assert imageuser.completed(planned(), (), nothing).body == {
        "User": "7:8",
        "Env": ["A=1", "HOME=/home/celery-docker", "LOGNAME=alice", "USER=alice"],
        "HostConfig": {"Init": True, "Tmpfs": {"/home/celery-docker": "uid=7,gid=8,mode=0700,exec"}},
    }
    assert "Tmpfs" not in imageuser.completed(planned("7:8", "HOME=/h"), (), nothing).body["HostConfig"]


def test_where_the_image_cannot_be_changed_its_tmp_is_no_home() -> None:
    plan = planned()
    plan.body["HostConfig"]["ReadonlyRootfs"] = True
    body = imageuser.completed(plan, (), ImageUsers(frozenset(), True)).body
    assert "HOME=/home/celery-docker" in body["Env"]
    assert list(body["HostConfig"]["Tmpfs"]) == ["/home/celery-docker"]


@pytest.mark.parametrize(
    ("options", "home"), [("", "/tmp"), ("size=4096", "/tmp"), ("mode=700", ""), ("ro", ""), ("uid=7,mode=700", "")]
)
def test_a_tmp_of_the_jobs_own(options: str, home: str) -> None:
    """It is there in a read-only image too, and goes with what we add."""
    plan = planned()
    plan.body["HostConfig"] |= {"ReadonlyRootfs": True, "Tmpfs": {"/tmp": options}}
    body = imageuser.completed(plan, (), ImageUsers(frozenset(), False)).body
    assert f"HOME={home or '/home/celery-docker'}" in body["Env"]
    assert body["HostConfig"]["Tmpfs"]["/tmp"] == options
    assert set(body["HostConfig"]["Tmpfs"]) == ({"/tmp"} if home else {"/tmp", "/home/celery-docker"})


@pytest.mark.parametrize(
    ("targets", "home"),
    [
        ((), "/tmp"),
        (("/x", "/home/alice", "/homes"), "/tmp"),
        (("/tmp",), "/home/celery-docker"),
        (("/tmp", "/home/alice"), "/home/celery-docker"),
        (("/tmp", "/home"), "/celery-docker"),
    ],
)
def test_a_home_is_not_made_in_what_a_job_mounts(targets: tuple[str, ...], home: str) -> None:
    """Docker would make it on the host, as root; and whether the user may write there is not known."""
    plan = planned()
    plan.body["HostConfig"]["Mounts"] = [{"Target": target} for target in targets]
    body = imageuser.completed(plan, (), ImageUsers(frozenset(), True)).body
    assert f"HOME={home}" in body["Env"]
    assert list(body["HostConfig"].get("Tmpfs", {})) == ([] if home == "/tmp" else [home])


def test_a_plan_stays_as_it_is_where_nothing_is_missing() -> None:
    for plan, variables, users in (
        (planned(), {"USER", "LOGNAME", "HOME"}, ImageUsers(frozenset(), True)),
        (planned(), (), ImageUsers(frozenset({7}), True)),
        (planned(user_name=None), (), ImageUsers(frozenset(), True)),
    ):
        assert imageuser.completed(plan, variables, users) is plan


def test_uids_are_those_of_whole_lines() -> None:
    text = "root:x:0:0:root:/:/bin/sh\n\n#c:x:1\nx:y:2:3\na:x:\u0663:3:::\nb:x:4:5::/home/b:\nc:x:-5:6:::"
    assert imageuser.uids_of(text) == {0, 4}


@pytest.mark.parametrize(
    ("groups", "gids"),
    [
        ("", set()),
        ("root:x:0:\nlab:x:1001:alice\n", set()),
        ("1001:x:1001:\n", set()),
        ("1001:x:42:\nlab:x:1001:\n", {1001}),
        ("lab:x:1001:\n  1001:x:0:\r\n0:x:7:", {0, 1001}),
        # Docker takes what is missing, or no number, for 0.
        ("1001\n1002:x\n1003:x:\n1004:x:no:\n1005::", {1001, 1002, 1003, 1004, 1005}),
        ("\u0661:x:0:\n-5:x:0:\n99999999999:x:0:\n#7:x:0:\na7:x:0:", set()),
    ],
)
def test_gids_that_are_the_name_of_another_group(groups: str, gids: set[int]) -> None:
    assert imageuser.false_gids_of(groups) == gids


@given(st.text("a:0123456789\n\r\0\u0663-") | st.text())
def test_any_text_has_uids_or_none(text: str) -> None:
    assert all(uid >= 0 for uid in imageuser.uids_of(text) | imageuser.false_gids_of(text))
