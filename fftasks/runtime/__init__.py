"""What runs one node, here and in the container: the standard library is enough for it."""
