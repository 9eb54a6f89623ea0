"""What the metadata store says of a run's tasks and their outputs.

The answers were written by the classes that protoc makes of ml_metadata's own .proto files.
"""

import struct
from datetime import datetime, timezone

import pytest

from fftasks.config import KFPSettings
from fftasks.errors import ToolError
from fftasks.kfp.metadata import OutputArtifact, read_executions
from tests.services.kfp_server import Fault, KFPServer

KIND = "application/grpc-web+proto"
ANSWERS = {
    "GetContextByTypeAndName": (
        "0a460807100b1a0572756e2d312a1e0a0d706970656c696e655f726f6f74120d1a0b6d696e696f3a2f2f622f"
        "72321273797374656d2e506970656c696e6552756e3880b883a1f732"
    ),
    "GetExecutionsByContext": (
        "0a6c0814100d18022a1c0a06696e70757473121222100a0e0a0161120911000000000000f03f2a130a0d7061"
        "72656e745f6461675f6964120208142a0f0a097461736b5f6e616d6512021a003a1973797374656d2e436f6e"
        "7461696e6572457865637574696f6e4080b883a1f7320a710815100d18032a1c0a06696e7075747312122210"
        "0a0e0a0161120911000000000000f03f2a130a0d706172656e745f6461675f6964120208142a140a09746173"
        "6b5f6e616d6512071a05747261696e3a1973797374656d2e436f6e7461696e6572457865637574696f6e4080"
        "b883a1f7320a700816100d18052a1c0a06696e70757473121222100a0e0a0161120911000000000000f03f2a"
        "130a0d706172656e745f6461675f6964120208142a130a097461736b5f6e616d6512061a04706c6f743a1973"
        "797374656d2e436f6e7461696e6572457865637574696f6e4080b883a1f732"
    ),
    "GetEventsByExecutionIDs": (
        "0a19081f10151a0a0a081206726573756c74200428fbb883a1f7320a1a082010151a0b0a0912076d65747269"
        "6373200428fbb883a1f7320a17081f10161a080a06120464617461200328fbb883a1f7320a21082110161a12"
        "0a10120e636c617373696669636174696f6e200428fbb883a1f732"
    ),
    "GetArtifactsByID": (
        "0a5f081f10031a186d696e696f3a2f2f622f722f747261696e2f726573756c742a130a077072657669657712"
        "081a065b312c20325d2a150a0b707974686f6e5f7479706512061a046c6973743002420f73797374656d2e41"
        "7274696661637448010a4908201a196d696e696f3a2f2f622f722f747261696e2f6d6574726963732a150a08"
        "6163637572616379120911000000000000e03f2a070a016e120208032a0a0a0477696465120230010a950108"
        "211a0873333a2f2f622f632a3c0a11636f6e666964656e63654d657472696373122722250a230a046c697374"
        "121b32190a172a150a130a06726563616c6c120911000000000000f03f2a490a0f636f6e667573696f6e4d61"
        "74726978123622340a320a0673747275637412282a260a240a04726f7773121c321a0a182a160a140a03726f"
        "77120d320b0a0911000000000000f03f"
    ),
}


@pytest.fixture
def server(kfp_server, monkeypatch):
    def answer(_, method, body):
        assert body[:5] == b"\0" + struct.pack(">I", len(body) - 5)
        message = bytes.fromhex(ANSWERS[method])
        trailers = b"\x80" + struct.pack(">I", 15) + b"grpc-status:0\r\n"
        return b"\0" + struct.pack(">I", len(message)) + message + trailers

    monkeypatch.setattr("tests.services.kfp_server.MetadataStore.answer", answer)
    return kfp_server


def test_outputs_of_tasks_have_their_places_and_what_was_said_of_them(server):
    executions = read_executions(KFPSettings(host=server.url), "run-1")

    assert {name: one.outputs for name, one in executions.items()} == {
        "train": {
            "result": OutputArtifact(
                "minio://b/r/train/result", {"preview": "[1, 2]", "python_type": "list"}
            ),
            "metrics": OutputArtifact(
                "minio://b/r/train/metrics", {"accuracy": 0.5, "wide": True, "n": 3}
            ),
        },
        "plot": {
            "classification": OutputArtifact(
                "s3://b/c",
                {
                    "confusionMatrix": {"rows": [{"row": [1.0]}]},
                    "confidenceMetrics": [{"recall": 1.0}],
                },
            )
        },
    }


def test_tasks_have_their_states_and_times(server):
    executions = read_executions(KFPSettings(host=server.url), "run-1")

    assert {name: one.state for name, one in executions.items()} == {
        "train": "COMPLETE",
        "plot": "CACHED",
    }
    assert executions["train"].created == datetime(2025, 6, 15, 15, 6, 40, tzinfo=timezone.utc)


def test_what_the_store_is_asked_for(server):
    read_executions(KFPSettings(host=server.url), "run-1")

    asked = [request.body[5:] for request in server.list_requests("POST")]
    assert asked[0] == b"\x0a\x12system.PipelineRun\x12\x05run-1"
    assert asked[1] == b"\x08\x07"
    assert asked[2] in (b"\x08\x14\x08\x15\x08\x16", b"\x0a\x03\x14\x15\x16")  # also packed
    assert asked[3] in (b"\x08\x1f\x08 \x08!", b"\x0a\x03\x1f !")
    assert {request.headers["Content-Type"] for request in server.list_requests("POST")} == {KIND}


def test_a_run_of_which_the_store_knows_nothing_has_no_outputs(kfp_server):
    assert read_executions(KFPSettings(host=kfp_server.url), "another") == {}


def test_below_the_path_of_kubeflow_the_store_is_beside(server):
    settings = KFPSettings(host=f"{server.url}/pipeline")

    assert read_executions(settings, "run-1")
    paths = [request.path for request in server.requests]
    assert paths[0].startswith("/pipeline/ml_metadata.")
    assert paths[1].startswith("/ml_metadata.")


def test_a_host_that_is_the_api_server_leads_to_no_store():
    with KFPServer(log_servers=frozenset({"api"})) as server:
        assert read_executions(KFPSettings(host=server.url), "run-1") is None


def test_an_error_of_the_store_is_one(server):
    trailers = b"\x80" + struct.pack(">I", 16) + b"grpc-status:13\r\n"
    fault = Fault(path="GetEvents", body=trailers, kind=KIND)
    server.faults.append(fault)

    with pytest.raises(ToolError, match="does not answer GetEventsByExecutionIDs"):
        read_executions(KFPSettings(host=server.url), "run-1")
