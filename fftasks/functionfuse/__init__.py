"""What runs the workflows of `fftasks.api.functionfuse`, and reads and writes their storages."""
