"""Gathers the facts about Redis. One that is away is a fact too."""

from __future__ import annotations

from celery_docker import errors
from celery_docker.core.redishealth import Redis
from celery_docker.store import redishealth, redislink


def gather(url: str) -> Redis:
    """Return the facts about the Redis at `url`."""
    try:
        link = redislink.connect(url)
        try:
            link.check()
            return redishealth.of_link(link)
        finally:
            link.close()
    except (errors.StoreAway, errors.StoreRefused) as exc:
        return Redis(redishealth.where_of(url), problem=str(exc))
