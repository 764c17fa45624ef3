"""Measuring what steering gives and costs: `atv-local eval`, `calibrate`, `bench`, and lm-evaluation-harness."""
