"""The names of everything that we keep in Redis. Pure; one function or constant for each key."""

from __future__ import annotations

from celery_docker.core.lifecycle import State

PREFIX = "celery-docker:"
# Every job that has a record, by the time it was submitted or first seen.
INDEX = PREFIX + "jobs"
# Jobs that wait for a time of theirs, by that time.
DELAYED = PREFIX + "delayed"
# Jobs whose message should lie in a queue's list, by the time it was put there.
WAITING = PREFIX + "waiting"
# Jobs that are to end and have not.
CANCELLING = PREFIX + "cancelling"
# Jobs that must have started by a certain time, by that time.
EXPIRING = PREFIX + "expiring"
# The hosts that take jobs, by their last heartbeat.
HOSTS = PREFIX + "hosts"
# The hosts that were silent for too long, by their last heartbeat.
LOST_HOSTS = PREFIX + "lost-hosts"
# The host that takes over the jobs of silent ones now; the key expires.
TAKEOVER_LOCK = PREFIX + "judge"
# Jobs that wait for other jobs, and so are in no list, by the time of their submission.
BLOCKED = PREFIX + "blocked"
# The shares of submitters that have jobs, and the queue list of each: a hash.
SHARES = PREFIX + "shares"
# How many jobs of one share may be published at a time, by queue list: a hash.
WINDOWS = PREFIX + "windows"
# A worker has just looked after the shares; the key expires.
SHARES_LOCK = PREFIX + "shares-lock"
# Every batch, by the time it was begun.
BATCHES = PREFIX + "batches"
# The users who submitted through the gateway, by uid, by the time of their latest job or batch.
USERS = PREFIX + "users"
# The lists of jobs by state are complete, since a look at all jobs at this time; and a worker looks after them now.
# Both keys expire.
LISTS = PREFIX + "lists"
LISTS_LOCK = PREFIX + "lists-lock"
# The hosts that are to take no jobs for now, and who said so: a hash.
DRAINED = PREFIX + "drained"
# The groups of parked jobs, which wait until a host has room for them; a group is in one Redis list and needs the same.
PARKED = PREFIX + "parked"
# What the keys of groups begin with, of sorted sets of jobs by the time at which they were parked.
PARKED_GROUP = PARKED + ":"
# What the keys of reservations begin with: the host that keeps room for a parked job. They expire.
RESERVED = PREFIX + "reserved:"
# The messages that were refused, by number: what is known of each, the text of each, and the last number.
REFUSED = PREFIX + "refused"
REFUSED_TEXTS = PREFIX + "refused-texts"
REFUSED_COUNT = PREFIX + "refused-count"
# The jobs whose output is read now, by the last sign of life of a reader.
READ_JOBS = PREFIX + "read-jobs"
# The orders to pull an image, by the time at which they were given.
PULL_ORDERS = PREFIX + "pulls"
# The notices that are to be sent, by when the next try is due, and how often each was tried: a hash.
NOTICES = PREFIX + "notices"
NOTICE_TRIES = PREFIX + "notice-tries"
# How many jobs were started, retried and ended, and after how long, by queue: a hash (`core.figures`).
COUNTS = PREFIX + "counts"
# The samples of the last 24 hours by the time of their step (`core.history`), and a key that expires with the step of
# which a sample was taken.
HISTORY = PREFIX + "history"
HISTORY_LOCK = PREFIX + "history-lock"
# What the keys of records and batches begin with, for scripts that go from one to another.
JOB = PREFIX + "job:"
LOG = PREFIX + "log:"
LOG_READERS_SUFFIX = ":readers"
BATCH = PREFIX + "batch:"
SHARE = PREFIX + "share:"
USER = PREFIX + "user:"
# What the keys of hosts begin with, and what those of reports and of sets of jobs end with.
HOST = (PREFIX + "host:", ":about", ":jobs")
# The states in which jobs end, as `finalstates.lua` has them.
_ENDS = tuple(state.value for state in State if state.is_final)


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return JOB + job_id


def dependents(job_id: str) -> str:
    """Return the key of the set of jobs that wait for the success of this one."""
    return f"{job(job_id)}:dependents"


def log(job_id: str) -> str:
    """Return the key of the end of a job's output, a stream."""
    return LOG + job_id


def log_readers(job_id: str) -> str:
    """Return the key of the signs of life of those who read a job's output, a hash."""
    return f"{log(job_id)}{LOG_READERS_SUFFIX}"


def batch(batch_id: str) -> str:
    """Return the key of what is known of a batch, a hash."""
    return BATCH + batch_id


def batch_jobs(batch_id: str) -> str:
    """Return the key of the jobs of a batch by their index, a sorted set."""
    return f"{batch(batch_id)}:jobs"


def batch_held(batch_id: str) -> str:
    """Return the key of the jobs of a batch that its limit holds back, in their order, a list."""
    return f"{batch(batch_id)}:held"


def share_published(share: str) -> str:
    """Return the key of the jobs of a share that are published and have not ended, by the last look at each."""
    return f"{SHARE}{share}:published"


def share_held(share: str) -> str:
    """Return the key of the jobs of a share that its window holds back, by the time of their submission."""
    return f"{SHARE}{share}:held"


def user_jobs(uid: str) -> str:
    """Return the key of the jobs that a user submitted through the gateway, a sorted set like `INDEX`."""
    return f"{USER}{uid}:jobs"


def live(index: str) -> str:
    """Return the key of those jobs of an index, `INDEX` or a user's, that have not ended, a sorted set like it."""
    return f"{index.removesuffix('jobs')}live"


def ended(index: str, state: str) -> str:
    """Return the key of those jobs of an index, `INDEX` or a user's, that ended in this state, a sorted set like it."""
    return f"{index.removesuffix('jobs')}ended:{state}"


def lists(index: str) -> list[str]:
    """Return the keys of the lists by state of an index: each of its jobs is in one of them."""
    return [live(index), *(ended(index, state) for state in _ENDS)]


def user_batches(uid: str) -> str:
    """Return the key of the batches that a user submitted through the gateway, a sorted set like `BATCHES`."""
    return f"{USER}{uid}:batches"


def host_jobs(host: str) -> str:
    """Return the key of the set of jobs that a host owns."""
    return HOST[0] + host + HOST[2]


def host_about(host: str) -> str:
    """Return the key of what a host says of itself, a hash."""
    return HOST[0] + host + HOST[1]


def host_images(host: str) -> str:
    """Return the key of a host's report of its images, a text that expires."""
    return f"{PREFIX}host:{host}:images"


def pull_order(order_id: str) -> str:
    """Return the key of an order to pull an image, and of what each host says of it, a hash that expires."""
    return f"{PREFIX}pull:{order_id}"


def host_sources(host: str) -> str:
    """Return the key of the set of queue lists that a host has taken messages from."""
    return f"{PREFIX}host:{host}:sources"


def taken(host: str, source: str = "") -> str:
    """Return the key of the messages that a host has taken from a queue's list and not yet claimed, a list.

    Without a source: what all of them begin with.
    """
    return f"{PREFIX}host:{host}:taken:{source}"


# The type of each key that there is once.
TYPES = {
    **dict.fromkeys((INDEX, DELAYED, WAITING, EXPIRING, HOSTS, LOST_HOSTS, BLOCKED, BATCHES), "zset"),
    **dict.fromkeys((READ_JOBS, USERS, PULL_ORDERS, NOTICES, HISTORY), "zset"),
    **dict.fromkeys(lists(INDEX), "zset"),
    **dict.fromkeys((DRAINED, REFUSED, REFUSED_TEXTS, SHARES, WINDOWS, NOTICE_TRIES, COUNTS), "hash"),
    **dict.fromkeys((TAKEOVER_LOCK, REFUSED_COUNT, SHARES_LOCK, LISTS, LISTS_LOCK, HISTORY_LOCK), "string"),
    **dict.fromkeys((CANCELLING, PARKED), "set"),
}
