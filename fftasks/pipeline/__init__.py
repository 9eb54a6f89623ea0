"""From a graph to a run on Kubeflow Pipelines: components, pins, compilation, submission, cache prediction and replay."""
