"""Drop-in replacements for FunctionFuse: LocalWorkflow, KFPWorkflow and storages."""
