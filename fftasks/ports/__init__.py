"""Talk to what is outside: container engines, registries, Kubeflow Pipelines, Python interpreters."""
