"""The loop that sends notices of ends, put together. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping

from celery_docker.background.notifying import Notifying
from celery_docker.core import noticefile, settings
from celery_docker.core.policy import Policy
from celery_docker.host import programs
from celery_docker.host.keyfile import KeyFile
from celery_docker.host.messenger import Messenger
from celery_docker.run.authority import Authority
from celery_docker.store import redislink
from celery_docker.store.notices import NoticeStore


def notifying(
    worker_settings: settings.Settings, policy: Policy, link: redislink.Link, environ: Mapping[str, str]
) -> Notifying:
    """Return the loop of one worker; it has not been started."""
    messenger = Messenger(
        environ.get("NOTICE_FILE", noticefile.FILE),
        environ.get("NOTICE_SOCKET", programs.SOCKET),
        environ.get("NOTICE_SENDMAIL", programs.SENDMAIL),
    )
    authority = Authority(policy, KeyFile(worker_settings.key_file))
    return Notifying(NoticeStore(link), authority.rules_of, messenger.send)
