"""What each stage makes: one module per stage, as the listing of this folder says.

A stage gets records and settings and gives a record; what it needs from the world is a parameter.
"""
