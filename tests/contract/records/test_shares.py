"""Shares: of the jobs of one submitter so many are published at a time as the window of their queue says."""

from __future__ import annotations

import pytest

from celery_docker.core.jobrecord import New, Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, State
from tests.contract.records.worlds import (
    HOST,
    LATE,
    Records,
    World,
    claim,
    end,
    finish,
    new,
    published,
    requeue,
)

A, B = {"share": "a"}, {"share": "b"}


def of(share: str, numbers: range, prefix: str = "j", **options: object) -> list[New]:
    return [new(f"{prefix}{number}", about={"share": share}, **options) for number in numbers]


def ids(numbers: range, prefix: str = "j") -> list[str]:
    return [f"{prefix}{number}" for number in numbers]


def held(records: Records, numbers: range) -> list[str]:
    return [job_id for job_id in ids(numbers) if "over_share" in records.record(job_id)]


def test_without_a_window_nothing_is_held_back(world: World, records: Records) -> None:
    """No worker that knows of windows has worked here: it would let nothing go."""
    records.submit(of("a", range(1, 6)))
    assert published(world) == ids(range(1, 6))


def test_of_a_share_the_window_is_published_and_one_for_each_that_ends(world: World, records: Records) -> None:
    world.open_window(2)
    records.submit(of("a", range(1, 5)))
    assert (published(world), held(records, range(1, 5))) == (["j1", "j2"], ["j3", "j4"])
    assert records.record("j3")["state"] == "queued"
    end(records, "j2", State.FAILED)
    assert (published(world), held(records, range(1, 5))) == (["j1", "j2", "j3"], ["j4"])
    for number in (1, 3, 4):
        end(records, f"j{number}")
    assert published(world) == ids(range(1, 5))


def test_jobs_of_a_share_come_in_the_order_of_their_submission(world: World, records: Records) -> None:
    """Those that were submitted together too, whatever their ids."""
    world.open_window(2)
    records.submit(of("a", range(60, 20, -1)))
    for _ in range(38):
        end(records, published(world)[-1])
    assert published(world) == ids(range(60, 20, -1))


def test_another_share_is_not_held_back(world: World, records: Records) -> None:
    """Its jobs come before those of the full share that are held back, and jobs without a share too."""
    world.open_window(2)
    records.submit([*of("a", range(1, 5)), *of("b", range(1, 3), "k"), new("plain")])
    assert published(world) == ["j1", "j2", "k1", "k2", "plain"]
    end(records, "j1")
    assert published(world)[-1] == "j3"


def test_a_held_job_runs_once_its_turn_has_come(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit(of("a", range(1, 3)))
    end(records, "j1")
    assert claim(records, job_id="j2").verdict is Verdict.RUN
    assert world.delayed() == {}


def test_a_copy_of_a_held_job_s_message_is_dropped(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit(of("a", range(1, 3)))
    assert claim(records, job_id="j2").verdict is Verdict.DROP


def test_an_end_that_is_said_twice_lets_one_go(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit(of("a", range(1, 4)))
    fence = claim(records).fence
    for _ in range(2):
        finish(records, fence)
    assert published(world) == ["j1", "j2"]


def test_a_retry_gives_its_place_away_and_is_the_next_of_its_share(world: World, records: Records) -> None:
    """A hundred that fail at once are not published at once either, nor do they keep others back until their time."""
    world.open_window(1)
    records.submit(of("a", range(1, 4)))
    requeue(records, claim(records).fence)
    assert published(world) == ["j1", "j2"]
    assert world.housekeeping.publish_due(LATE) == 0
    assert (published(world), held(records, range(1, 4))) == (["j1", "j2"], ["j1", "j3"])
    end(records, "j2")
    assert (published(world), held(records, range(1, 4))) == (["j1", "j2", "j1"], ["j3"])
    assert claim(records).attempt == 2


def test_a_retry_that_is_due_goes_to_its_queue_where_there_is_room(world: World, records: Records) -> None:
    world.open_window(2)
    records.submit(of("a", range(1, 2)))
    requeue(records, claim(records).fence)
    world.empty()
    assert world.housekeeping.publish_due(LATE) == 1
    assert (published(world), held(records, range(1, 2))) == (["j1"], [])


def test_a_held_job_that_is_cancelled_lets_no_other_go(world: World, records: Records) -> None:
    """Nor does its turn come; the next one's does."""
    world.open_window(1)
    records.submit(of("a", range(1, 5)))
    records.cancel("j2", reason="enough")
    end(records, "j2", State.CANCELLED)
    records.cancel("j3", reason="enough")
    assert published(world) == ["j1"]
    end(records, "j1")
    assert published(world) == ["j1", "j4"]


def test_a_held_job_that_expires_says_why(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit([new("j1", about=A), new("j2", about=A, expires_s=60)])
    assert world.housekeeping.expire_due(LATE) == 1
    (marked,) = world.housekeeping.end_requests(HOST)
    assert marked.request == EndRequest(Cause.EXPIRED, "other jobs of its submitter were before it until it expired")


def test_a_batch_s_limit_comes_first(world: World, records: Records) -> None:
    """A job that its batch lets go stands in the line of its share then."""
    world.open_window(3)
    records.begin_batch("b1", {"size": 4, "limit": 2})
    records.submit(
        [
            *of("a", range(1, 3)),
            *(new(f"k{number}", about=A, batch_id="b1", batch_index=number) for number in range(1, 5)),
        ]
    )
    assert published(world) == ["j1", "j2", "k1"]
    end(records, "j1")
    assert published(world) == ["j1", "j2", "k1", "k2"]
    end(records, "k1")
    assert published(world) == ["j1", "j2", "k1", "k2", "k3"]
    end(records, "j2")
    assert published(world) == ["j1", "j2", "k1", "k2", "k3"]
    for number in (2, 3, 4):
        end(records, f"k{number}")
    assert published(world)[-1] == "k4"


def test_a_job_that_waits_for_another_has_no_place_until_then(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit([new("j1", about=B), new("k1", about=A, after=("j1",)), new("k2", about=A)])
    assert published(world) == ["j1", "k2"]
    end(records, "j1")
    assert published(world) == ["j1", "k2"]
    end(records, "k2")
    assert published(world) == ["j1", "k2", "k1"]


def test_a_held_job_is_neither_missing_nor_published(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit(of("a", range(1, 3)))
    world.empty()
    assert world.housekeeping.republish(LATE) == 1
    assert published(world) == ["j1"]


def test_a_larger_window_is_filled(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit(of("a", range(1, 6)))
    world.open_window(4)
    assert world.housekeeping.release_held() == 3
    assert published(world) == ids(range(1, 5))


def test_after_a_smaller_window_none_is_let_go_for_a_while(world: World, records: Records) -> None:
    world.open_window(3)
    records.submit(of("a", range(1, 6)))
    world.open_window(1)
    end(records, "j1")
    end(records, "j2")
    assert published(world) == ids(range(1, 4))
    end(records, "j3")
    assert published(world) == ids(range(1, 5))


def test_places_of_jobs_that_an_older_version_ended_are_given_away(world: World, records: Records) -> None:
    """It knows nothing of shares; a record that is gone has no place either."""
    world.open_window(2)
    for job_id in ("ended", "gone"):
        world.take_part("a", job_id)
    records.submit([new("ended")])
    end(records, "ended")
    world.empty()
    records.submit(of("a", range(1, 4)))
    assert published(world) == []
    assert world.housekeeping.release_held() == 2
    assert published(world) == ["j1", "j2"]


def test_whatever_becomes_of_the_keys_of_shares_each_job_is_published_once(world: World, records: Records) -> None:
    world.open_window(2)
    records.submit(of("a", range(1, 7)))
    world.lose_shares()
    for _ in range(6):
        world.housekeeping.publish_due(LATE)
        for job_id in published(world):
            if records.record(job_id)["state"] == "queued":
                end(records, job_id)
    assert sorted(published(world)) == ids(range(1, 7))


@pytest.mark.parametrize("loses", [False, True])
def test_held_jobs_are_looked_at_again(world: World, records: Records, loses: bool) -> None:
    """A worker of an older version publishes them then."""
    world.open_window(1)
    records.submit(of("a", range(1, 4)))
    if loses:
        world.lose_shares()
    assert sorted(world.delayed()) == ["j2", "j3"]
    assert world.housekeeping.publish_due(LATE) == int(loses)
    assert len(held(records, range(1, 4))) == (1 if loses else 2)


def test_the_next_of_a_share_comes_by_the_time_of_submission(world: World, records: Records) -> None:
    world.open_window(1)
    records.submit([new("j0", about=B), new("j1", about=A), new("j2", about=A, after=("j0",)), new("j3", about=A)])
    end(records, "j0")
    end(records, "j1")
    assert published(world)[-1] == "j2"
