"""From conversations to batches: packing into fixed-length rows, the dataset that holds them, and the pipeline whose
batch at step k is a pure function of (packed data, seed, k, global batch)."""
