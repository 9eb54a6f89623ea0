"""Which image each task runs: the one in which its nodes last changed."""

import pytest

from fftasks.pipeline.pins import (
    PinRequest,
    describe_pins,
    list_pin_inputs,
    list_pin_reasons,
    make_pins_record,
    name_tag,
)

REPOSITORY = "registry.test/team/sums"
A, B, C = (f"{REPOSITORY}@sha256:{letter * 64}" for letter in "abc")
F1, F2, F3 = (f"sha256:{digit * 64}" for digit in "123")


class Tags:
    """The tags of a repository, in a dictionary."""

    def __init__(self, **tags):
        self.tags = tags
        self.asked = []

    def find(self, repository, tags):
        assert repository == REPOSITORY
        self.asked.append(list(tags))
        return {tag: self.tags[tag] for tag in tags if tag in self.tags}

    def add(self, repository, digest, tags):
        assert repository == REPOSITORY
        self.tags |= dict.fromkeys(tags, digest)


def choose(fingerprints, newest, old=None, tags=None, *, pin="node", gone=(), free=()):
    tags = tags or Tags()
    wish = PinRequest(fingerprints, frozenset(free), newest, pin)
    return make_pins_record(wish, find_tags=tags.find, add_tags=tags.add, old=old, gone=gone)


def references(record):
    return {name: task["reference"] for name, task in record["tasks"].items()}


def test_at_first_all_run_the_newest():
    record = choose({"load": F1, "train": F2}, A)

    assert references(record) == {"load": A, "train": A}
    assert record["tasks"]["load"]["cache_key"] == "1" * 40


def test_only_what_changed_moves_to_the_newest():
    old = choose({"load": F1, "train": F2}, A)

    assert references(choose({"load": F1, "train": F3}, B, old)) == {"load": A, "train": B}


def test_what_is_taken_back_runs_what_it_ran_then():
    old = choose({"load": F1}, A)
    old = choose({"load": F2}, B, old)

    assert references(choose({"load": F1}, C, old)) == {"load": A}


def test_without_a_fingerprint_it_is_always_the_newest():
    old = choose({"load": ""}, A)

    record = choose({"load": ""}, B, old)

    assert references(record) == {"load": B}
    assert record["known"] == []


def test_one_image_for_the_pipeline_where_that_is_wanted():
    old = choose({"load": F1, "train": F2}, A)

    record = choose({"load": F1, "train": F3}, B, old, pin="pipeline")

    assert references(record) == {"load": B, "train": B}


def test_a_colleague_finds_the_image_in_the_registry():
    tags = Tags()
    choose({"load": F1, "train": F2}, A, tags=tags)

    record = choose({"load": F1, "train": F3}, B, tags=tags)

    assert references(record) == {"load": A, "train": B}
    assert tags.tags[name_tag(F3)] == B.partition("@")[2]


def test_the_registry_is_asked_about_new_fingerprints_only():
    tags = Tags()
    old = choose({"load": F1, "train": F2}, A, tags=tags)
    tags.asked.clear()

    old = choose({"load": F1, "train": F3}, B, old, tags)
    choose({"load": F1, "train": F3}, C, old, tags)

    assert tags.asked == [[name_tag(F3)]]


def test_an_image_that_is_gone_moves_its_tasks_to_the_newest():
    tags = Tags()
    old = choose({"load": F1, "train": F2}, A, tags=tags)
    old = choose({"load": F1, "train": F3}, B, old, tags)

    record = choose({"load": F1, "train": F3}, B, old, tags, gone={A})

    assert references(record) == {"load": B, "train": B}
    assert tags.tags[name_tag(F1)] == B.partition("@")[2]


def test_images_elsewhere_do_not_count():
    old = choose({"load": F1}, A)
    other = {**old, "known": [[F1, A.replace("team", "others")]]}

    assert references(choose({"load": F1}, B, other)) == {"load": B}


def test_a_run_parameter_takes_the_key_but_not_the_image():
    old = choose({"load": F1}, A)

    record = choose({"load": F1}, B, old, free=["load"])

    assert record["tasks"]["load"] == {"reference": A, "fingerprint": F1, "cache_key": ""}


@pytest.mark.parametrize(
    ("wish", "reasons"),
    [
        (PinRequest({"load": F1, "train": F2}, frozenset(), B, "node"), []),
        (PinRequest({"load": F3, "train": F2}, frozenset(), B, "node"), ["load changed"]),
        (
            PinRequest({"load": F1, "test": F3}, frozenset(), B, "node"),
            ["test is new", "train is not there any more"],
        ),
        (
            PinRequest({"load": F1, "train": F2}, frozenset(), B, "pipeline"),
            ["setting image.pin: node -> pipeline"],
        ),
        (
            PinRequest({"load": F1, "train": F2}, frozenset(), "other/x@sha256:1", "node"),
            ["images are in other/x now"],
        ),
        (
            PinRequest({"load": "", "train": F2}, frozenset(), B, "node"),
            ["there is a newer image", "load changed"],
        ),
        (
            PinRequest({"load": F1, "train": F2}, frozenset({"load"}), B, "node"),
            ["run parameters reach other nodes"],
        ),
    ],
)  # fmt: skip
def test_reasons_name_what_is_different(wish, reasons):
    old = choose({"load": F1, "train": F2}, A)

    assert list(list_pin_reasons(old, wish)) == reasons
    assert (list_pin_inputs(wish) != old["inputs"]) == bool(reasons)


def test_without_a_record_the_reason_is_that_it_never_ran():
    assert list(list_pin_reasons(None, PinRequest({}, frozenset(), A, "node"))) == ["never ran"]


def test_a_line_says_how_many_tasks_run_which_image():
    old = choose({"load": F1, "train": F2, "test": F3}, A)

    record = choose({"load": F1, "train": f"sha256:{'4' * 64}", "test": F3}, B, old)

    assert describe_pins(record) == f"2 of 3 in …{A[-12:]}, 1 of 3 in …{B[-12:]}"


def test_a_record_of_another_version_is_made_again():
    old = choose({"load": F1}, A)
    wish = PinRequest({"load": F1}, frozenset(), A, "node")

    assert list(list_pin_reasons(old, wish)) == []
    assert list(list_pin_reasons({**old, "version": 0}, wish)) == [
        "the algorithm of this stage changed"
    ]
