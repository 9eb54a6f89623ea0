"""The graph that a user's file builds, as a record: made in a child process, and kept true after edits."""

from fftasks.graph.record import GraphFile as GraphFile
from fftasks.graph.record import load_graph as load_graph
from fftasks.graph.record import name_function as name_function
