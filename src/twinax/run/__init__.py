"""Plan, launch, worker: from a name to a run."""
