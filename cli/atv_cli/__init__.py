"""The command line: one file per verb; each imports what is heavy inside its command."""
