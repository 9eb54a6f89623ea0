"""The server of `doit board`."""

import json

import pytest

from fftasks.errors import StoreError, ToolError
from fftasks.report.page_content import make_empty_page_content
from fftasks.report.web_page import BoardApplication, is_loopback_host, serve_board


class Client:
    def __init__(self, describe=None):
        self.board = BoardApplication(
            describe or (lambda: make_empty_page_content("now")), make_empty_page_content("empty")
        )

    def ask(self, path="/", method="GET", **headers):
        environ = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "HTTP_HOST": "localhost:1",
            "QUERY_STRING": f"token={self.board.token}",
            **headers,
        }
        answer = []
        body = b"".join(
            self.board(environ, lambda status, head: answer.extend([status, dict(head)]))
        )
        return answer[0][:3], body, answer[1]


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost:8765", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("LOCALHOST", True),
        ("evil.example:8765", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_answered(host, is_it):
    assert is_loopback_host(host) is is_it
    assert Client().ask(HTTP_HOST=host)[0] == ("200" if is_it else "403")


def test_it_has_a_page_and_its_data_and_nothing_else():
    client = Client()

    assert client.ask("/")[1].startswith(b"<!DOCTYPE html>")
    assert json.loads(client.ask("/data.json")[1])["live"] is True
    assert client.ask("/../etc/passwd")[0] == "404"
    assert client.ask("/", "POST")[0] == "405"


def test_what_has_not_changed_is_not_sent_again():
    client = Client()
    mark = client.ask("/data.json")[2]["ETag"]

    assert client.ask("/data.json", HTTP_IF_NONE_MATCH=mark)[:2] == ("304", b"")
    assert client.ask("/data.json", HTTP_IF_NONE_MATCH='"other"')[0] == "200"


def test_no_other_page_may_have_it():
    headers = Client().ask("/data.json")[2]

    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"


def test_what_cannot_be_read_now_is_said_and_what_was_known_stays():
    def describe():
        raise StoreError("it is gone")

    content = json.loads(Client(describe).ask("/data.json")[1])

    assert (content["title"], content["notice"]) == ("empty", "it is gone")


def test_a_port_that_is_taken_is_an_error_with_a_way_out():
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        with pytest.raises(ToolError, match="cannot listen") as error:
            serve_board(Client().board, other.getsockname()[1], print)

    assert "--port 0" in error.value.tip


def test_a_number_that_is_no_port_is_an_error():
    with pytest.raises(ToolError, match="cannot listen") as error:
        serve_board(Client().board, 99999, print)

    assert "from 0 to 65535" in error.value.found[0]
