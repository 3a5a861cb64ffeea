"""TensorFlow, for its tf.data alone."""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
    """The tensorflow module, kept off the accelerators: they are JAX's. Its first import takes some ten seconds."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX sets 1, at which TensorFlow still reports its CPU
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it multiplies no matrices here, and says so if it could
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
