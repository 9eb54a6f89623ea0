"""The project code that a function needs, transitively, and its digest."""

from fftasks.closure.code import find_code as find_code
from fftasks.closure.find import Closure as Closure
from fftasks.closure.find import find_closure as find_closure
from fftasks.closure.find import make_closure as make_closure
from fftasks.closure.project import Project as Project
from fftasks.closure.skeleton import Skeleton as Skeleton
from fftasks.closure.skeleton import find_skeleton as find_skeleton
