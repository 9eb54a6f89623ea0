"""Results and what decides whether they are up to date: the store, fingerprints, the stat cache and the history of runs."""
