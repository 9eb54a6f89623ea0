"""The graph that a workflow file builds, as data: import in a child process, graph records, their update."""
