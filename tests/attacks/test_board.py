"""The server of `doit board`: it shows nothing without its token, and nobody can keep it busy."""

import contextlib
import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from fftasks.report.page_content import make_empty_page_content
from fftasks.report.web_page import BoardApplication, serve_board


class Server:
    """A real server in a thread; ask() uses a real socket."""

    def __init__(self):
        board = BoardApplication(
            lambda: make_empty_page_content("secret project"),
            make_empty_page_content("secret project"),
        )
        told = []
        thread = threading.Thread(target=serve_board, args=(board, 0, told.append), daemon=True)
        thread.start()
        while not told:
            time.sleep(0.01)
        self.address = urlsplit(told[0])
        self.token = board.token

    def ask(self, path="/", method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers

    def open(self):
        return socket.create_connection(("127.0.0.1", self.address.port), timeout=5)


@pytest.fixture(scope="module")
def server():
    return Server()


def name_page(server, path="/"):
    return f"{path}?token={server.token}"


def test_the_address_that_is_printed_has_the_token_and_each_board_has_another_one(server):
    assert server.address.query == f"token={server.token}"
    assert len(server.token) >= 40
    assert BoardApplication(dict, {}).token != server.token


@pytest.mark.parametrize(
    "path", ["/", "/data.json", "/other", "/?token=", "/?token=wrong", "/?token=%FF"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_shown_without_the_token(server, path, method):
    status, body, headers = server.ask(path, method)

    assert status == 403
    assert "secret project" not in body
    assert method == "HEAD" or "address that `doit board` printed" in body
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/", "/data.json"])
def test_the_token_is_in_no_cookie_and_a_cookie_is_not_the_token(server, path):
    status, body, headers = server.ask(name_page(server, path))
    cookie = f"fftasks-board-{server.address.port}={server.token}; token={server.token}"

    assert (status, "secret project" in body) == (200, True)
    assert "Set-Cookie" not in headers
    assert server.ask(path, Cookie=cookie)[0] == 403


@pytest.mark.parametrize("path", ["/", "/data.json", "/other"])
def test_no_answer_repeats_the_token_or_lets_a_browser_tell_it_to_others(server, path):
    _, body, headers = server.ask(name_page(server, path))

    assert server.token not in body + str(headers)
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_the_token_is_of_no_use_under_another_name_of_the_host(server):
    path = f"/?token={server.token}"

    assert server.ask(path, Host="evil.example")[0] == 403


BEGINNINGS = {
    "nothing": b"",
    "half a line": b"GET / HT",
    "half the headers": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "a body that never comes": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nx",
    "a chunk that never comes": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n9",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_hundreds_of_half_sent_requests_keep_nobody_from_an_answer(server, beginning):
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(contextlib.closing(other := server.open()))
            other.sendall(beginning)
        begin = time.monotonic()
        for _ in range(5):
            for path in ("/", "/data.json"):
                assert server.ask(name_page(server, path))[0] == 200

        assert time.monotonic() - begin < 2


def test_requests_that_come_byte_by_byte_keep_nobody_from_an_answer(server):
    ends = threading.Event()

    def drip(connections):
        while not ends.wait(0.02):
            for one in connections:
                with contextlib.suppress(OSError):
                    one.sendall(b"X")

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(server.open())) for _ in range(200)]
        for one in connections:
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        thread = threading.Thread(target=drip, args=(connections,))
        thread.start()
        begin = time.monotonic()
        status, _, _ = server.ask(f"/?token={server.token}")
        ends.set()
        thread.join()

        assert status == 200
        assert time.monotonic() - begin < 2


def test_a_connection_that_is_kept_open_can_ask_again(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=5)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("GET", f"/data.json?token={server.token}")
            answer = connection.getresponse()
            assert (answer.status, b"secret project" in answer.read()) == (200, True)
