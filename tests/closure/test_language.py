"""The forms that Python code takes, one row each: an edit, and whether a node that may depend on it runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.closure.sample import look, write

RERUN, KEEP = True, False
HELPERS = (
    "def clean(x):\n    return x + 1\n\n\ndef other(x):\n    return x\n\n\nALPHA = 1\nBETA = 2\n"
)
PACKAGE = {
    "pkg/__init__.py": "from .a import clean as tidy\nfrom . import b\n",
    "pkg/a.py": HELPERS,
    "pkg/b.py": "from .a import ALPHA\nfrom .deep import x as y\n",
    "pkg/deep/__init__.py": "",
    "pkg/deep/x.py": "from ...pkg import a\nfrom .. import b as c\n\ndef go(v):\n    return v\n",
}


def h(text: str) -> dict[str, str]:
    """Return a project of a workflow file and helpers."""
    return {"wf.py": text, "helpers.py": HELPERS}


def p(text: str) -> dict[str, str]:
    """Return a project of a workflow file and a package."""
    return {"wf.py": text, **PACKAGE}


def w(text: str) -> dict[str, str]:
    """Return a project of one file."""
    return {"wf.py": text}


CLEAN, OTHER = ("helpers.py", "x + 1", "x + 2"), ("helpers.py", "return x\n", "return -x\n")
A_CLEAN, A_OTHER = ("pkg/a.py", "x + 1", "x + 2"), ("pkg/a.py", "return x\n", "return -x\n")
A_ALPHA = ("pkg/a.py", "ALPHA = 1", "ALPHA = 3")


def own(old: str, new: str) -> tuple[str, str, str]:
    """Return an edit of the workflow file."""
    return "wf.py", old, new


# what it is about: (files, edit, whether the node runs again)
CASES = {
    # imports
    "from import": (h("from helpers import clean\ndef node(): return clean(1)"), CLEAN, RERUN),
    "from import, other": (h("from helpers import clean\ndef node(): return clean(1)"), OTHER, KEEP),
    "import as": (h("import helpers as q\ndef node(): return q.clean(1)"), CLEAN, RERUN),
    "import as, other": (h("import helpers as q\ndef node(): return q.clean(1)"), OTHER, KEEP),
    "import inside": (h("def node():\n  import helpers\n  return helpers.clean(1)"), CLEAN, RERUN),
    "import inside, other": (h("def node():\n  import helpers\n  return helpers.clean(1)"), OTHER, KEEP),
    "from import inside": (h("def node():\n  from helpers import clean as c\n  return c(1)"), CLEAN, RERUN),
    "import around": (
        h("def node():\n  import helpers\n  def inner(): return helpers.clean(1)\n  return inner()"), CLEAN, RERUN),
    "two names swapped": (
        h("from helpers import clean as a, other as b\ndef node(): return a(b(1))"),
        own("clean as a, other as b", "clean as b, other as a"), RERUN),
    "conditional import": (
        h("try:\n  import fast as q\nexcept ImportError:\n  import helpers as q\ndef node(): return q.clean(1)"),
        CLEAN, RERUN),
    "conditional import, none": (
        h("try:\n  import helpers\nexcept ImportError:\n  helpers = None\ndef node(): return helpers.clean(1)"),
        CLEAN, RERUN),
    "import in if": (
        h("import sys\nif sys.platform:\n  from helpers import clean\ndef node(): return clean(1)"), CLEAN, RERUN),
    "package module": (p("import pkg.a\ndef node(): return pkg.a.clean(1)"), A_CLEAN, RERUN),
    "package module, other": (p("import pkg.a\ndef node(): return pkg.a.clean(1)"), A_OTHER, KEEP),
    "package module as": (p("import pkg.a as q\ndef node(): return q.clean(1)"), A_CLEAN, RERUN),
    "re-export": (p("from pkg import tidy\ndef node(): return tidy(1)"), A_CLEAN, RERUN),
    "re-export, other": (p("from pkg import tidy\ndef node(): return tidy(1)"), A_OTHER, KEEP),
    "re-export by attribute": (p("import pkg\ndef node(): return pkg.tidy(1)"), A_CLEAN, RERUN),
    "module of a package": (p("from pkg import b\ndef node(): return b.ALPHA"), A_ALPHA, RERUN),
    "module imported elsewhere": (p("import pkg\ndef node(): return pkg.b.ALPHA"), A_ALPHA, RERUN),
    "relative, two up": (p("from pkg.deep.x import a\ndef node(): return a.ALPHA"), A_ALPHA, RERUN),
    "relative, circular": (p("from pkg.deep import x\ndef node(): return x.c.ALPHA"), A_ALPHA, RERUN),
    "deep, other": (p("from pkg.deep import x\ndef node(): return x.go(1)"), A_ALPHA, KEEP),
    "package's effect": (
        p("from pkg.deep import x\ndef node(): return x.go(1)"),
        ("pkg/__init__.py", "from . import b\n", "from . import b\nimport os\nos.chdir('/')\n"), RERUN),
    "package's definition": (
        p("from pkg.deep import x\ndef node(): return x.go(1)"),
        ("pkg/__init__.py", "from . import b\n", "from . import b\nNEW = 1\n"), KEEP),
    "namespace package": (
        {"wf.py": "import space.m\ndef node(): return space.m.f()", "space/m.py": "def f(): return 1\n"},
        ("space/m.py", "1", "2"), RERUN),
    "type checking": (
        h("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from helpers import clean\n"
          "def node(x: clean): return 1"), CLEAN, KEEP),
    "type checking, else": (
        h("import typing\nif typing.TYPE_CHECKING:\n  clean = None\nelse:\n  from helpers import clean\n"
          "def node(x): return clean(1)"), CLEAN, RERUN),
    "module as a value": (h("import helpers\ndef node(): return run(helpers)\ndef run(m): return m.clean(1)"), CLEAN, RERUN),
    "alias of a module": (h("import helpers\nq = helpers\ndef node(): return q.clean(1)"), CLEAN, RERUN),
    "alias of a function": (h("import helpers\nq = helpers.clean\ndef node(): return q(1)"), CLEAN, RERUN),
    "alias of a function, other": (h("import helpers\nq = helpers.clean\ndef node(): return q(1)"), OTHER, KEEP),
    "module's __getattr__": (
        {"wf.py": "import m\ndef node(): return m.anything", "m.py": "def __getattr__(name): return 1\n"},
        ("m.py", "1", "2"), RERUN),
    "import in a class": (
        h("class A:\n  import helpers\ndef node(): return A.helpers.clean(1)"), CLEAN, RERUN),
    "import by literal": (
        h("from importlib import import_module\ndef node(): return import_module('helpers').clean(1)"), CLEAN, RERUN),
    "import by literal, other": (
        h("from importlib import import_module\ndef node(): return import_module('helpers').clean(1)"), OTHER, KEEP),
    "import by literal, kept": (
        h("import importlib\ndef node():\n  m = importlib.import_module('helpers')\n  return m.clean(1)"), CLEAN, RERUN),
    "import by relative literal": (
        {"wf.py": "from pkg.q import f\ndef node(): return f()", **PACKAGE,
         "pkg/q.py": "import importlib\ndef f(): return importlib.import_module('.a', __package__).clean(1)\n"},
        A_CLEAN, RERUN),
    "__import__ by literal": (h("def node(): return __import__('helpers').clean(1)"), CLEAN, RERUN),
    "sys.modules by literal": (
        h("import helpers, sys\ndef node(): return sys.modules['helpers'].clean(1)"), CLEAN, RERUN),
    "sys.path": (
        {"wf.py": "import sys\nsys.path.append('tools')\nimport hammer\ndef node(): return hammer.hit()",
         "tools/hammer.py": "def hit(): return 1\n"}, ("tools/hammer.py", "1", "2"), RERUN),
    "sys.path in front of the installed": (
        {"wf.py": "import sys\nsys.path.insert(0, 'tools')\nimport numpy\ndef node(): return numpy.hit()",
         "tools/numpy.py": "def hit(): return 1\n"}, ("tools/numpy.py", "1", "2"), RERUN),
    "a project's module with a standard name": (
        {"wf.py": "import calendar\ndef node(): return calendar.f()", "calendar.py": "def f(): return 1\n"},
        ("calendar.py", "1", "2"), RERUN),
    "a folder with an installed name": (
        {"wf.py": "import docker\ndef node(): return docker.x", "docker/x.py": "x = 1\n"},
        ("docker/x.py", "1", "2"), KEEP),
    # what a module may do to find things at run time
    "getattr literal": (h("import helpers\ndef node(): return getattr(helpers, 'clean')(1)"), CLEAN, RERUN),
    "getattr literal, other": (h("import helpers\ndef node(): return getattr(helpers, 'clean')(1)"), OTHER, KEEP),
    "getattr computed": (h("import helpers\ndef node(n): return getattr(helpers, n)(1)"), CLEAN, RERUN),
    "getattr computed, local": (
        h("import helpers\ndef node(n):\n  m = helpers\n  return getattr(m, n)(1)"), CLEAN, RERUN),
    "getattr of an object": (
        h("class A:\n  def f(self): return 1\ndef node(n): return getattr(A(), n)()\nX = 1"), own("X = 1", "X = 2"), KEEP),
    "vars of a module": (h("import helpers\ndef node(n): return vars(helpers)[n](1)"), CLEAN, RERUN),
    "__dict__ of a module": (h("import helpers\ndef node(n): return helpers.__dict__[n](1)"), CLEAN, RERUN),
    "globals": (w("def f(): return 1\ndef node(n): return globals()[n]()"), own("return 1", "return 2"), RERUN),
    "eval": (h("import helpers\ndef node(n): return eval(n)"), CLEAN, RERUN),
    "exec in a helper": (
        {"wf.py": "import m\ndef node(n): return m.run(n)", "m.py": "import k\ndef run(n): exec(n)\n", "k.py": "A = 1\n"},
        ("k.py", "1", "2"), RERUN),
    "import computed": (
        h("import importlib\ndef node(n): return importlib.import_module(n).clean(1)"), CLEAN, RERUN),
    "import computed, with a prefix": (
        {"wf.py": "import importlib\ndef node(n): return importlib.import_module(f'plugins.{n}').go()",
         "plugins/one.py": "def go(): return 1\n"}, ("plugins/one.py", "1", "2"), RERUN),
    "import computed, elsewhere": (
        {"wf.py": "import importlib\ndef node(n): return importlib.import_module(f'plugins.{n}').go()",
         "plugins/one.py": "def go(): return 1\n", "q.py": "A = 1\n"}, ("q.py", "1", "2"), KEEP),
    "unpickling": (
        {"wf.py": "import pickle\ndef node(d): return pickle.loads(d).go()", "q.py": "class A: x = 1\n"},
        ("q.py", "1", "2"), RERUN),
    "script by path": (
        {"wf.py": "import subprocess, sys\ndef node(): subprocess.run([sys.executable, 'tool.py'])", "tool.py": "print(1)\n"},
        ("tool.py", "1", "2"), RERUN),
    "function by dotted text": (h("def node(): return call('helpers.clean')\ndef call(n): return n"), CLEAN, RERUN),
    "text that is no name": (h("def node(): return open('helpers.csv')"), CLEAN, KEEP),
    "name that is nowhere": (w("def node(): return magic(1)\nX = 1"), own("X = 1", "X = 2"), RERUN),
    "name put into builtins": (
        {"wf.py": "import setup_names\ndef node(): return magic(1)", "setup_names.py": "import builtins\nbuiltins.magic = lambda x: 1\n"},
        ("setup_names.py", ": 1", ": 2"), RERUN),
    "star import": (h("from helpers import *\ndef node(): return clean(1)"), CLEAN, RERUN),
    "star import over a builtin": (
        {"wf.py": "from m import *\ndef node(): return len([])", "m.py": "A = 1\n"}, ("m.py", "A = 1", "def len(x): return 7"), RERUN),
    "star import of a star import": (
        {"wf.py": "from m import *\ndef node(): return clean(1)", "m.py": "from helpers import *\n", "helpers.py": HELPERS},
        CLEAN, RERUN),
    "docstring that is read": (
        w('def f():\n  """a"""\ndef node(): return f.__doc__'), own('"""a"""', '"""b"""'), RERUN),
    "module's docstring that is read": (w('"""a"""\ndef node(): return __doc__'), own('"""a"""', '"""b"""'), RERUN),
    "annotations that are read": (
        w("import typing\ndef f(x: int): pass\ndef node(): return typing.get_type_hints(f)"), own("x: int", "x: str"), RERUN),
    "signature that is read": (
        w("import inspect\ndef f(x: int): pass\ndef node(): return str(inspect.signature(f))"), own("x: int", "x: str"), RERUN),
    "source that is read": (
        w("import inspect\ndef f(x):\n  return 1  # one\ndef node(): return inspect.getsource(f)"), own("# one", "# two"), RERUN),
    "subclasses that are asked for": (
        {"wf.py": "import m\nfrom base import Base\ndef node(): return Base.__subclasses__()", "base.py": "class Base: pass\n",
         "m.py": "from base import Base\nclass A(Base): x = 1\n"}, ("m.py", "x = 1", "x = 2"), RERUN),
    # scopes
    "parameter hides a global": (w("X = 1\ndef node(X): return X"), own("X = 1", "X = 2"), KEEP),
    "local hides a global": (w("X = 1\ndef node():\n  X = 3\n  return X"), own("X = 1", "X = 2"), KEEP),
    "comprehension hides a global": (w("X = 1\ndef node(): return [X for X in 'ab']"), own("X = 1", "X = 2"), KEEP),
    "comprehension's first iterable": (w("X = [1]\ndef node(): return [X for X in X]"), own("[1]", "[2]"), RERUN),
    "comprehension's condition": (w("X = 1\ndef node(): return [y for y in 'ab' if X]"), own("X = 1", "X = 0"), RERUN),
    "walrus in a comprehension": (w("X = 1\ndef node():\n  [X := y for y in 'ab']\n  return X"), own("X = 1", "X = 2"), KEEP),
    "lambda": (w("X = 1\ndef node(): return (lambda y: y + X)(1)"), own("X = 1", "X = 2"), RERUN),
    "lambda's parameter": (w("X = 1\ndef node(): return (lambda X: X)(1)"), own("X = 1", "X = 2"), KEEP),
    "lambda as a constant": (w("X = 1\nF = lambda y: y + X\ndef node(): return F(1)"), own("X = 1", "X = 2"), RERUN),
    "nested function": (w("X = 1\ndef node():\n  def inner(): return X\n  return inner()"), own("X = 1", "X = 2"), RERUN),
    "nested function's variable": (
        w("X = 1\ndef node():\n  X = 2\n  def inner(): return X\n  return inner()"), own("X = 1", "X = 3"), KEEP),
    "class's variable is not its methods'": (
        w("X = 1\nclass A:\n  X = 2\n  def f(self): return X\ndef node(): return A().f()"), own("X = 1", "X = 3"), RERUN),
    "class body reads before it binds": (w("X = 1\nclass A:\n  X = X\ndef node(): return A.X"), own("X = 1", "X = 2"), RERUN),
    "private name in a class": (
        w("_A__x = 1\nclass A:\n  def f(self): return __x\ndef node(): return A().f()"), own("__x = 1", "__x = 2"), RERUN),
    "match": (
        w("X = 1\nclass P: pass\ndef node(v):\n  match v:\n    case P(): return X\n    case [a, *X]: return a"),
        own("class P: pass", "class P: __match_args__ = ('a',)"), RERUN),
    "exception's name": (w("e = 1\ndef node():\n  try: pass\n  except ValueError as e: return e"), own("e = 1", "e = 2"), KEEP),
    "global in a function": (
        w("X = 1\ndef bump():\n  global X\n  X += 1\ndef node():\n  bump()\n  return X"), own("X = 1", "X = 2"), RERUN),
    "global set by another function": (
        w("X = 1\ndef bump():\n  global X\n  X = 5\ndef node():\n  return X\nY = 1"), own("X = 5", "X = 6"), RERUN),
    "nonlocal": (
        w("X = [1]\ndef node():\n  y = 0\n  def f():\n    nonlocal y\n    y = X\n  f()\n  return y"), own("[1]", "[2]"), RERUN),
    "walrus at module level": (w("if (X := 1): pass\ndef node(): return X"), own("X := 1", "X := 2"), RERUN),
    "for at module level": (w("for X in range(3): pass\ndef node(): return X"), own("range(3)", "range(4)"), RERUN),
    "with at module level": (
        w("import io\nwith io.StringIO('a') as f:\n  X = f.read()\ndef node(): return X"), own("'a'", "'b'"), RERUN),
    "if at module level": (w("import os\nif os.sep: X = 1\nelse: X = 2\ndef node(): return X"), own("X = 2", "X = 3"), RERUN),
    "set twice": (w("X = 1\nX = X + 1\ndef node(): return X"), own("X + 1", "X + 2"), RERUN),
    "set twice, order": (w("X = 1\nX = 2\ndef node(): return X"), own("X = 1\nX = 2", "X = 2\nX = 1"), RERUN),
    "del": (w("X = 1\ndef node(): return X\nY = 2"), own("Y = 2", "del X"), RERUN),
    "unpacked": (w("A, (B, *C) = 1, (2, 3)\ndef node(): return C"), own("3)", "4)"), RERUN),
    # functions and classes
    "default argument": (w("X = 1\ndef node(a=X): return a"), own("X = 1", "X = 2"), RERUN),
    "keyword-only default": (w("X = 1\ndef node(*, a=X): return a"), own("X = 1", "X = 2"), RERUN),
    "decorator": (w("def d(f): return lambda: f() + 1\n@d\ndef node(): return 1"), own("f() + 1", "f() + 2"), RERUN),
    "decorator's argument": (
        w("N = 3\ndef d(n): return lambda f: lambda: f() + n\n@d(N)\ndef node(): return 1"), own("N = 3", "N = 4"), RERUN),
    "decorator of a helper": (
        w("def d(f): return lambda: f() + 1\n@d\ndef g(): return 1\ndef node(): return g()"), own("f() + 1", "f() + 2"), RERUN),
    "base class": (
        w("class A:\n  def f(self): return 1\nclass B(A): pass\ndef node(): return B().f()"), own("return 1", "return 2"), RERUN),
    "base's base elsewhere": (
        {"wf.py": "from m import B\ndef node(): return B().f()", "m.py": "import k\nclass B(k.A): pass\n",
         "k.py": "class A:\n  def f(self): return 1\n"}, ("k.py", "1", "2"), RERUN),
    "metaclass": (
        w("class M(type):\n  def __call__(cls): return 1\nclass A(metaclass=M): pass\ndef node(): return A()"),
        own("return 1", "return 2"), RERUN),
    "class attribute": (w("class A:\n  x = 1\ndef node(): return A.x"), own("x = 1", "x = 2"), RERUN),
    "class attribute's expression": (w("X = 1\nclass A:\n  x = X\ndef node(): return A.x"), own("X = 1", "X = 2"), RERUN),
    "property": (
        w("class A:\n  @property\n  def x(self): return 1\ndef node(): return A().x"), own("return 1", "return 2"), RERUN),
    "order of methods": (
        w("class A:\n  def f(self): return 1\n  def g(self): return 2\ndef node(): return A().f()"),
        own("  def f(self): return 1\n  def g(self): return 2", "  def g(self): return 2\n  def f(self): return 1"), KEEP),
    "order of methods of one name": (
        w("class A:\n  def f(self): return 1\n  def f(self): return 2\ndef node(): return A().f()"),
        own("  def f(self): return 1\n  def f(self): return 2", "  def f(self): return 2\n  def f(self): return 1"), RERUN),
    "method's docstring": (
        w("class A:\n  def f(self):\n    'doc'\n    return 1\ndef node(): return A().f()"), own("'doc'", "'more'"), KEEP),
    "method's annotation": (
        w("class A:\n  def f(self, x: int): return 1\ndef node(): return A().f()"), own("x: int", "x: str"), KEEP),
    "dataclass field's type": (
        w("from dataclasses import dataclass\n@dataclass\nclass A:\n  x: int = 1\ndef node(): return A()"), own("x: int", "x: str"), RERUN),
    "dataclass field's default": (
        w("from dataclasses import dataclass\n@dataclass\nclass A:\n  x: int = 1\ndef node(): return A()"), own("= 1", "= 2"), RERUN),
    "dataclass field's class": (
        w("from dataclasses import dataclass\nclass B:\n  y = 1\n@dataclass\nclass A:\n  x: 'B'\ndef node(): return A(1)"),
        own("y = 1", "y = 2"), RERUN),
    "named tuple's field": (
        w("from typing import NamedTuple\nclass A(NamedTuple):\n  x: int\ndef node(): return A(1)"), own("x: int", "y: int"), RERUN),
    "annotation in a function": (w("def node():\n  x: int = 1\n  return x"), own("x: int", "x: str"), KEEP),
    "annotation makes a local": (w("x = 1\ndef node():\n  if 0:\n    x: int\n  return x"), own("    x: int", "    y: int"), RERUN),
    "annotation of a decorated function": (
        w("def d(f): return f.__annotations__\n@d\ndef g(x: int): pass\ndef node(): return g"), own("x: int", "x: str"), RERUN),
    "enum": (w("from enum import Enum\nclass E(Enum):\n  A = 1\ndef node(): return E.A.value"), own("A = 1", "A = 2"), RERUN),
    "method of a class elsewhere": (
        {"wf.py": "import m\nclass Node:\n  def run(self): return m.f()\ndef node(): return Node().run()", "m.py": "def f(): return 1\n"},
        ("m.py", "1", "2"), RERUN),
    "function in a dict": (
        h("import helpers\nTABLE = {'a': helpers.clean}\ndef node(n): return TABLE[n](1)"), CLEAN, RERUN),
    "function as an argument": (h("import helpers\ndef node(): return list(map(helpers.clean, [1]))"), CLEAN, RERUN),
    "partial": (
        h("import functools, helpers\nF = functools.partial(helpers.clean, 1)\ndef node(): return F()"), CLEAN, RERUN),
    "string that is not a docstring": (w("def node(): return 'a'"), own("'a'", "'b'"), RERUN),
    "f-string": (w("X = 1\ndef node(): return f'{X:>{X}}'"), own("X = 1", "X = 2"), RERUN),
    "int or float": (w("def node(): return 1"), own("1", "1.0"), RERUN),
    "recursion": (
        w("def node(n): return other(n - 1) if n else 0\ndef other(n): return node(n) + 1"), own("+ 1", "+ 2"), RERUN),
    "node within a node": (
        w("from fftasks import workflow\n@workflow\ndef part(x): return x\n@workflow\ndef node(): return part(1)"),
        own("return x", "return -x"), RERUN),
    "node's result as a global": (
        w("from fftasks import workflow\n@workflow\ndef part(x): return x\na = part(1)\n@workflow\ndef node(): return a"),
        own("part(1)", "part(2)"), RERUN),
    "conditional definition": (
        w("try:\n  from math import cbrt as f\nexcept ImportError:\n  def f(x): return x\ndef node(): return f(1)"),
        own("return x", "return -x"), RERUN),
    # what importing does
    "effect on a container": (w("A = []\nA.append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "effect on another container": (w("A = []\nB = []\nB.append(1)\ndef node(): return A"), own("append(1)", "append(2)"), KEEP),
    "order of effects": (
        w("A = []\nA.append(1)\nA.append(2)\ndef node(): return A"),
        own("A.append(1)\nA.append(2)", "A.append(2)\nA.append(1)"), RERUN),
    "order of effect and constant": (
        w("A = []\nA.append(1)\nB = len(A)\ndef node(): return B"), own("A.append(1)\nB = len(A)", "B = len(A)\nA.append(1)"), RERUN),
    "alias of a container": (w("A = []\nB = A\nB.append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "container in a container": (w("A = []\nB = {'a': A}\nB['a'].append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "container put into a container": (
        w("A = []\nB = []\nB.append(A)\nB[0].append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "container changed in a loop": (
        w("A = []\nB = [A]\nfor b in B:\n  b.append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "container changed by a helper": (
        w("A = []\ndef put(x): A.append(x)\nput(1)\ndef node(): return A"), own("put(1)", "put(2)"), RERUN),
    "container handed to a helper": (
        w("A = []\ndef put(a, x): a.append(x)\nput(A, 1)\ndef node(): return A"), own("put(A, 1)", "put(A, 2)"), RERUN),
    "value of a helper that changes": (
        w("A = []\ndef put(x):\n  A.append(x)\n  return 1\nB = put(1)\ndef node(): return A"), own("put(1)", "put(2)"), RERUN),
    "value of a helper that does not": (
        w("A = []\ndef make(x):\n  y = []\n  y.append(x)\n  return y\nB = make(1)\ndef node(): return A"),
        own("make(1)", "make(2)"), KEEP),
    "registry": (
        w("R = {}\ndef register(f):\n  R[f.__name__] = f\n  return f\n@register\ndef one(): return 1\ndef node(n): return R[n]()"),
        own("return 1", "return 2"), RERUN),
    "registry with arguments": (
        w("R = {}\ndef register(n):\n  def inner(f):\n    R[n] = f\n    return f\n  return inner\n"
          "@register('a')\ndef one(): return 1\ndef node(n): return R[n]()"), own("return 1", "return 2"), RERUN),
    "registry elsewhere": (
        {"wf.py": "import plugin\nfrom base import R\ndef node(n): return R[n]()", "base.py": "R = {}\ndef register(f):\n  R['a'] = f\n",
         "plugin.py": "from base import register\n@register\ndef one(): return 1\n"}, ("plugin.py", "1", "2"), RERUN),
    "registry that is an object": (
        {"wf.py": "import plugin\nfrom base import R\ndef node(n): return R.get(n)()",
         "base.py": "class Registry:\n  def __init__(self): self.d = {}\n  def add(self, f):\n    self.d['a'] = f\n    return f\n"
                    "  def get(self, n): return self.d[n]\nR = Registry()\n",
         "plugin.py": "from base import R\n@R.add\ndef one(): return 1\n"}, ("plugin.py", "1", "2"), RERUN),
    "registry of subclasses": (
        {"wf.py": "import plugin\nfrom base import Base\ndef node(n): return Base.known[n]()",
         "base.py": "class Base:\n  known = {}\n  def __init_subclass__(cls): Base.known[cls.__name__] = cls\n",
         "plugin.py": "from base import Base\nclass A(Base):\n  x = 1\n"}, ("plugin.py", "1", "2"), RERUN),
    "registry by metaclass": (
        {"wf.py": "import plugin\nfrom base import known\ndef node(n): return known[n]()",
         "base.py": "known = {}\nclass M(type):\n  def __init__(cls, *a): known[cls.__name__] = cls\nclass Base(metaclass=M): pass\n",
         "plugin.py": "from base import Base\nclass A(Base):\n  x = 1\n"}, ("plugin.py", "1", "2"), RERUN),
    "subclass that nobody registers": (
        {"wf.py": "import plugin\nfrom base import Base\ndef node(n): return Base()", "base.py": "class Base: pass\n",
         "plugin.py": "from base import Base\nclass A(Base):\n  x = 1\n"}, ("plugin.py", "1", "2"), KEEP),
    "singledispatch": (
        w("import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return 1\ndef node(): return f(1)"),
        own("return 1", "return 2"), RERUN),
    "timed helper that nobody calls": (
        w("import time\ndef timed(f):\n  def inner(*a):\n    time.time()\n    return f(*a)\n  return inner\n"
          "@timed\ndef g(): return 1\n@timed\ndef node(): return 2"), own("return 1", "return 3"), KEEP),
    "decorator that calls": (
        w("A = []\ndef now(f): f()\n@now\ndef g(): A.append(1)\ndef node(): return A"), own("append(1)", "append(2)"), RERUN),
    "attribute of a function": (w("def f(): return f.n\nf.n = 1\ndef node(): return f()"), own("f.n = 1", "f.n = 2"), RERUN),
    "attribute of a class": (w("class A: pass\nA.n = 1\ndef node(): return A.n"), own("A.n = 1", "A.n = 2"), RERUN),
    "method of a class replaced": (
        w("class A:\n  def f(self): return 1\nA.f = lambda self: 2\ndef node(): return A().f()"), own(": 2", ": 3"), RERUN),
    "attribute of a module": (
        {**h("import helpers\nimport patch\ndef node(): return helpers.clean(1)"), "patch.py": "import helpers\nhelpers.clean = lambda x: 1\n"},
        ("patch.py", ": 1", ": 2"), RERUN),
    "attribute of a module by setattr": (
        {**h("import helpers\nimport patch\ndef node(): return helpers.clean(1)"), "patch.py": "import helpers\nsetattr(helpers, 'clean', lambda x: 1)\n"},
        ("patch.py", ": 1", ": 2"), RERUN),
    "attribute of a module by mock": (
        {**h("import helpers\nimport patch\ndef node(): return helpers.clean(1)"),
         "patch.py": "from unittest import mock\nP = mock.patch('helpers.clean', lambda x: 1)\nP.start()\n"},
        ("patch.py", ": 1", ": 2"), RERUN),
    "class counts its objects": (
        w("class A:\n  n = 0\n  def __init__(self): A.n += 1\nB = A()\ndef node(): return A.n"), own("B = A()", "B = [A(), A()]"), RERUN),
    "random numbers": (
        w("import random\nrandom.seed(1)\nA = random.random()\nB = random.random()\ndef node(): return B"), own("A = random.random()\n", ""), RERUN),
    "random seed": (w("import random\nrandom.seed(1)\ndef node(): return random.random()"), own("seed(1)", "seed(2)"), RERUN),
    "random seed elsewhere": (
        {"wf.py": "import m\nimport random\ndef node(): return random.random()", "m.py": "import random\nrandom.seed(1)\n"},
        ("m.py", "1", "2"), RERUN),
    "generator of random numbers": (
        w("import numpy\nR = numpy.random.default_rng(0)\nA = R.random()\nB = R.random()\ndef node(): return B"), own("A = R.random()\n", ""), RERUN),
    "generator handed on": (
        w("import numpy\nR = numpy.random.default_rng(0)\ndef draw(r): return r.random()\nA = draw(R)\nB = draw(R)\ndef node(): return B"),
        own("A = draw(R)\n", ""), RERUN),
    "iterator used up": (w("I = iter('abc')\nA = next(I)\nB = next(I)\ndef node(): return B"), own("A = next(I)\n", ""), RERUN),
    "counter object": (
        w("class C:\n  def __init__(self): self.n = 0\n  def next(self):\n    self.n += 1\n    return self.n\n"
          "c = C()\nA = c.next()\nB = c.next()\ndef node(): return B"), own("A = c.next()\n", ""), RERUN),
    "environment variable": (w("import os\nos.environ['A'] = '1'\ndef node(): return os.environ['A']"), own("'1'", "'2'"), RERUN),
    "effect in a file that is imported by one that is": (
        {"wf.py": "import m\ndef node(): return 1", "m.py": "import k\n", "k.py": "import os\nos.chdir('/')\n"}, ("k.py", "'/'", "'/tmp'"), RERUN),
    "order of imports with effects": (
        {"wf.py": "import a\nimport b\nfrom r import R\ndef node(): return R", "r.py": "R = []\n",
         "a.py": "from r import R\nR.append(1)\n", "b.py": "from r import R\nR.append(2)\n"}, own("import a\nimport b", "import b\nimport a"), RERUN),
    "order of imports without": (h("import json\nimport helpers\ndef node(): return helpers.clean(1)"), own("import json\nimport helpers", "import helpers\nimport json"), KEEP),
    "statement of a module run as a script": (
        {**h("import helpers\ndef node(): return helpers.clean(1)"), "helpers.py": HELPERS + "if __name__ == '__main__':\n  print(clean(1))\n  ALPHA.x = 3\n"},
        ("helpers.py", "ALPHA.x = 3", "ALPHA.x = 4"), KEEP),
    "constant set only when run as a script": (
        w("def node(): return X\nif __name__ == '__main__':\n  X = 1\n"), own("X = 1", "X = 2"), RERUN),
    "logging": (w("import logging\nlogging.basicConfig(level=1)\nlog = logging.getLogger('a')\nlog.info('x')\ndef node(): log.info('y')"), own("log.info('x')", "log.info('z')"), KEEP),
    "unrelated constant of the same value": (w("import re\nP = re.compile('a')\nQ = re.compile('b')\ndef node(): return P"), own("'b'", "'c'"), KEEP),
    "unrelated path": (
        w("from pathlib import Path\nROOT = Path('a')\nDATA = ROOT / 'b'\nOUT = ROOT.joinpath('c')\ndef node(): return ROOT"),
        own("joinpath('c')", "joinpath('d')"), KEEP),
    # building a workflow in other ways
    "workflow in a function": (
        w("from fftasks import LocalWorkflow, workflow\n@workflow\ndef node(x): return x\n@workflow\ndef more(x): return x\n"
          "def main():\n  a = node(1)\n  b = more(a).set_name('b')\n  flow = LocalWorkflow(b, workflow_name='w')\n  print(flow.run())\n"
          "if __name__ == '__main__':\n  main()\n"), own("node(1)", "node(2)"), KEEP),
    "workflow in a function, other node": (
        w("from fftasks import LocalWorkflow, workflow\n@workflow\ndef node(x): return x\n@workflow\ndef more(x): return x\n"
          "def main():\n  a = node(1)\n  b = more(a).set_name('b')\n  flow = LocalWorkflow(b, workflow_name='w')\n  print(flow.run())\n"
          "main()\n"), own("def more(x): return x", "def more(x): return -x"), KEEP),
    "workflow returned by a function": (
        w("from fftasks import Workflow, workflow\n@workflow\ndef node(x): return x\n"
          "def build(n): return Workflow(*[node(i) for i in range(n)], name='w')\nflow = build(3)\nflow.run()\n"), own("build(3)", "build(4)"), KEEP),
    "workflow of imported nodes": (
        {"wf.py": "import fftasks as ff\nfrom nodes import first\n@ff.workflow\ndef node(x): return x\na = first(1)\na.set_name('q')\n"
                  "b = node(a)\nff.Workflow(b, name='w').run()\n", "nodes.py": "from fftasks import task\n@task\ndef first(x): return x\n"},
        own("first(1)", "first(2)"), KEEP),
    "class node": (
        w("from fftasks import Workflow, workflow\n@workflow\nclass C:\n  def add(self, x): return x\n@workflow\ndef node(x): return x\n"
          "c = C()\nc.add(1).set_name('a')\nb = c.add(2)\nWorkflow(b, node(b), name='w')\n"), own("c.add(1)", "c.add(5)"), KEEP),
    "nodes in a dict": (
        w("from fftasks import Workflow, workflow\n@workflow\ndef node(x): return x\nNAMES = ['a', 'b']\nnodes = {}\n"
          "for name in NAMES:\n  nodes[name] = node(name)\n  nodes[name].set_name(name)\nWorkflow(*nodes.values(), name='w')\n"),
        own("node(name)", "node(name * 2)"), KEEP),
    "constant handed to a node": (
        w("from fftasks import Workflow, workflow\nCONFIG = {'a': 1}\n@workflow\ndef node(x): return CONFIG\nWorkflow(node(CONFIG), name='w')\n"),
        own("node(CONFIG)", "node({**CONFIG})"), KEEP),
    "helper called while building": (
        w("from fftasks import Workflow, workflow\nA = []\ndef note(x):\n  A.append(x)\n  return x\n@workflow\ndef node(x): return A\n"
          "Workflow(node(note(1)), name='w')\n"), own("note(1)", "note(2)"), RERUN),
    "storage of a drop-in": (
        w("from fftasks import LocalWorkflow, storage_factory, workflow\n@workflow\ndef node(x): return x\n"
          "flow = LocalWorkflow(node(1), workflow_name='w')\nflow.set_storage(storage_factory({'kind': 'file', 'options': {'path': 'a'}}))\n"),
        own("'path': 'a'", "'path': 'b'"), KEEP),
    "try around the import of the tool": (
        w("try:\n  from fftasks import workflow\nexcept ImportError:\n  from functionfuse import workflow\n@workflow\ndef node(x): return x\na = node(1)\na.set_name('b')\n"),
        own("node(1)", "node(2)"), KEEP),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_edit_of(name: str, tmp_path: Path):
    files, (file, old, new), expected = CASES[name]
    assert old in files[file]
    write(tmp_path, files)
    before = look(tmp_path).digest

    write(tmp_path, {file: files[file].replace(old, new)})

    assert (look(tmp_path).digest != before) is expected
