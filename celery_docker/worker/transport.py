"""Transport of messages from Redis to a worker: kombu's, without its moments in which a message is nowhere.

kombu pops a message and writes it to `unacked` afterwards, and brings back what a dead worker had there two minutes
later. Here a message moves in one step from its queue's list to one of this host's own (`keys.taken`), and from there
into the job's record in the same step that claims it. What a host took and did not claim is put back when it connects
again: after a crash, a lost connection, a restart of Redis. A copy that is put back too many is harmless, because the
record decides.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from queue import Empty
from time import monotonic
from typing import Any

from celery.worker.control import Panel
from kombu.transport import redis, virtual

from celery_docker.core import broadcast, incoming, jobspec, journal, strictjson, wording
from celery_docker.core.jobrecord import Taken
from celery_docker.core.journal import JobFacts, JournalEvent
from celery_docker.run import job
from celery_docker.run.room import Ledger
from celery_docker.store import hosts, keys, redislink, refused, taking

log = logging.getLogger(__name__)

_TAKEN, _INCOMING = "taken", "incoming"
# Redis' answers to a subscription.
_CONFIRMATIONS = (b"subscribe", b"psubscribe", "subscribe", "psubscribe")
# While jobs are parked that this host could hold, it asks again after so long, or once it has more room.
_REST_S = 0.25


def taken_of(message: Any) -> Taken | None:
    """Return where a delivered message lies; None for one that came from a record."""
    taken: Taken | None = message._raw.get(_TAKEN)
    return taken


def delivery_of(message: Any) -> job.Delivery:
    """Return a delivered message as the runner takes it."""
    parsed: incoming.Incoming = message._raw[_INCOMING]
    taken = taken_of(message)
    return job.delivery(parsed, taken.source if taken else incoming.list_of(parsed.envelope), taken)


def claimed(message: Any) -> None:
    """Note that the claim has let go of the message in Redis: its acknowledgement has nothing left to do."""
    message._raw.pop(_TAKEN, None)


class QoS(virtual.QoS):  # type: ignore[misc]  # kombu ships no types
    """Acknowledgements: a message that is done with leaves the host's list, a refused one goes back to its queue."""

    restore_at_shutdown = False

    def ack(self, delivery_tag: str) -> None:
        """Let go of a message for good."""
        self.channel.let_go(self._delivered.get(delivery_tag))
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Let go of a message, or put it back to where it came from."""
        self.channel.let_go(self._delivered.get(delivery_tag), put_back=requeue)
        super().ack(delivery_tag)

    @property
    def has_unclaimed(self) -> bool:
        """True while a delivered message waits for its claim, after which it is acknowledged."""
        return any(tag not in self._dirty for tag in tuple(self._delivered))


class Channel(redis.Channel):  # type: ignore[misc]  # kombu ships no types
    """A channel that moves messages instead of popping them.

    Needs the transport option `host`, whose name the lists bear, an `intake`: while it is closed, or before it is set,
    nothing is taken, and the `ledger` of the host's room. They are no options, because Celery shows those to whoever
    asks.
    """

    QoS = QoS
    from_transport_options = (*redis.Channel.from_transport_options, "host")
    host = ""
    intake: Any = None
    ledger = Ledger()
    # Until when nothing is asked, unless the ledger has changed since; None: it may ask.
    _rest: tuple[float, int] | None = None
    # The ledger's number of changes at the last question.
    _asked_at_change = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The list that is waited at, if one is; otherwise all are asked.
        self._source = ""
        # Whether Redis may owe an answer, or one is being delivered.
        self._is_asking = False
        # The connection on which Redis has answered: on another one, what the last one may have lost is put back.
        self._known: Any = None
        # The number of subscriptions that Redis has confirmed.
        self._subscriptions = 0
        super().__init__(*args, **kwargs)

    @property
    def is_idle(self) -> bool:
        """True while no message is under way from Redis to its claim. It stays so once the intake is closed."""
        return not self._is_asking and not self.qos.has_unclaimed

    @property
    def is_listening(self) -> bool:
        """True once Redis has confirmed that this channel hears control commands, if it wants to."""
        topics = [topic for queue in self.active_fanout_queues for topic in self._get_subscribe_topics(queue)]
        return self._subscriptions >= len(topics)

    @property
    def has_heard_all(self) -> bool:
        """True while no control command waits to be read. For the thread of the event loop only."""
        connection = self.subclient.connection if self.active_fanout_queues else None
        return connection is None or not connection.can_read(timeout=0)

    def let_go(self, message: Any, *, put_back: bool = False) -> None:
        """Remove a message from this host's list; with `put_back` it is in its queue again, the next to be served."""
        taken = taken_of(message) if message is not None else None
        if taken is not None:
            self._remove(taken, put_back)
            claimed(message)

    def _remove(self, taken: Taken, put_back: bool) -> None:
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.lrem(keys.taken(self.host, taken.source), 1, taken.text)
            if put_back:
                pipe.rpush(taken.source, taken.text)
            pipe.execute()

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for a message: of all lists at once, or by waiting at one of them if those were found empty.

        kombu's names are kept: its poller calls them.
        """
        # Said before the intake is looked at, so that whoever closes it and then asks `is_idle` knows of the question:
        #   worker    looks at the intake: it is open
        #   shutdown  closes it; is_idle says no
        #   worker    sends `take`; Redis moves m1
        #   shutdown  asks again until m1 is put back, and only then lets the process end
        self._is_asking = True
        lists = self._lists()
        if not lists or not self._may_take or self._is_resting:
            self._is_asking = False
            return
        # The race of a lost connection, and why the script puts back first on a new one:
        #   worker  sends `take`                                  Redis moves m1 from `celery` to this host's list
        #   network breaks before the answer arrives              m1 lies in the list, nobody here knows of it
        #   worker  connects again, sends `take` with is_new = 1  Redis puts m1 back, then moves it again
        #   worker  reads m1                                      with 0, m1 would lie there until the next connection
        is_new = self.client.connection._sock is not self._known
        # Before the room is looked at: a slot that is freed meanwhile is a reason to ask again.
        self._rest, self._asked_at_change = None, self.ledger.changes
        touched, words = taking.take_call(self.host, lists, self.ledger.free_room, is_new=is_new)
        # The first call of a connection brings the script.
        script = ("EVAL", redislink.source("take")) if is_new else ("EVALSHA", redislink.digest("take"))
        self._ask("", *script, len(touched), *touched, *words)

    @property
    def _is_resting(self) -> bool:
        if self._rest is None:
            return False
        until, changes = self._rest
        return monotonic() < until and changes == self.ledger.changes

    def _rest_a_while(self) -> None:
        """Ask no more until there may be more room. Waiting at a list would take what is sent before what is parked."""
        self._rest = (monotonic() + 0.9 * _REST_S, self._asked_at_change)
        self.connection.wake_in(_REST_S)

    @property
    def _may_take(self) -> bool:
        return self.intake is not None and self.intake.is_open

    def _wait(self, source: str) -> None:
        """Wait at a list; Redis can wait and move at one only, so not for long."""
        self._ask(source, "BLMOVE", source, keys.taken(self.host, source), "RIGHT", "LEFT", self.brpop_timeout)

    def _ask(self, source: str, *command: Any) -> None:
        self._source = source
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        """Read the answer and deliver what came; raises `Empty` if nothing did."""
        try:
            return self._read(**options)
        finally:
            self._is_asking = bool(self._in_poll)

    def _read(self, **options: Any) -> bool:
        answer, waited_at = self._answer(**options), self._source
        self.intake.is_dropping = bool(answer) and not waited_at and not answer[0] and answer[1] > 0
        if answer is None:
            lists = self._lists()
            if lists and not waited_at and not self._closing and self._may_take:
                self._wait(lists[0])
            raise Empty
        source, text = (waited_at, answer) if waited_at else (answer[0].decode(), answer[1])
        if not source:
            # Only messages of jobs that are not to run, or not now; the poller asks again at once.
            if not text:
                self._rest_a_while()
            raise Empty
        self._arrive(Taken(source, text))
        return True

    def _answer(self, **options: Any) -> Any:
        connection = self.client.connection
        try:
            answer = self.client.parse_response(connection, "BLMOVE" if self._source else "EVAL", **options)
        except redislink.UnknownScript:
            self._known = None
            raise Empty from None
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
        self._known = connection._sock
        return answer

    def _arrive(self, taken: Taken) -> None:
        """Deliver a message; one that answers an old question, after the intake was closed, goes back at once."""
        if not self.intake.is_open:
            self._remove(taken, put_back=True)
            raise Empty
        queue = taken.source.rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        parsed = incoming.parse(taken.text, source=taken.source, is_own_queue=self._is_own_queue)
        if isinstance(parsed, incoming.Refusal):
            place = self._refuse(taken, parsed)
            if place is None:
                raise Empty
            taken, parsed = place, incoming.rejected(parsed, place.source)
        self.connection._deliver(_raw(parsed, taken), queue)

    def _refuse(self, taken: Taken, refusal: incoming.Refusal) -> Taken | None:
        """Put a message aside that cannot be read; return where the one lies that stands for its job, if it has one."""
        touched, words, place = refused.refuse_call(taken, refusal, self.host)
        with self.conn_or_acquire() as client:
            number = client.eval(redislink.source("refuse"), len(touched), *touched, *words)
        log.error(
            "a message in %s is refused and put aside as number %s: %s; see celery-docker queue refused",
            taken.source,
            number,
            refusal.reason,
            extra=journal.attributes(
                JournalEvent.REFUSAL,
                refusal.job_id,
                JobFacts(host=self.host, queue=taken.source.rsplit(self.sep, 1)[0]),
            ),
        )
        return place

    def _handle_message(self, client: Any, r: Any) -> Any:
        """Read what came over a channel, where anybody can publish anything; what is no command of ours is left out."""
        payload = super()._handle_message(client, r)
        if payload["type"] in _CONFIRMATIONS:
            self._subscriptions = int(payload["data"])
        if isinstance(payload["data"], bytes | str):
            payload["data"] = _command(payload["data"])
        return payload

    def _is_own_queue(self, name: str) -> bool:
        """Return whether a queue is served here, or by another host of this Redis, which is asked only then."""
        if name in self.active_queues or name == jobspec.DEFAULT_QUEUE:
            return True
        with self.conn_or_acquire() as client:
            return name in hosts.served_queues(client)

    def _lists(self) -> list[str]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]


class Transport(redis.Transport):  # type: ignore[misc]  # kombu ships no types
    """kombu's Redis transport with the channel above."""

    Channel = Channel
    _loop: Any = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Remember the loop."""
        self._loop = loop
        super().register_with_event_loop(connection, loop)

    def wake_in(self, delay_s: float) -> None:
        """Let the event loop take a turn after a time; otherwise it idles up to a second."""
        if self._loop is not None:
            self._loop.call_later(delay_s, _nothing)


class TransportToSocket(Transport):
    """The same for Redis behind a Unix socket: kombu leaves the URL, of which it has no words, to its channel."""

    can_parse_url = True


def _nothing() -> None: ...


def _command(data: bytes | str) -> bytes:
    """Return a control command as Celery may have it; empty for what is none."""
    try:
        return json.dumps(broadcast.parse(data, Panel.data)).encode()
    except strictjson.NotUsable as exc:
        log.warning("a control command was dropped: %s", wording.one_line(str(exc), 300))
        return b""


def message_of(channel: Any, envelope: Mapping[str, Any]) -> Any:
    """Return the message of a job whose envelope this worker has from a record."""
    job_id = str(envelope["headers"]["id"])
    return channel.Message(_raw(incoming.of_envelope(job_id, envelope), None), channel=channel)


def _raw(parsed: incoming.Incoming, taken: Taken | None) -> dict[str, Any]:
    """Return what kombu makes a message of, under a tag of its own: copies have to be acknowledged one by one."""
    return {**incoming.for_celery(parsed, str(uuid.uuid4())), _INCOMING: parsed, _TAKEN: taken}
