"""Results of nodes on disk: artifacts, traces, fingerprints, stat cache, history, garbage collection."""
