"""A day of work: three mixed sources to DPO, with interruptions."""
