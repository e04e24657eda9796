"""What there is to do for a host, in one answer."""

from __future__ import annotations

from celery_docker.core import jobrecord
from celery_docker.core.admission import Needs
from celery_docker.core.outlook import Outlook
from tests.contract.records.worlds import HOST, QUEUE, Records, World, claim, envelope, requeue, submit


def look(world: World) -> Outlook:
    return world.housekeeping.look(HOST)


def test_there_is_nothing_to_do(records: Records, world: World) -> None:
    """A delayed job is not due yet."""
    submit(records)
    requeue(records, claim(records).fence, delay_s=1000)
    found = look(world)
    assert found == Outlook(found.now)


def test_a_job_is_due(records: Records, world: World) -> None:
    requeue(records, claim(records).fence, delay_s=0)
    assert look(world).is_due
    assert world.housekeeping.publish_due(look(world).now) == 1
    assert not look(world).is_due


def test_a_job_has_expired(records: Records, world: World) -> None:
    records.submit([jobrecord.New("j1", QUEUE, envelope(), {}, expires_s=0)])
    assert look(world).has_expired
    world.housekeeping.expire_due(look(world).now)
    found = look(world)
    assert (found.has_expired, found.has_end_requests) == (False, True)


def test_a_job_is_parked(records: Records, world: World) -> None:
    submit(records)
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), needs=Needs(1000), fits=False)
    assert look(world).has_parked
    claim(records)
    assert not look(world).has_parked
