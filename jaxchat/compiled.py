"""Compiled programs kept on disk, so that the next start need not compile them again."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def keep_compiled(folder: Path | None = None) -> None:
    """From now on; in JAX_COMPILATION_CACHE_DIR where that is set, else in `folder`, else in the user's cache, there
    apart for every machine, since a processor runs only what was compiled for it.

    Of several processes JAX lets only the first write: `folder` has to be one that all see, and small programs are kept
    there too.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    if folder is not None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(folder or caches / "jaxchat" / "compiled" / platform.node()))


def drop_torn(folder: Path) -> None:
    """Removes what a process that was killed while it wrote has left: JAX would find it broken at every start, compile
    anew, and never write over it."""
    from jax._src.compilation_cache import decompress_executable  # it knows which of two ways they are packed in

    for file in folder.glob("*-cache"):
        try:
            decompress_executable(file.read_bytes())
        except Exception:  # each way has errors of its own
            file.unlink(missing_ok=True)
