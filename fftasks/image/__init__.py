"""The container image: context, layers, requirements, builders and the image check."""
