"""Execution of a node or a group of nodes, in local runs and in pods."""
