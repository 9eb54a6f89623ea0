"""Equal values, equal digests, in any process; different values, different digests."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import itertools
import math
import operator
import os
import pathlib
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from fftasks.codehash.python_values import digest_constant, digest_function_state


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Person:
    name: str
    age: int = 3


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a


class Text(str):
    __slots__ = ()


class Names(set):
    pass


def plain(x: Any) -> Any:
    return x


def other(x: Any) -> Any:
    return -x


def make_adder(n: Any) -> Callable[[int], Any]:
    def add(x: int) -> Any:
        return x + n

    return add


def digest(value: Any) -> str:
    found, stable = digest_constant(value)
    assert stable
    return found


def make_cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


def make_values() -> dict[str, Any]:
    """Return values that all differ; made anew at each call."""
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    array = numpy.arange(6.0).reshape(2, 3)
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    tree = DecisionTreeClassifier(random_state=0).fit([[0], [1]], [0, 1])
    return {
        "None": None,
        "...": ...,
        "NotImplemented": NotImplemented,
        "True": True,
        "1": 1,
        "1.0": 1.0,
        "1+0j": 1 + 0j,
        "'1'": "1",
        "b'1'": b"1",
        "bytearray": bytearray(b"1"),
        "memoryview": memoryview(b"1"),
        "False": False,
        "0": 0,
        "0.0": 0.0,
        "-0.0": -0.0,
        "nan": math.nan,
        "inf": math.inf,
        "-1": -1,
        "big": 10**5000,
        "surrogate": "\ud800",
        "empty list": [],
        "empty tuple": (),
        "empty set": set(),
        "empty frozenset": frozenset(),
        "empty dict": {},
        "list": [1, 2],
        "tuple": (1, 2),
        "list other order": [2, 1],
        "set": {1, 2},
        "frozenset": frozenset({1, 2}),
        "set of text": {"a", "b", "c", "d"},
        "dict": {"a": 1, "b": 2},
        "dict other": {"a": 2, "b": 1},
        "dict of text": {b"a": 1, b"b": 2},
        "nested": [[1], [2]],
        "nested other": [[1, 2]],
        "nested tuple": [(1,), [2]],
        "cycle": make_cycle(),
        "cycle deeper": [make_cycle()],
        "range": range(3),
        "range other": range(0, 4, 2),
        "slice": slice(1, 2),
        "Decimal": decimal.Decimal("1.0"),
        "Decimal other": decimal.Decimal("1.00"),
        "Fraction": fractions.Fraction(1, 3),
        "date": datetime.date(2020, 1, 1),
        "datetime": datetime.datetime(2020, 1, 1),
        "datetime zone": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
        "timedelta": datetime.timedelta(1),
        "path": pathlib.Path("a/b"),
        "pure path": pathlib.PurePosixPath("a/b"),
        "path other": pathlib.Path("a/c"),
        "enum": Color.RED,
        "enum other": Color.BLUE,
        "int enum": Number.ONE,
        "named tuple": Point(1, 2),
        "dataclass": Person("a"),
        "dataclass other": Person("b"),
        "slots": Slotted(1),
        "slots other": Slotted(2),
        "text subclass": Text("1"),
        "set subclass": Names({1, 2}),
        "OrderedDict": collections.OrderedDict(a=1, b=2),
        "OrderedDict other": collections.OrderedDict(b=2, a=1),
        "Counter": collections.Counter("aab"),
        "defaultdict": collections.defaultdict(list, a=[1]),
        "defaultdict other": collections.defaultdict(set, a=[1]),
        "deque": collections.deque([1, 2]),
        "deque limited": collections.deque([1, 2], maxlen=2),
        "mapping proxy": types.MappingProxyType({"q": 1}),
        "namespace": types.SimpleNamespace(a=1),
        "pattern": re.compile("a"),
        "pattern flags": re.compile("a", re.IGNORECASE),
        "function": plain,
        "function other": other,
        "lambda": lambda x: x + 1,
        "lambda other": lambda x: x + 2,
        "lambda default": lambda x=1: x,
        "lambda other default": lambda x=2: x,
        "lambda name": lambda x: plain(x),
        "lambda other name": lambda x: other(x),
        "closure": make_adder(1),
        "closure other": make_adder(2),
        "partial": functools.partial(plain, 1),
        "partial other": functools.partial(plain, 2),
        "partial function": functools.partial(other, 1),
        "bound method": Person("a").__eq__,
        "builtin": len,
        "builtin other": sum,
        "math": math.sqrt,
        "builtin method": [1].append,
        "cached": functools.lru_cache(plain),
        "cached other": functools.lru_cache(other),
        "class": Person,
        "class other": Point,
        "class builtin": int,
        "class made here": type("Made", (), {"x": 1}),
        "class made here other": type("Made", (), {"x": 2}),
        "alias": list[int],
        "module": math,
        "module other": operator,
        "iterator": iter([1, 2]),
        "itemgetter": operator.itemgetter(1),
        "exception": ValueError("a"),
        "object": object(),
        "array": array,
        "array other shape": array.reshape(3, 2),
        "array other dtype": array.astype("float32"),
        "array other": array + 1,
        "array of objects": numpy.array([1, "a", None], dtype=object),
        "array of text": numpy.array(["a", "bc"]),
        "structured array": numpy.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        "array of dates": numpy.array(["2020-01-01"], dtype="datetime64[D]"),
        "masked array": numpy.ma.masked_array([1.0, 2.0], mask=[False, True]),
        "scalar": numpy.float64(1.0),
        "scalar other": numpy.float32(1.0),
        "dtype": numpy.dtype("int32"),
        "ufunc": numpy.sin,
        "ufunc other": numpy.cos,
        "numpy function": numpy.zeros,
        "generator of numbers": numpy.random.default_rng(0),
        "generator of numbers other": numpy.random.default_rng(1),
        "frame": frame,
        "frame other": frame + frame,
        "frame other labels": frame.rename(columns={"a": "c"}),
        "frame other index": frame.set_index("a"),
        "series": frame["a"],
        "series other": frame["b"],
        "categories": pandas.Series(["a", "b", "a"], dtype="category"),
        "dates": pandas.date_range("2020-01-01", periods=2),
        "index": pandas.Index([1, 2]),
        "multi index": pandas.MultiIndex.from_tuples([(1, "a"), (2, "b")]),
        "kernel": RBF(1.0) + WhiteKernel(),
        "kernel other": RBF(2.0) + WhiteKernel(),
        "kernel class": RBF,
        "estimator": SVC(C=1.0),
        "estimator other": SVC(C=2.0),
        "fitted estimator": tree,
    }  # fmt: skip


VALUES = make_values()


@pytest.mark.parametrize("name", VALUES)
def test_value_made_again_has_the_same_digest(name: str):
    assert digest(make_values()[name]) == digest(VALUES[name])


def test_different_values_have_different_digests():
    names: dict[str, list[str]] = {}
    for name, value in VALUES.items():
        names.setdefault(digest(value), []).append(name)

    assert [same for same in names.values() if len(same) > 1] == []


@pytest.mark.parametrize("seed", ["1", "2"])
def test_digests_are_the_same_in_another_process(seed: str):
    program = (
        "import json, warnings; warnings.simplefilter('ignore')\n"
        "from tests.codehash.test_value_digest import VALUES, digest\n"
        "print(json.dumps({n: digest(v) for n, v in VALUES.items()}))"
    )
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}

    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, check=True
    ).stdout

    assert output.decode().strip().endswith("}")
    import json

    assert json.loads(output) == {name: digest(value) for name, value in VALUES.items()}


def test_order_of_sets_and_dicts_means_nothing():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({3, 1, 2}) == digest({1, 2, 3})
    assert digest(collections.Counter("abb")) == digest(collections.Counter("bba"))


def test_every_nan_is_the_same():
    assert digest(math.nan) == digest(-math.nan)
    assert digest([float("nan")]) == digest([math.inf - math.inf])


def test_shared_and_copied_parts_are_the_same():
    part = [1, [2]]

    assert digest([part, part]) == digest([part, copy.deepcopy(part)])


def test_value_shared_a_million_times_is_looked_at_once():
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]

    assert digest(value)


def test_layout_of_an_array_means_nothing():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12).reshape(3, 4)

    assert digest(array) == digest(numpy.asfortranarray(array))
    assert digest(array[:, ::2]) == digest(array[:, ::2].copy())


def test_blocks_of_a_frame_mean_nothing():
    pandas = pytest.importorskip("pandas")
    whole = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    parts = pandas.DataFrame({"a": [1.0, 2.0]})
    parts["b"] = [3.0, 4.0]

    assert digest(whole) == digest(parts)


@pytest.mark.parametrize(
    "value",
    [
        (x for x in "ab"),
        threading.Lock(),
        [1, threading.Lock()],
        {"a": (x for x in "ab")},
        functools.partial(plain, threading.Lock()),
        make_adder(threading.Lock()),
        sys._getframe(),
        itertools.tee([1])[0] if sys.version_info >= (3, 14) else (x for x in ""),
    ],
    ids=[
        "generator",
        "lock",
        "in a list",
        "in a dict",
        "in a partial",
        "in a closure",
        "frame",
        "tee",
    ],
)
def test_what_has_no_pickle_is_not_stable(value: Any):
    assert digest_constant(value)[1] is False


def test_open_file_is_not_stable(tmp_path: pathlib.Path):
    with (tmp_path / "a").open("w") as file:
        assert digest_constant(file)[1] is False


def test_object_whose_pickle_raises_is_not_stable():
    class Odd:
        def __reduce_ex__(self, _protocol: Any) -> Any:
            raise ZeroDivisionError

    assert digest_constant([Odd()])[1] is False


def test_value_nested_too_deeply_is_not_stable():
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    assert digest_constant(value)[1] is False


def test_docstring_of_a_function_without_source_means_nothing():
    first, second = {}, {}
    exec("def f(x):\n    'one'\n    return x", first)
    exec("def f(x):\n    'two'\n    return x", second)

    assert digest(first["f"]) == digest(second["f"])


def test_code_of_is_asked_for_functions_and_classes_of_the_project():
    asked = []

    def code_of(value: Any) -> str:
        asked.append(value)
        return "sha256:1"

    digest_constant([plain, Person("a"), len, int, math.sqrt, collections.Counter()], code_of)

    assert asked == [plain, Person]


def test_code_of_decides():
    assert digest_constant(plain, lambda _: "a") == digest_constant(plain, lambda _: "a")
    assert digest_constant(plain, lambda _: "a") != digest_constant(plain, lambda _: "b")
    assert digest_constant(Person("a"), lambda _: "a") != digest_constant(
        Person("a"), lambda _: "b"
    )


def test_values_that_a_closure_keeps_count_beside_its_code():
    first, _ = digest_constant(make_adder(1), lambda _: "a")
    second, _ = digest_constant(make_adder(2), lambda _: "a")

    assert first != second


def test_lambdas_of_one_line_differ():
    first, second = (lambda x: x), (lambda x: -x)

    assert digest_constant(first, lambda _: "a") != digest_constant(second, lambda _: "a")


def test_decorated_function_is_the_function():
    from fftasks import workflow

    assert digest(workflow(plain)) == digest(plain)


def test_function_without_a_module_is_not_taken_for_one_of_python():
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    exec("def f(x): return x", first)
    exec("def f(x): return -x", second)

    assert digest(first["f"]) != digest(second["f"])


def test_wrapped_function_counts_behind_an_installed_decorator():
    wraps = functools.singledispatch

    assert digest(wraps(plain)) != digest(wraps(other))


def test_a_method_of_a_modules_own_object_counts_by_its_name():
    # random.seed and numpy.random.seed belong to generators, whose state is another one in each process
    import random

    before = digest_constant(random.seed), digest_constant(random.random)
    random.random()

    assert (digest_constant(random.seed), digest_constant(random.random)) == before
    assert before[0] != before[1]
    assert digest_constant(random.Random(1).seed) != before[0]


class Cached:
    @functools.cached_property
    def value(self) -> int:
        return 1


class CachedOtherwise:
    @functools.cached_property
    def value(self) -> int:
        return 2


def test_a_cached_property_counts_by_its_function():
    first, second = (digest_constant(vars(kind)["value"]) for kind in (Cached, CachedOtherwise))

    assert first != second
    assert first == digest_constant(vars(Cached)["value"])


def test_a_module_of_the_project_counts_by_its_text(tmp_path: pathlib.Path):
    module = types.ModuleType("mine")
    module.__file__ = str(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("a = 1\n")
    before = digest_constant(module)
    (tmp_path / "mine.py").write_text("a = 2\n")

    assert digest_constant(module) != before


def test_a_closure_whose_value_is_not_there_yet_has_a_digest():
    def outer() -> Callable[[], Any]:
        def inner() -> Any:
            return later

        before = digest_constant(inner)
        later = 1
        assert digest_constant(inner) != before
        return inner

    assert outer()() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(make_adder(1), make_adder(2)), (Cached, CachedOtherwise), (Person("a").__eq__, "".__eq__)],
)
def test_what_is_made_is_more_than_its_text(one: Any, other: Any):
    def code_of(_: Any) -> str:
        return "the same"

    assert digest_function_state(one, code_of) == digest_function_state(one, code_of)
    assert digest_function_state(one, code_of) != digest_function_state(other, code_of)


def test_an_object_that_takes_itself_apart_for_ever_is_not_stable():
    class Endless:
        def __reduce__(self) -> Any:
            return Endless, (Endless(),)

    assert digest_constant(Endless())[1] is False
