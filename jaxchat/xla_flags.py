"""What XLA is told on each platform, beyond its defaults: the one place, for training and for plans alike.

`Train.xla` adds to a platform's flags or overrides them (`--xla xla_cpu_prefer_vector_width=256`), and
`jaxchat train CONFIG.py --print-flags` shows what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxchat.errors import InputError

Flag = bool | str
FLAGS: dict[str, dict[str, Flag]] = {
    # On two cores with AVX-512: oneDNN's products hold their speed when other work shares the cores, and gain nothing
    # when it does not; vectors of 512 bits give a few percent.
    "cpu": {"xla_cpu_experimental_onednn_custom_call": True, "xla_cpu_prefer_vector_width": "512"},
    # Collectives start early and end late, with what does not need them in between. A loop over layers gathers the next
    # one's weights while it computes one, for which its body stands twice; and what a layer gathers, or sums, is one
    # message, since short ones do not fill the links. As NVIDIA's JAX-Toolbox (GPU performance) and MaxText's scripts
    # for A3 have it, but for what is XLA's default by now; compiled for H100s, and not timed on any.
    "gpu": {
        "xla_gpu_enable_latency_hiding_scheduler": True,
        "xla_gpu_enable_pipelined_all_gather": True,
        "xla_gpu_enable_pipelined_all_reduce": True,
        "xla_gpu_enable_pipelined_reduce_scatter": True,
        "xla_gpu_enable_while_loop_double_buffering": True,
        "xla_gpu_enable_all_gather_combine_by_dim": False,
        "xla_gpu_enable_reduce_scatter_combine_by_dim": False,
        "xla_gpu_all_gather_combine_threshold_bytes": str(2**30),
        "xla_gpu_reduce_scatter_combine_threshold_bytes": str(2**30),
    },
    # libtpu hides collectives behind other work wherever it holds that safe: flags that guides list for it are its
    # defaults now, or refused (xla_tpu_enable_async_collective_fusion_fuse_all_gather on v5p). Its propagation of
    # bfloat16 would cast the weights of all layers ahead of them, and hold both.
    "tpu": {"xla_jf_bf16_propagation": False},
}


def flags(platform: str, more: Sequence[str] = ()) -> dict[str, Flag]:
    """The flags of `cpu`, `gpu` or `tpu`, as compiler options, `more` (`NAME=VALUE`) having the last word.

    One that is another platform's by its name (xla_tpu_...) is left out. Raises InputError for one of `more` that is
    not a flag.
    """
    others = tuple(f"xla_{other}_" for other in FLAGS if other != platform)
    own = {name: value for name, value in map(_flag, more) if not name.startswith(others)}
    return FLAGS.get(platform, {}) | own


def _flag(text: str) -> tuple[str, Flag]:
    name, equals, value = text.removeprefix("--").partition("=")
    if not equals or not name.startswith("xla_"):
        raise InputError(f"--xla {text} is no flag of XLA; write xla_NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    return name, value
