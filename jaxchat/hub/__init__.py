"""Weights in and out: Hugging Face folders, GGUF files and the checkpoints of a run."""
