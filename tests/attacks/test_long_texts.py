"""Long hostile texts in logs, errors and reasons: the time for them grows with their length and no faster."""

import time

import pytest

from fftasks.errors import escape_controls
from fftasks.kfp import connection as kfp_errors
from fftasks.kfp import pod_log as log
from fftasks.report.result_documents import split_html_by_node
from fftasks.secrets.scanner import hide_tokens
from fftasks.terminal import escape_all_but_colours

PIECES = [
    "a", "a.", ".", "-", " ", "1", ";", ": ", "\x1b[", "\x1b[1;", "38;2;1;1;1;",
    "\x1b[38;5;5;", "\n",
    "\r",     "I0101 00:00:00.0 1 a.go:1] ", "I0101 00:00:00.0       ", "E0101 00:00:00.0 1 a",
    "time=a level=b argo=",
    "driver.a(", "driver.a() failed", "ExecutorOutput: {\n }\n", "}\n",
    " }\n", "-- failed: {", "exit status 1",
    "<h2>", "<h2></h2>\n<iframe ", 'srcdoc="', "<title>", "<title", "ghp_", "eyJ", "://", "a:b@",
]  # fmt: skip


@pytest.mark.parametrize(
    "read",
    [
        log.clean_log, log.clean_driver_log, log.explain_launcher, log.is_killed, log.find_exit,
        escape_controls, escape_all_but_colours, hide_tokens,
        lambda text: split_html_by_node(["a", "b"], text),
        kfp_errors._shorten,
    ],
)  # fmt: skip
@pytest.mark.parametrize("begin", ["", "\x1b[", "E0101 00:00:00.0 1 a.go:1] ", "<html>"])
@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_takes_no_long_time(read, begin, piece):
    text = begin + piece * (100_000 // len(piece))
    start_s = time.monotonic()

    read(text)
    read(f"{text}!")

    assert time.monotonic() - start_s < 3
