"""The child process of graph/record.py: import the user's file, and write its graph as JSON.

python -m fftasks.stages.describe ROOT FILE DESCRIPTOR

It is not in graph/ because it searches arguments for secrets, with the rules that the stages use for files.
"""

from __future__ import annotations

import sys

from fftasks.graph.describe import run
from fftasks.stages.arguments import make_examiner

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], make_examiner))
