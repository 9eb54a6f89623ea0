"""Class nodes."""

import pytest

from fftasks.api import workflow
from fftasks.errors import WorkflowError


class Base:
    def reset(self):
        self.n = 0


@workflow
class Counter(Base):
    """Counts."""

    def __init__(self, start):
        self.n = start

    def add(self, k=1):
        self.n += k
        return self.n

    @classmethod
    def kind(cls):
        return cls.__name__

    def __call__(self, x):
        return x + self.n

    def __getitem__(self, index):
        return self.n + index

    def set_title(self, title):
        self.title = title


@workflow
class Plain:
    def hello(self):
        return "hello"


@workflow
def use(value):
    return value


def test_decorated_class_keeps_name_and_docstring():
    assert (Counter.__name__, Counter.__doc__) == ("Counter", "Counts.")


def test_calls_of_one_object_follow_each_other():
    counter = Counter(1)

    first, second = counter.add(2), counter.add(3)

    assert second.after is first
    assert first.after is first.object
    assert second.parents == [first]


def test_inherited_methods_and_classes_without_init_work():
    assert Counter(1).reset().name.startswith("Counter.reset_")
    assert Plain().hello().parents[0].kind == "object"


def test_a_method_takes_a_result_of_its_own_object_once():
    counter = Counter(1)
    first = counter.add()

    second = counter.add(first)

    assert second.parents == [first]


def test_calling_the_object_is_a_method():
    assert Counter(1)(5).method == "__call__"


def test_an_item_of_the_object_is_a_call():
    node = Counter(1)["k"]

    assert (node.method, node.arguments) == ("__getitem__", {"index": "k"})


def test_an_object_of_the_graph_promises_no_protocol():
    assert not hasattr(Counter(1), "__array__")


def test_class_methods_are_checked_without_self():
    assert Counter(1).kind().arguments == {}


def test_names_can_be_set():
    counter = Counter(1).set_name("c")

    assert counter.get_name() == "c"
    assert counter.add(1).set_name("plus one").name == "plus one"


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (lambda: Counter(), "missing a required argument: 'start'"),
        (lambda: Counter(1).add(1, 2), "too many positional arguments"),
        (lambda: Counter(1).ad(1), r"no method ad\(\)"),
        (lambda: Counter(1).n, "no method n"),
        (lambda: use(Counter(1)), "cannot be passed to a node"),
        (lambda: use([Counter(1)]), "cannot be passed to a node"),
    ],
)
def test_misuse_is_an_error_at_its_line(misuse, said):
    with pytest.raises(WorkflowError, match=said) as caught:
        misuse()

    assert f"{__file__}:{misuse.__code__.co_firstlineno}" in str(caught.value)


def test_a_typo_gets_the_nearest_method():
    with pytest.raises(WorkflowError, match=r"did you mean add\(\)"):
        Counter(1).ad()
