"""Known names whose use cannot be resolved by reading code, and known effects of functions of other packages.

A name in the first table triggers a fallback: more code counts than the code that a function names.

level     what counts in addition
text      docstrings and annotations of all code that counts
file      the whole file that contains the name
graph     all files of the project that may be imported
project   all Python files of the project
path      nothing, but modules of the project may be imported from any of its folders

The other tables list functions of installed packages by name: what they keep, change and return.
"""

from __future__ import annotations

import re

FALLBACK_TEXT, FALLBACK_FILE, FALLBACK_GRAPH, FALLBACK_PROJECT, FALLBACK_PATH = (
    "text",
    "file",
    "graph",
    "project",
    "path",
)

# dotted name of a function or object of the standard library or a package -> level
DYNAMIC_NAMES = {
    "inspect.signature": FALLBACK_TEXT,
    "inspect.getdoc": FALLBACK_TEXT,
    "inspect.getfullargspec": FALLBACK_TEXT,
    "inspect.get_annotations": FALLBACK_TEXT,
    "typing.get_type_hints": FALLBACK_TEXT,
    "globals": FALLBACK_FILE,
    "__doc__": FALLBACK_FILE,
    "__annotations__": FALLBACK_FILE,
    "sys.path": FALLBACK_PATH,
    "site.addsitedir": FALLBACK_PATH,
    "eval": FALLBACK_GRAPH,
    "exec": FALLBACK_GRAPH,
    "compile": FALLBACK_GRAPH,
    "__builtins__": FALLBACK_GRAPH,
    "sys.modules": FALLBACK_GRAPH,
    "sys._getframe": FALLBACK_GRAPH,
    "inspect.currentframe": FALLBACK_GRAPH,
    "inspect.stack": FALLBACK_GRAPH,
    "inspect.getsource": FALLBACK_GRAPH,
    "inspect.getsourcelines": FALLBACK_GRAPH,
    "inspect.getsourcefile": FALLBACK_GRAPH,
    "inspect.getmembers": FALLBACK_GRAPH,
    "linecache.getline": FALLBACK_GRAPH,
    "linecache.getlines": FALLBACK_GRAPH,
    "gc.get_objects": FALLBACK_GRAPH,
    "types.FunctionType": FALLBACK_GRAPH,
    "__import__": FALLBACK_PROJECT,
    "importlib.import_module": FALLBACK_PROJECT,
    "importlib.util.spec_from_file_location": FALLBACK_PROJECT,
    "importlib.util.find_spec": FALLBACK_PROJECT,
    "importlib.machinery.SourceFileLoader": FALLBACK_PROJECT,
    "imp.load_source": FALLBACK_PROJECT,
    "pkgutil.iter_modules": FALLBACK_PROJECT,
    "pkgutil.walk_packages": FALLBACK_PROJECT,
    "pkgutil.resolve_name": FALLBACK_PROJECT,
    "pydoc.locate": FALLBACK_PROJECT,
    "runpy.run_module": FALLBACK_PROJECT,
    "runpy.run_path": FALLBACK_PROJECT,
    # an unpickled object brings the code of its class, and only the data say which class
    "pickle.load": FALLBACK_PROJECT,
    "pickle.loads": FALLBACK_PROJECT,
    "pickle.Unpickler": FALLBACK_PROJECT,
    "cloudpickle.load": FALLBACK_PROJECT,
    "cloudpickle.loads": FALLBACK_PROJECT,
    "dill.load": FALLBACK_PROJECT,
    "dill.loads": FALLBACK_PROJECT,
    "joblib.load": FALLBACK_PROJECT,
    "pandas.read_pickle": FALLBACK_PROJECT,
    "shelve.open": FALLBACK_PROJECT,
    "torch.load": FALLBACK_PROJECT,
}

# attributes of any object
DYNAMIC_ATTRIBUTES = {
    "__doc__": FALLBACK_TEXT,
    "__annotations__": FALLBACK_TEXT,
    "__code__": FALLBACK_GRAPH,
    "__globals__": FALLBACK_GRAPH,
    "__subclasses__": FALLBACK_GRAPH,
    "f_globals": FALLBACK_GRAPH,
    "f_back": FALLBACK_GRAPH,
}


# the tool itself: it decides nothing about a result, and its version is counted elsewhere
TOOLS = ("fftasks", "functionfuse")
# other code that keeps a state of its own, or sets one, also where its value is used
STATEFUL = re.compile(
    r"(random|numpy\.random)\.(?!default_rng|RandomState|Random|SystemRandom|Generator|SeedSequence)"
    r"|.*\.(seed|setdefault|shuffle|heappop|heappush|heapreplace|insort|patch|install|register\w*"
    r"|set_\w+|set[A-Z]\w+|setrecursionlimit|enable_\w+|disable_\w+|manual_seed)$"
)
# other code that is called for what it does, and does nothing that a function could see
HARMLESS = re.compile(
    r"(logging|warnings|shutil|traceback)\.|time\.sleep|sys\.(exit|stdout|stderr)|os\.(makedirs|mkdir)"
    r"|(json|pickle|yaml)\.dump"
)
# methods that say something, and change nothing
LOGGING_METHODS = frozenset({
    "debug", "info", "warning", "error", "exception", "critical", "log",
})  # fmt: skip
CALLING_BUILTINS = frozenset({
    "map", "filter", "sorted", "max", "min", "next",
})  # fmt: skip


# what comes from these cannot be changed
FIXED = re.compile(
    r"(pathlib|re|os\.path|math|cmath|decimal|fractions|datetime|string|logging|typing|numbers|operator"
    r"|enum|abc)(\.|$)|os\.(sep|linesep|getenv|environ\.get|getcwd|fspath)|sys\.(platform|version|maxsize)"
)
# decorators that keep nothing
STATELESS = re.compile(
    r"(fftasks|functionfuse|contextlib|typing|abc|dataclasses)\.|functools\.(wraps|total_ordering)$"
)
