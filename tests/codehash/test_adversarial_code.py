"""Ways in which code reaches a function without being named in it: an edit of it must rerun the function.

Each case is a project, an edit of it, and whether `node` must run again; `other` never must.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.codehash.sample_project import find_changed

TAIL = "\n\ndef other():\n    return 1\n"

CASES = {
    "method of a base class in another module": (
        {
            "base.py": "class Base:\n    def run(self): return 1\n",
            "wf.py": "from base import Base\nclass A(Base): pass\ndef node(): return A().run()",
        },
        ("base.py", "return 1", "return 2"),
    ),
    "__init_subclass__ of a base class": (
        {
            "base.py": "class Base:\n    def __init_subclass__(cls): cls.x = 1\n",
            "wf.py": "from base import Base\nclass A(Base): pass\ndef node(): return A.x",
        },
        ("base.py", "cls.x = 1", "cls.x = 2"),
    ),
    "metaclass": (
        {
            "meta.py": "class M(type):\n    def __call__(cls): return 1\n",
            "wf.py": "from meta import M\nclass A(metaclass=M): pass\ndef node(): return A()",
        },
        ("meta.py", "return 1", "return 2"),
    ),
    "decorator with arguments": (
        {
            "deco.py": "def plus(n):\n    def wrap(f):\n        return lambda *a: f(*a) + n * 1\n    return wrap\n",
            "wf.py": "from deco import plus\n@plus(3)\ndef help(): return 0\ndef node(): return help()",
        },
        ("deco.py", "n * 1", "n * 2"),
    ),
    "argument of a decorator": (
        {
            "deco.py": "def plus(n):\n    def wrap(f):\n        return lambda *a: f(*a) + n\n    return wrap\n",
            "wf.py": "from deco import plus\n@plus(3)\ndef help(): return 0\ndef node(): return help()",
        },
        ("wf.py", "@plus(3)", "@plus(4)"),
    ),
    "partial": (
        {
            "wf.py": "import functools\ndef add(a, b): return a + b\ninc = functools.partial(add, 1)\ndef node(): return inc(2)"
        },
        ("wf.py", "a + b", "a - b"),
    ),
    "constant inside a partial": (
        {
            "wf.py": "import functools\ndef add(a, b): return a + b\ninc = functools.partial(add, 1)\ndef node(): return inc(2)"
        },
        ("wf.py", "(add, 1)", "(add, 7)"),
    ),
    "implementation registered with singledispatch": (
        {
            "wf.py": "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return 1\ndef node(): return f(3)"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "type that singledispatch is registered for": (
        {
            "wf.py": "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return 1\ndef node(): return f(3)"
        },
        ("wf.py", "x: int", "x: str"),
    ),
    "implementation registered in another module": (
        {
            "gen.py": "import functools\n@functools.singledispatch\ndef f(x): return 0\n",
            "impl.py": "from gen import f\n@f.register(int)\ndef g(x): return 1\n",
            "wf.py": "import impl\nfrom gen import f\ndef node(): return f(3)",
        },
        ("impl.py", "return 1", "return 2"),
    ),
    "implementation registered beside it, with its type": (
        {
            "wf.py": "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register(int)\ndef g(x): return 1\ndef node(): return f(3)"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "command of another library's group": (
        {
            "wf.py": "import click\n@click.group()\ndef f(): return 0\n@f.command()\ndef g(x): return 1\ndef node(): return f(3)"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "function given to a method of a decorated function": (
        {
            "wf.py": "class D:\n    def __init__(self, f): self.more = []\n    def add(self, k):\n        return self.more.append\n    def __call__(self, x): return self.more[0](x)\n@D\ndef f(x): return 0\n@f.add(1)\ndef g(x): return 1\ndef node(): return f(3)"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "class attribute set in another module": (
        {
            "conf.py": "class Conf:\n    x = 0\n",
            "setup_conf.py": "from conf import Conf\nConf.x = 1\n",
            "wf.py": "import setup_conf\nfrom conf import Conf\ndef node(): return Conf.x",
        },
        ("setup_conf.py", "Conf.x = 1", "Conf.x = 2"),
    ),
    "dict filled in another module": (
        {
            "conf.py": "CONF = {}\n",
            "setup_conf.py": "from conf import CONF\nCONF['x'] = 1\n",
            "wf.py": "import setup_conf\nfrom conf import CONF\ndef node(): return CONF['x']",
        },
        ("setup_conf.py", "= 1", "= 2"),
    ),
    "default of a dataclass": (
        {
            "wf.py": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\ndef node(): return P().x"
        },
        ("wf.py", "x: int = 1", "x: int = 2"),
    ),
    "annotation that makes a field": (
        {
            "wf.py": "from dataclasses import dataclass\nfrom typing import ClassVar\n@dataclass\nclass P:\n    x: int = 1\n    y: int = 2\ndef node(): return P(3)"
        },
        ("wf.py", "y: int = 2", "y: ClassVar[int] = 2"),
    ),
    "type of a field that is looked at": (
        {
            "wf.py": "from dataclasses import dataclass, fields\n@dataclass\nclass P:\n    x: int\ndef node(): return [f.type for f in fields(P)]"
        },
        ("wf.py", "x: int", "x: float"),
    ),
    "NamedTuple": (
        {
            "wf.py": "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 1\n    y: int = 2\ndef node(): return P()"
        },
        ("wf.py", "    x: int = 1\n    y: int = 2", "    y: int = 2\n    x: int = 1"),
    ),
    "nonlocal": (
        {
            "wf.py": "def make():\n    n = 0\n    def step():\n        nonlocal n\n        n += 1\n        return n\n    return step\nstep = make()\ndef node(): return step()"
        },
        ("wf.py", "n += 1", "n += 2"),
    ),
    "property": (
        {
            "wf.py": "class A:\n    @property\n    def x(self): return helper()\ndef helper(): return 1\ndef node(): return A().x"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "re-exported twice under other names": (
        {
            "a.py": "def f(): return 1\n",
            "b.py": "from a import f as g\n",
            "c.py": "from b import g as h\n",
            "wf.py": "from c import h as k\ndef node(): return k()",
        },
        ("a.py", "return 1", "return 2"),
    ),
    "re-export that goes elsewhere": (
        {
            "a.py": "def f(): return 1\ndef e(): return 2\n",
            "b.py": "from a import f as g\n",
            "wf.py": "from b import g\ndef node(): return g()",
        },
        ("b.py", "import f", "import e"),
    ),
    "condition of an import": (
        {
            "a.py": "def f(): return 1\n",
            "b.py": "def f(): return 2\n",
            "wf.py": "FAST = True\nif FAST:\n    from a import f\nelse:\n    from b import f\ndef node(): return f()",
        },
        ("wf.py", "FAST = True", "FAST = False"),
    ),
    "import that a condition chooses": (
        {
            "a.py": "def f(): return 1\n",
            "b.py": "def f(): return 2\n",
            "wf.py": "import sys\nif sys.maxsize:\n    from a import f\nelse:\n    from b import f\ndef node(): return f()",
        },
        ("a.py", "return 1", "return 3"),
    ),
    "import that may fail, and now does": (
        {
            "a.py": "def f(): return 1\n",
            "b.py": "def f(): return 2\n",
            "wf.py": "try:\n    from a import f\nexcept ImportError:\n    from b import f\ndef node(): return f()",
        },
        ("a.py", "def f", "def gone"),
    ),
    "what stands in for an import that fails": (
        {
            "b.py": "def f(): return 2\n",
            "wf.py": "try:\n    from missing import f\nexcept ImportError:\n    from b import f\ndef node(): return f()",
        },
        ("b.py", "return 2", "return 3"),
    ),
    "__getattr__ of a module": (
        {
            "a.py": "def __getattr__(name): return make(name)\ndef make(name): return len(name)\n",
            "wf.py": "import a\ndef node(): return a.anything",
        },
        ("a.py", "return len(name)", "return -len(name)"),
    ),
    "__getattr__ of a module, imported from": (
        {
            "a.py": "def __getattr__(name): return make(name)\ndef make(name): return len(name)\n",
            "wf.py": "from a import anything\ndef node(): return anything",
        },
        ("a.py", "return len(name)", "return -len(name)"),
    ),
    "context manager": (
        {
            "wf.py": "import contextlib\n@contextlib.contextmanager\ndef ctx():\n    yield helper()\ndef helper(): return 1\ndef node():\n    with ctx() as x: return x"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "lambda in a dict": (
        {
            "wf.py": "OPS = {'a': lambda x: f(x)}\ndef f(x): return x + 1\ndef node(): return OPS['a'](1)"
        },
        ("wf.py", "x + 1", "x + 2"),
    ),
    "function in a list": (
        {"wf.py": "def f(x): return x + 1\nSTEPS = [f]\ndef node(): return STEPS[0](1)"},
        ("wf.py", "x + 1", "x + 2"),
    ),
    "function appended to a list by a decorator": (
        {
            "wf.py": "STEPS = []\ndef step(f):\n    STEPS.append(f)\n    return f\n@step\ndef f(x): return x + 1\ndef node(): return [s(1) for s in STEPS]"
        },
        ("wf.py", "x + 1", "x + 2"),
    ),
    "function that a decorator appends elsewhere": (
        {
            "reg.py": "STEPS = []\ndef step(f):\n    STEPS.append(f)\n    return f\n",
            "impl.py": "from reg import step\n@step\ndef f(x): return x + 1\n",
            "wf.py": "import impl\nfrom reg import STEPS\ndef node(): return [s(1) for s in STEPS]",
        },
        ("impl.py", "x + 1", "x + 2"),
    ),
    "walrus": (
        {"wf.py": "if (N := 3) > 2:\n    pass\ndef node(): return N"},
        ("wf.py", "N := 3", "N := 4"),
    ),
    "walrus inside a comprehension": (
        {"wf.py": "ALL = [LAST := i for i in range(3)]\ndef node(): return LAST"},
        ("wf.py", "range(3)", "range(4)"),
    ),
    "match": (
        {
            "pt.py": "class P:\n    __match_args__ = ('x',)\n    x = 1\n    y = 2\n",
            "wf.py": "import pt\ndef node(v):\n    match v:\n        case pt.P(a): return a",
        },
        ("pt.py", "('x',)", "('y',)"),
    ),
    "alias of a type": (
        {"wf.py": "Number = int\ndef node(x): return Number(x)"},
        ("wf.py", "Number = int", "Number = float"),
    ),
    "global that a function writes": (
        {"wf.py": "N = 1\ndef setup():\n    global N\n    N = 2\nsetup()\ndef node(): return N"},
        ("wf.py", "N = 2", "N = 3"),
    ),
    "global of another module that a function writes": (
        {
            "conf.py": "N = 1\ndef setup():\n    global N\n    N = 2\n",
            "wf.py": "import conf\nconf.setup()\ndef node(): return conf.N",
        },
        ("conf.py", "N = 2", "N = 3"),
    ),
    "argument of a call that sets something up": (
        {
            "conf.py": "N = 1\ndef setup(n):\n    global N\n    N = n\n",
            "wf.py": "import conf\nconf.setup(5)\ndef node(): return conf.N",
        },
        ("wf.py", "setup(5)", "setup(6)"),
    ),
    "monkey patch in a condition": (
        {
            "a.py": "def f(): return 1\n",
            "wf.py": "import a\nif True:\n    a.f = lambda: 5\ndef node(): return a.f()",
        },
        ("wf.py", "lambda: 5", "lambda: 6"),
    ),
    "monkey patch in a third module": (
        {
            "a.py": "def f(): return 1\n",
            "patch.py": "import a\ndef new(): return 5\nsetattr(a, 'f', new)\n",
            "wf.py": "import patch\nimport a\ndef node(): return a.f()",
        },
        ("patch.py", "return 5", "return 6"),
    ),
    "monkey patch of a library": (
        {
            "patch.py": "import json\njson.dumps = lambda v: 'x'\n",
            "wf.py": "import patch\nimport json\ndef node(): return json.dumps(1)",
        },
        ("patch.py", "'x'", "'y'"),
    ),
    "helper in the __init__ of a package": (
        {
            "lib/__init__.py": "def f(): return 1\n",
            "wf.py": "from lib import f\ndef node(): return f()",
        },
        ("lib/__init__.py", "return 1", "return 2"),
    ),
    "namespace package": (
        {
            "ns/sub/mod.py": "def f(): return 1\n",
            "wf.py": "import ns.sub.mod\ndef node(): return ns.sub.mod.f()",
        },
        ("ns/sub/mod.py", "return 1", "return 2"),
    ),
    "relative import upwards": (
        {
            "lib/__init__.py": "",
            "lib/low/__init__.py": "",
            "lib/base.py": "def f(): return 1\n",
            "lib/low/mod.py": "from ..base import f\ndef g(): return f()\n",
            "wf.py": "from lib.low.mod import g\ndef node(): return g()",
        },
        ("lib/base.py", "return 1", "return 2"),
    ),
    "effect of importing a package above the module": (
        {
            "lib/__init__.py": "import lib.conf\nlib.conf.N = 5\n",
            "lib/conf.py": "N = 1\n",
            "wf.py": "from lib.conf import N\ndef node(): return N",
        },
        ("lib/__init__.py", "= 5", "= 6"),
    ),
    "builtins": (
        {
            "wf.py": "import builtins\nbuiltins.magic = 1\ndef node(): return magic",
        },
        ("wf.py", "magic = 1", "magic = 2"),
    ),
    "environment variable set at import": (
        {
            "wf.py": "import os\nos.environ['N'] = '1'\ndef node(): return os.environ['N']",
        },
        ("wf.py", "'1'", "'2'"),
    ),
    "descriptor": (
        {
            "d.py": "class D:\n    def __get__(self, *a): return 1\n    def __set_name__(self, *a): pass\n",
            "wf.py": "import d\nclass A:\n    x = d.D()\ndef node(): return A().x",
        },
        ("d.py", "return 1", "return 2"),
    ),
    "attribute set on a function": (
        {"wf.py": "def f(): return f.n\nf.n = 1\ndef node(): return f()"},
        ("wf.py", "f.n = 1", "f.n = 2"),
    ),
    "for loop at module level": (
        {"wf.py": "TABLE = {}\nfor i in range(3):\n    TABLE[i] = i * 2\ndef node(): return TABLE"},
        ("wf.py", "i * 2", "i * 3"),
    ),
    "del and a new value": (
        {"wf.py": "N = 1\ndel N\nN = 2\ndef node(): return N"},
        ("wf.py", "N = 2", "N = 3"),
    ),
    "exec": (
        {"wf.py": "exec('N = 1')\ndef node(): return N"},
        ("wf.py", "N = 1", "N = 2"),
    ),
    "globals()": (
        {"wf.py": "globals()['N'] = 1\ndef node(): return N"},
        ("wf.py", "= 1", "= 2"),
    ),
    "method resolution": (
        {
            "wf.py": "class A:\n    def f(self): return 1\nclass B:\n    def f(self): return 2\nclass C(A, B): pass\ndef node(): return C().f()"
        },
        ("wf.py", "C(A, B)", "C(B, A)"),
    ),
    "super().__new__ and __slots__": (
        {
            "b.py": "class B:\n    def __new__(cls): return object.__new__(cls)\n    def __len__(self): return 1\n",
            "wf.py": "from b import B\nclass C(B):\n    __slots__ = ()\ndef node(): return len(C())",
        },
        ("b.py", "return 1", "return 2"),
    ),
    "default argument that is computed": (
        {"wf.py": "def n(): return 1\ndef help(x=n()): return x\ndef node(): return help()"},
        ("wf.py", "return 1", "return 2"),
    ),
    "enum": (
        {
            "wf.py": "import enum\nclass E(enum.Enum):\n    A = enum.auto()\n    B = enum.auto()\ndef node(): return E.B.value"
        },
        ("wf.py", "    A = enum.auto()\n    B", "    X = enum.auto()\n    A = enum.auto()\n    B"),
    ),
    "import inside a function, of a module with effects": (
        {
            "fx.py": "import conf\nconf.N = 2\n",
            "conf.py": "N = 1\n",
            "wf.py": "import conf\ndef node():\n    import fx\n    return conf.N",
        },
        ("fx.py", "N = 2", "N = 3"),
    ),
    "star import of a module with __all__": (
        {
            "a.py": "__all__ = ['f']\ndef f(): return 1\n",
            "wf.py": "from a import *\ndef node(): return f()",
        },
        ("a.py", "return 1", "return 2"),
    ),
    "name chosen by getattr": (
        {
            "a.py": "def f(): return 1\n",
            "wf.py": "import a\ndef node(name='f'): return getattr(a, name)()",
        },
        ("a.py", "return 1", "return 2"),
    ),
    "import_module": (
        {
            "a.py": "def f(): return 1\n",
            "wf.py": "import importlib\ndef node(): return importlib.import_module('a').f()",
        },
        ("a.py", "return 1", "return 2"),
    ),
    "__import__": (
        {"a.py": "def f(): return 1\n", "wf.py": "def node(): return __import__('a').f()"},
        ("a.py", "return 1", "return 2"),
    ),
    "sys.modules": (
        {
            "a.py": "def f(): return 1\n",
            "wf.py": "import sys, a as _\ndef node(): return sys.modules['a'].f()",
        },
        ("a.py", "return 1", "return 2"),
    ),
    "functools.wraps and __wrapped__": (
        {
            "wf.py": "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(): return 0\n    return inner\n@deco\ndef help(): return 1\ndef node(): return help.__wrapped__()"
        },
        ("wf.py", "return 1", "return 2"),
    ),
    "subclasses of a class": (
        {
            "p.py": "from b import B\nclass P(B):\n    n = 1\n",
            "b.py": "class B: pass\n",
            "wf.py": "import p\nfrom b import B\ndef node(): return [c.n for c in B.__subclasses__()]",
        },
        ("p.py", "n = 1", "n = 2"),
    ),
    "class registered by __init_subclass__ of its base": (
        {
            "b.py": "class B:\n    known = []\n    def __init_subclass__(cls): B.known.append(cls)\n",
            "p.py": "from b import B\nclass P(B):\n    n = 1\n",
            "wf.py": "import p\nfrom b import B\ndef node(): return [c.n for c in B.known]",
        },
        ("p.py", "n = 1", "n = 2"),
    ),
}

# what names the code, and what is near it, may change; the function does the same
HARMLESS = {
    "method of a base class in another module": [("base.py", "class Base", "# words\nclass Base")],
    "partial": [("wf.py", "a + b", "(a  +  b)")],
    "property": [("wf.py", "def helper(): return 1", "def helper():\n    'words'\n    return 1")],
    "re-exported twice under other names": [
        ("a.py", "def f", "def unrelated(): return 5\ndef f"),
        ("b.py", "from a", "import json\nfrom a"),
    ],
    "helper in the __init__ of a package": [("lib/__init__.py", "def f", "def g(): pass\ndef f")],
    "relative import upwards": [
        ("lib/low/mod.py", "def g():", "def h(): return 0\ndef g() -> int:")
    ],
    "match": [("pt.py", "class P", "class Q: pass\nclass P")],
    "method resolution": [("wf.py", "def node()", "def unused(): return 8\ndef node()")],
}


@pytest.mark.parametrize("case", CASES)
def test_what_reaches_a_function_unnamed_reruns_it(tmp_path: Path, case: str):
    files, (file, old, new) = CASES[case]
    files = {**files, "wf.py": files["wf.py"] + TAIL}
    assert old in files[file]

    edited = {**files, file: files[file].replace(old, new, 1)}

    assert "node" in find_changed(tmp_path, files, edited, ("node", "other"))


@pytest.mark.parametrize(
    ("case", "edit"), [(case, edit) for case, edits in HARMLESS.items() for edit in edits]
)
def test_what_is_near_it_does_not(tmp_path: Path, case: str, edit: tuple[str, str, str]):
    files, (file, old, new) = {**CASES[case][0]}, edit
    files["wf.py"] += TAIL
    assert old in files[file]

    edited = {**files, file: files[file].replace(old, new, 1)}

    assert not find_changed(tmp_path, files, edited, ("node", "other"))
