"""A client that was generated from the OpenAPI document: lists, executes, waits, reads the report.

Arguments: the socket, the plan's name. The package `deployd_client` lies beside this file.
"""

import sys

import httpx
from deployd_client.api.default import get_tasks, get_tasks_id, get_tasks_id_report, post_tasks
from deployd_client.client import Client
from deployd_client.models import Execute, Problem, Task

socket, plan = sys.argv[1:]
client = Client(base_url="http://deployd").set_httpx_client(
    httpx.Client(base_url="http://deployd", transport=httpx.HTTPTransport(uds=socket), timeout=60)
)

assert get_tasks.sync(client=client).tasks == []
started = post_tasks.sync(client=client, body=Execute(plan=plan), idempotency_key="once")
assert isinstance(started, Task), started
again = post_tasks.sync(client=client, body=Execute(plan=plan), idempotency_key="once")
assert again.id == started.id, "the key is not kept"

# The event stream says when; each answer that is read meanwhile has to be understood.
with client.get_httpx_client().stream("GET", f"/v1/events?task={started.id}") as events:
    for line in events.iter_lines():
        if line.startswith("data:") and get_tasks_id.sync(started.id, client=client).state == "SUCCEEDED":
            break

report = get_tasks_id_report.sync(started.id, client=client)
assert report.task.state == "SUCCEEDED", report
assert [one.state for one in report.deployments] == ["SUCCEEDED"] * len(report.deployments)
assert report.events[0].type_ == "task.started", report.events[0]
assert [task.id for task in get_tasks.sync(client=client).tasks] == [started.id]

refused = post_tasks.sync(client=client, body=Execute(plan="nowhere"))
assert isinstance(refused, Problem) and refused.code == "notFound", refused
print(report.task.plan, len(report.events))
