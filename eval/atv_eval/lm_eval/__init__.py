"""The model `atv-local` of lm-evaluation-harness."""
