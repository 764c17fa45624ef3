"""Tasks to checkpoint: train a generator through the frozen, dequantised target. Needs torch and transformers."""
