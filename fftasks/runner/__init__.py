"""Execution of a node or of a group of nodes, here and in the pod: entry point, worker, artifact format and executor input of KFP."""
