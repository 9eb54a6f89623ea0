"""What cannot be resolved by reading: the table of names that widen a closure, and how far.

level     what counts from then on
text      docstrings and annotations of all that is reached
file      the whole file in which it stands
graph     all files of the project that may be imported
project   all Python files of the project
path      nothing, but modules of the project may be imported from any of its folders
"""

from __future__ import annotations

TEXT, FILE, GRAPH, PROJECT, PATH = "text", "file", "graph", "project", "path"

# dotted name of a function or object of the standard library or a package -> level
NAMES = {
    "inspect.signature": TEXT,
    "inspect.getdoc": TEXT,
    "inspect.getfullargspec": TEXT,
    "inspect.get_annotations": TEXT,
    "typing.get_type_hints": TEXT,
    "globals": FILE,
    "__doc__": FILE,
    "__annotations__": FILE,
    "sys.path": PATH,
    "site.addsitedir": PATH,
    "eval": GRAPH,
    "exec": GRAPH,
    "compile": GRAPH,
    "__builtins__": GRAPH,
    "sys.modules": GRAPH,
    "sys._getframe": GRAPH,
    "inspect.currentframe": GRAPH,
    "inspect.stack": GRAPH,
    "inspect.getsource": GRAPH,
    "inspect.getsourcelines": GRAPH,
    "inspect.getsourcefile": GRAPH,
    "inspect.getmembers": GRAPH,
    "linecache.getline": GRAPH,
    "linecache.getlines": GRAPH,
    "gc.get_objects": GRAPH,
    "types.FunctionType": GRAPH,
    "__import__": PROJECT,
    "importlib.import_module": PROJECT,
    "importlib.util.spec_from_file_location": PROJECT,
    "importlib.util.find_spec": PROJECT,
    "importlib.machinery.SourceFileLoader": PROJECT,
    "imp.load_source": PROJECT,
    "pkgutil.iter_modules": PROJECT,
    "pkgutil.walk_packages": PROJECT,
    "pkgutil.resolve_name": PROJECT,
    "pydoc.locate": PROJECT,
    "runpy.run_module": PROJECT,
    "runpy.run_path": PROJECT,
    # an unpickled object brings the code of its class, and only the data say which class
    "pickle.load": PROJECT,
    "pickle.loads": PROJECT,
    "pickle.Unpickler": PROJECT,
    "cloudpickle.load": PROJECT,
    "cloudpickle.loads": PROJECT,
    "dill.load": PROJECT,
    "dill.loads": PROJECT,
    "joblib.load": PROJECT,
    "pandas.read_pickle": PROJECT,
    "shelve.open": PROJECT,
    "torch.load": PROJECT,
}

# attributes of any object
ATTRIBUTES = {
    "__doc__": TEXT,
    "__annotations__": TEXT,
    "__code__": GRAPH,
    "__globals__": GRAPH,
    "__subclasses__": GRAPH,
    "f_globals": GRAPH,
    "f_back": GRAPH,
}
