"""Client of OCI registries."""
