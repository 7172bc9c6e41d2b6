"""Gate v4."""
