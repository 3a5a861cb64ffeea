"""Compiled steps kept on disk, so that the next start need not compile them again."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def keep_compiled() -> None:
    """From now on; in JAX_COMPILATION_CACHE_DIR where that is set, else in the user's cache, apart for every machine,
    since a processor runs only what was compiled for it."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "jaxchat" / "compiled" / platform.node()))
