"""FunctionFuse's workflows and storage: its scripts run when their import lines are changed."""
