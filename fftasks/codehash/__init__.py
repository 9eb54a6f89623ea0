"""Which project code and globals a function depends on, and their digest."""
