"""The operator for Airflow among the examples, on a real gateway and worker, with stand-ins for Airflow's own classes.

Airflow is 300 MB and has its own servers. What the operator uses of it is here: a base class with `defer`, and that of
triggers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests import servers
from tests.gateways import Gateway
from tests.workers.worker import Worker

EXAMPLE = Path(__file__).parents[2] / "docs/examples/airflow_operator.py"


class AirflowException(Exception):
    pass


class Deferred(Exception):
    def __init__(self, trigger: Any, method_name: str) -> None:
        super().__init__(method_name)
        self.trigger, self.method_name = trigger, method_name


class BaseOperator:
    log = logging.getLogger("airflow.task")

    def __init__(self, *, task_id: str) -> None:
        self.task_id = task_id

    def defer(self, *, trigger: Any, method_name: str) -> None:
        raise Deferred(trigger, method_name)


class BaseTrigger:
    log = logging.getLogger("airflow.triggerer")


class TriggerEvent:
    def __init__(self, payload: Any) -> None:
        self.payload = payload


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    modules: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.exceptions": {"AirflowException": AirflowException},
        "airflow.sdk": {"BaseOperator": BaseOperator},
        "airflow.triggers": {},
        "airflow.triggers.base": {"BaseTrigger": BaseTrigger, "TriggerEvent": TriggerEvent},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("airflow_operator", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer, steady: Worker) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        yield gateway


def context(number: int = 1) -> dict[str, Any]:
    return {"ti": SimpleNamespace(dag_id="dag", task_id="fit", run_id="run", map_index=-1, try_number=number)}


def run(operator: Any, number: int = 1) -> Any:
    """Do what Airflow does with a task that defers; its trigger is made anew, as in another process."""
    with pytest.raises(Deferred) as deferred:
        operator.execute(context(number))
    _, arguments = deferred.value.trigger.serialize()
    trigger = type(deferred.value.trigger)(**arguments)

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(asyncio.wait_for(events(), 60))
    return getattr(operator, deferred.value.method_name)(context(number), event)


def operator(example: ModuleType, gateway: Gateway, *command: str) -> Any:
    document = {"image": "busybox", "command": ["sh", "-c", *command], "retries": 0}
    return example.CeleryDockerOperator(task_id="fit", document=document, path=gateway.path, poll_s=0.1)


def test_the_receipt_is_the_result(example: ModuleType, gateway: Gateway) -> None:
    receipt = run(operator(example, gateway, "echo done"))
    assert (receipt["state"], receipt["name"], receipt["output"]) == ("succeeded", "fit", "done\n")
    again = run(operator(example, gateway, "echo done"))
    assert again["id"] == receipt["id"]
    assert run(operator(example, gateway, "echo done"), 2)["id"] != receipt["id"]


def test_a_task_fails_as_its_job_does(example: ModuleType, gateway: Gateway) -> None:
    with pytest.raises(AirflowException, match=r"job [0-9a-f-]{36} failed: exit code 3"):
        run(operator(example, gateway, "exit 3"), 3)
    with pytest.raises(AirflowException, match="image: 'NoImage'"):
        example.CeleryDockerOperator(task_id="x", document={"image": "NoImage"}, path=gateway.path).execute(context(4))


def test_a_trigger_asks_again_while_the_service_is_away(example: ModuleType, gateway: Gateway, tmp_path: Path) -> None:
    job_id = run(operator(example, gateway, "echo done"), 5)["id"]
    path = tmp_path / "api.sock"

    trigger = example.CeleryDockerTrigger(job_id, str(path), 0.05)
    # It says that it asks again, and then the service is there.
    trigger.log = SimpleNamespace(warning=lambda *_: path.symlink_to(gateway.path))

    async def first() -> Any:
        return await anext(trigger.run())

    event = asyncio.run(asyncio.wait_for(first(), 60))
    assert (event.payload["id"], event.payload["state"]) == (job_id, "succeeded")
