"""The images of the hosts: what each has, and the order to pull one before its jobs come."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.client import configfiles, signing
from celery_docker.core.pullorder import PullOrder, PullReport
from celery_docker.store.imagestore import ImageStore


@dataclass(frozen=True)
class HostImages:
    """Questions and orders about images; each call raises `StoreAway` or `StoreRefused`."""

    store: ImageStore

    def reports(self, hosts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return which images these hosts have, as they have reported it in the last minutes."""
        return self.store.reports(hosts)

    def order(self, image: str, *, platform: str | None = None, hosts: Sequence[str] = ()) -> str:
        """Have hosts pull an image, all without `hosts`; return the id of the order. Raises `KeysError`.

        It is signed where this process may read the key, as a job is.
        """
        order = PullOrder(str(uuid.uuid4()), image, platform, tuple(hosts))
        signer = signing.of_process(configfiles.key_file(os.environ))
        keys = signer.key_file.keys()
        if keys is not None:
            order = order.signed(keys.signing, signer.identity, time.time())
        self.store.order(order.order_id, order.text())
        return order.order_id

    def told(self, order_id: str) -> dict[str, PullReport]:
        """Return what each host has said so far about an order."""
        return self.store.told(order_id)
