"""TensorFlow, for its tf.data alone."""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
    """The tensorflow module, kept off the accelerators: they are JAX's. Its first import takes some ten seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
