"""The troubleshooting page: each message on it is a message of the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fftasks

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
OF_OTHERS = {"OOMKilled", "ImagePullBackOff", "Unschedulable"}  # words of Kubernetes


def list_messages():
    """Return the messages in the first column of the tables; "…" stands for what differs."""
    cells = re.findall(r"(?m)^\| (`.*?) \|", PAGE.read_text())
    return [
        message
        for cell in cells
        for message in re.findall(r"`(.+?)`", cell)
        if message not in OF_OTHERS
    ]


@pytest.fixture(scope="module")
def texts():
    """Give all strings in the package, those with placeholders as one with "…" in each place."""
    found = set()
    for path in Path(fftasks.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.add(
                    "".join(
                        getattr(part, "value", "…") if isinstance(part, ast.Constant) else "…"
                        for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_the_page_explains_many_messages():
    assert len(list_messages()) > 40


@pytest.mark.parametrize("message", list_messages())
def test_a_message_on_the_page_is_a_message_of_the_program(message, texts):
    fragments = [
        part for part in re.split(r"…|\d{3}|config/default\.yaml", message) if part.strip(" .:;,")
    ]

    assert any(all(part.strip() in text for part in fragments) for text in texts), fragments
