"""The seam to Celery, as far as it can be seen without a broker."""

from __future__ import annotations

from concurrent.futures import wait

from pytest_mock import MockerFixture

from celery_docker.tasks import Slots


def test_a_slot_that_is_free_again_wakes_the_loop_also_after_a_reconnect(mocker: MockerFixture) -> None:
    """Each reconnect registers its loop anew; a slot that waits for the loop's next tick idles up to ten seconds."""
    slots = Slots(1)
    before, after = mocker.Mock(), mocker.Mock()
    slots.register_with_event_loop(before)
    slots.register_with_event_loop(after)
    result = slots.on_apply(lambda: None, callback=lambda _: None)
    wait([result.f], 10)
    slots.executor.shutdown()
    after.call_soon.assert_called_once()
    before.call_soon.assert_not_called()
