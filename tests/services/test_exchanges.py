"""The test server's answers to requests against those that a real KFP 2.17.0 gave."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.services.kfp_server import KFPServer
from tests.services.sample import make_pipeline, write_pipeline

EXCHANGES = json.loads(
    gzip.decompress((Path(__file__).with_name("recorded") / "exchanges.json.gz").read_bytes())
)
_RUN = "4153e03e-715c-45f0-8619-b0504c5e539d"  # recorded, of a run that has succeeded
_PIPELINE = "20849c87-d77c-46e2-845d-d640681916cd"
_UNANSWERED = "upload what is not a pipeline"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPServer]:
    """Give a server with a run that has succeeded and with two pipelines."""
    with KFPServer() as server:
        client = server.connect()
        spec = make_pipeline("image:1", {"one": {}})
        path = write_pipeline(tmp_path_factory.mktemp("sample"), spec)
        run = client.create_run_from_pipeline_package(path)
        server.wait(run.run_id)
        for name in ("train", "recorded"):
            client.upload_pipeline(path, name)
        yield server


def ask(server: KFPServer, request: dict[str, Any]) -> requests.Response:
    """Send a recorded request, with the ids that this server has."""
    ids = {_RUN: next(iter(server.api.runs)), _PIPELINE: next(iter(server.api.catalog.pipelines))}
    path = request["path"]
    for theirs, ours in ids.items():
        path = path.replace(theirs, ours)
    headers = {"Content-Type": "application/json"}
    if "upload" in path:
        headers = {"Content-Type": "multipart/form-data; boundary=----x"}
    body = request["body"]
    return requests.request(
        request["method"],
        server.url + path,
        data=None if body is None else body.encode(),
        headers=headers,
        timeout=10,
    )


def simplify(text: str, server: KFPServer) -> str:
    """Return an error without ids of requests and without Go's stack."""
    text = text.replace(next(iter(server.api.runs)), _RUN)
    text = re.sub(r"github\.com/.*", "", text, flags=re.DOTALL)
    text = re.sub(r"(RequestID|HostID): [^,]*", r"\1", text)
    return re.sub(r"/artifacts/[-a-z0-9]+/", "/artifacts/<workflow>/", text).strip()


def pick(body: Any, key: str, server: KFPServer) -> str:
    """Return an error's text; of one that was cut in the recording, what is there."""
    return simplify(str(body.get(key, "")), server)


@pytest.mark.parametrize(
    "exchange",
    [pytest.param(one, id=one["title"]) for one in EXCHANGES if one["title"] != _UNANSWERED],
)
def test_answer_is_that_of_the_real_server(server: KFPServer, exchange: dict[str, Any]) -> None:
    theirs = exchange["response"]

    answer = ask(server, exchange["request"])

    assert answer.status_code == theirs["status"], answer.text
    assert answer.headers["Content-Type"] == theirs["content_type"]
    try:
        wanted = json.loads(theirs["body"])
    except ValueError:  # cut in the recording: the message up to the stack
        if answer.status_code != requests.codes.ok:
            message = theirs["body"].partition('"message":"')[2].partition("\\n")[0]
            assert answer.json()["message"].startswith(json.loads(f'"{message}"'))
        return
    found = answer.json()
    for key in ("message", "error_message", "error_details"):
        assert pick(found, key, server) == pick(wanted, key, server)
    assert found.get("code") == wanted.get("code")
    assert set(found) == set(wanted) or exchange["title"] == "recurring runs"
    for ours, recorded in zip(found.get("details", ()), wanted.get("details", ()), strict=True):
        assert ours["@type"] == recorded["@type"]
        assert pick(ours, "message", server) == pick(recorded, "message", server)
    for kind in ("experiments", "pipelines"):
        for row in found.get(kind, ())[:1]:
            assert set(row) == set(wanted[kind][0])


def test_upload_that_is_no_yaml_gets_no_answer(server: KFPServer) -> None:
    exchange = next(one for one in EXCHANGES if one["title"] == _UNANSWERED)

    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            server.url + exchange["request"]["path"],
            data=exchange["request"]["body"].encode(),
            headers={"Content-Type": "multipart/form-data; boundary=----x"},
            timeout=0.3,
        )
