"""The stages of a project, put together: what each reads from records, and which port does its work."""
