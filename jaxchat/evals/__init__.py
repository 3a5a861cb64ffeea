"""Measures models: perplexity on conversations."""
