"""The outside world for tests: a container engine, a registry, a base image, a KFP server with pods."""
