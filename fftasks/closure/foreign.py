"""What is known of other people's code, by name: what it keeps, changes, and gives."""

from __future__ import annotations

import re

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
SPEAKING = frozenset({
    "debug", "info", "warning", "error", "exception", "critical", "log",
})  # fmt: skip
CALLING = frozenset({
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
