"""What the container of an image must not have mounted in the folders of a job, by whatever way it leads there."""

from __future__ import annotations

import pytest

from celery_docker.core import imageplaces
from celery_docker.core.plan import ContainerPlan

_ENGINES = ("/sbin/docker-init", "/etc", "/run", "/dev", "/proc", "/sys")


def planned(*targets: str) -> ContainerPlan:
    """Return the plan of a job with mounts at these places, read-only where a place ends with `:ro`."""
    mounts = [{"Target": place.removesuffix(":ro"), "ReadOnly": place.endswith(":ro")} for place in targets]
    return ContainerPlan("run-1", {"Image": "i:1", "HostConfig": {"Mounts": mounts}})


def problem(*targets: str, volumes: tuple[str, ...] = (), **links: str | None) -> str | None:
    """Return the problem of a plan; `links` are where the folders of the image lead that are not what they seem."""
    plan = planned(*targets)
    places: dict[str, str | None] = {path: path for path in imageplaces.asked(plan, volumes)}
    for name, place in links.items():
        path = next(path for path in places if path.strip("/").replace("/", "_").replace("-", "_") == name)
        places[path] = place
    return imageplaces.problem(plan, volumes, places)


VOLUME = "image 'i:1': its VOLUME {!r} lies in {}, and what the job writes there would be lost with its container"
BEHIND = "mounts: {!r} lies behind a link or a file of image 'i:1'; name a folder without one"
IN_THE_WAY = "{}: {!r} is in the way of {} of image 'i:1', which each container has for itself"


def test_targets() -> None:
    plan = planned("/input:ro", "/output", "/a:ro", "/b")
    assert imageplaces.targets(plan) == ["/input", "/output", "/a", "/b"]
    assert imageplaces.targets(plan, writable=True) == ["/output", "/b"]
    assert imageplaces.further(plan) == ["/a", "/b"]
    assert [imageplaces.holding(plan, path) for path in ("/b/x", "/b", "/bc", "/")] == ["/b", "/b", None, None]
    assert [imageplaces.name_of(target) for target in ("/input", "/b")] == ["the inputpath", "the mount '/b'"]


def test_what_has_to_be_known() -> None:
    assert imageplaces.asked(planned(), ("/v",)) == []
    assert imageplaces.asked(planned("/input:ro"), ("/v",)) == [*_ENGINES, "/v"]
    assert imageplaces.asked(planned("/output", "/a"), ("/v",)) == ["/a", *_ENGINES, "/v"]


@pytest.mark.parametrize("targets", [("/output",), ("/input:ro", "/output"), ("/usr/local/x",), ("/home", "/a:ro")])
def test_an_image_as_it_should_be(targets: tuple[str, ...]) -> None:
    assert problem(*targets, volumes=("/v", "/v/w"), sbin_docker_init="/usr/sbin/docker-init") is None


@pytest.mark.parametrize("place", ["/output", "/etc/group", "/a", None])
def test_a_mount_behind_a_link_is_refused(place: str | None) -> None:
    assert problem("/x/a", x_a=place) == BEHIND.format("/x/a")
    assert problem("/x/a:ro", x_a=place) == BEHIND.format("/x/a")


def test_one_that_has_to_be_there() -> None:
    plan = planned("/a")
    places: dict[str, str | None] = dict.fromkeys(imageplaces.asked(plan, ()), "/x")
    words = imageplaces.problem(plan, (), {**places, "/a": None}, must_exist=True)
    assert words == f"{BEHIND.format('/a').partition(';')[0]}, or is not there; name a folder without one"


@pytest.mark.parametrize("target", ["/usr", "/usr/sbin", "/usr/sbin/docker-init"])
def test_the_init_of_docker_is_not_made_in_a_mount(target: str) -> None:
    init = "/usr/sbin/docker-init"
    assert problem(target, sbin_docker_init=init) == IN_THE_WAY.format("mounts", target, "/sbin/docker-init")


@pytest.mark.parametrize(("target", "field"), [("/output", "outputpath"), ("/input:ro", "inputpath"), ("/a", "mounts")])
def test_no_link_of_the_image_leads_what_docker_makes_into_a_mount(target: str, field: str) -> None:
    path = target.removesuffix(":ro")
    for place in (path, f"{path}/b"):
        assert problem(target, etc=place) == IN_THE_WAY.format(field, path, "/etc")
        assert problem(target, run=place) == IN_THE_WAY.format(field, path, "/run")
        assert problem(target, sbin_docker_init=place) == IN_THE_WAY.format(field, path, "/sbin/docker-init")


def test_a_volume_of_the_image_in_a_mount_is_refused() -> None:
    words = VOLUME.format("/a/b", "the mount '/a'")
    assert problem("/a", volumes=("/a/b",)) == f"{words}; build the image without it"
    assert problem("/a:ro", volumes=("/a/b",)) is not None
    assert problem("/output", volumes=("/output/b",)) == (
        f"{VOLUME.format('/output/b', 'the outputpath')}; build the image without it"
    )
    assert problem("/a", volumes=("/v",), v="/a/b") is not None
    assert problem("/a", volumes=("/v",), v=None) is not None


def test_a_volume_that_makes_room_or_holds_a_mount() -> None:
    """Docker leaves a volume out where a job mounts something; below one it makes the folder in the volume."""
    assert problem("/a", volumes=("/a",)) is None
    assert problem("/v/a", volumes=("/v",)) is None
    assert problem("/v/a", volumes=("/w",), w="/v") is not None, "it would come later, and hide what the job mounts"
    assert problem("/a", volumes=("/w",), w="/a") is not None
    assert problem("/a", volumes=("/w",), w="/b") is None
