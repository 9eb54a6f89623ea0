"""What is said of one piece of a node's fingerprint that has changed."""

import pytest

from fftasks.cache.fingerprint import explain_input


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({}, "data file fail.flag is new"),  # there was no file at all, and that is known
        ({"data file fail.flag": "a"}, "data file fail.flag changed"),
        ({"data file fail.flag": "b"}, "its data changed"),
        (None, "its data changed"),
    ],
)
def test_a_data_file_that_changed_is_named_where_it_is_known(before, said):
    record, now = {"inputs": {"data": "old"}}, {"data": "new"}

    found = explain_input("data", {}, record, now, {"data file fail.flag": "b"}, lambda _: before)

    assert list(found) == [said]
