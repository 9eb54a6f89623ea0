"""Documents as YAML: read back as they were, by every parser there is."""

import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fftasks.pipeline.ir_yaml import format_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if hasattr(yaml, "CSafeLoader") else [])]


@pytest.mark.parametrize("loader", LOADERS)
@given(value=st.dictionaries(TEXTS, VALUES, max_size=5))
@example({"a": [[[1, "x"], []], {}, [{"k": [{}]}]]})
@example(
    {"true": "yes", "1e5": "0o17", "a": ["2001-1-1", "~", "", " x", "x: y", "x #", "-", "--- a"]}
)
@example(
    {"a": [1e16, -0.0, 5e-324, 1e300, 2**80], "b": "\u2028\x85\x7f\ufeff\ud7ff\U0010ffff\t\r\n"}
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back(loader, value):
    found = yaml.load(format_yaml(value), Loader=loader)

    assert repr(found) == repr(_sort(value))


def _sort(value):
    if isinstance(value, dict):
        return {key: _sort(value[key]) for key in sorted(value)}
    return [_sort(item) for item in value] if isinstance(value, list) else value


def test_it_looks_as_people_write_it():
    value = {
        "b": {"x": [1, {"k": "v", "l": []}], "image": "r.io/a@sha256:00"},
        "a": ["--node", "{{$}}"],
    }

    assert format_yaml(value) == (
        'a:\n- --node\n- "{{$}}"\nb:\n  image: r.io/a@sha256:00\n  x:\n  - 1\n  - k: v\n    l: []\n'
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(ValueError, match="JSON"):
        format_yaml({"a": number})


def test_it_takes_a_fraction_of_the_time_of_pyyaml():
    value = {
        f"task-{i}": {"args": ["--node", f"n {i}"], "k": {"a": True, "b": 0.5}} for i in range(400)
    }

    def measure(write):
        begin = time.process_time()
        write(value)
        return time.process_time() - begin

    ours, theirs = (
        min(measure(write) for _ in range(3))
        for write in (
            format_yaml,
            lambda v: yaml.dump(v, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)),
        )
    )
    assert ours < theirs / 2
