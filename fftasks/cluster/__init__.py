"""Runs on Kubeflow Pipelines after they were submitted: seen, followed, brought here, run again here."""
