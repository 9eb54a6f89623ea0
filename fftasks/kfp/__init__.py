"""Client of Kubeflow Pipelines: authentication, runs, logs, metrics and artifacts."""
