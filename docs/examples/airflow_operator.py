"""A deferrable operator for Airflow 3: a container job of celery-docker that holds no slot of Airflow's while it runs.

Copy it into a folder that Airflow imports, such as plugins/. Worker and triggerer need the socket of celery-docker-api,
and may submit jobs there (a user from uid 1000 on, or one of group celery). Needs nothing but Airflow.

    CeleryDockerOperator(
        task_id="fit",
        document={"image": "tool:2", "command": ["fit", "--day", "{{ ds }}"], "cpus": 2, "memory": "4g", "retries": 0},
    )

The document is that of a job: `celery-docker run --dry-run` shows one. Its receipt is the task's result.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

from airflow.exceptions import AirflowException
from airflow.sdk import BaseOperator  # Airflow 2: from airflow.models import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

SOCKET = "/run/celery-docker/api.sock"


class CeleryDockerOperator(BaseOperator):  # type: ignore[misc]
    """Queue a job, and wait for its end in the triggerer."""

    template_fields = ("document",)

    def __init__(self, *, document: dict[str, Any], path: str = SOCKET, poll_s: float = 5, **options: Any) -> None:
        super().__init__(**options)
        self.document, self.path, self.poll_s = document, path, poll_s

    def execute(self, context: Any) -> None:
        """Queue the job. A try of the task has one id: what runs again before it could defer makes no second job."""
        task = context["ti"]
        words = (task.dag_id, task.task_id, task.run_id, task.map_index, task.try_number)
        job_id = str(uuid.UUID(bytes=hashlib.sha256(repr(words).encode()).digest()[:16], version=4))
        ask(self.path, "POST", "jobs", {"jobs": [{"name": task.task_id[:128], **self.document}], "ids": [job_id]})
        self.log.info("job %s is queued; celery-docker logs %s has its output", job_id, job_id)
        self.defer(trigger=CeleryDockerTrigger(job_id, self.path, self.poll_s), method_name="finish")

    def finish(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt; a task fails as its job does."""
        self.log.info("%s", event.get("output"))
        if event["state"] != "succeeded":
            raise AirflowException(f"job {event['id']} {event['state']}: {event.get('reason')}")
        return event


class CeleryDockerTrigger(BaseTrigger):  # type: ignore[misc]
    """Wait for the end of a job."""

    def __init__(self, job_id: str, path: str = SOCKET, poll_s: float = 5) -> None:
        super().__init__()
        self.job_id, self.path, self.poll_s = job_id, path, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes the trigger anew after a restart of the triggerer."""
        place = f"{type(self).__module__}.{type(self).__qualname__}"
        return place, {"job_id": self.job_id, "path": self.path, "poll_s": self.poll_s}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the receipt of the job once; while the service is away, ask again."""
        while True:
            try:
                answer = await asyncio.to_thread(ask, self.path, "GET", f"receipts?ids={self.job_id}")
            except OSError as exc:
                self.log.warning("celery-docker-api does not answer: %s", exc)
                answer = {"receipts": [None], "states": ["unknown"]}
            if answer["receipts"][0] is not None:
                yield TriggerEvent(answer["receipts"][0])
                return
            if answer["states"][0] is None:
                yield TriggerEvent({"id": self.job_id, "state": "lost", "reason": "its record is gone"})
                return
            await asyncio.sleep(self.poll_s)


def ask(path: str, method: str, place: str, body: Any = None) -> Any:
    """Return an answer of celery-docker-api. Raises `OSError` while it is away, `AirflowException` with a refusal."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    try:
        connection.sock.connect(path)
        connection.request(method, f"/api/v1/{place}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        table = json.loads(answer.read())
    except http.client.HTTPException as exc:
        raise ConnectionError(f"{path}: {exc}") from exc
    finally:
        connection.close()
    if answer.status >= 500:
        raise ConnectionError(table["error"])
    if answer.status >= 400:
        raise AirflowException(table["error"])
    return table
