"""Decoders: what they are made of, their presets, their cache. They know no data, no training and no sampling."""
