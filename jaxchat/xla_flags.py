"""What XLA is told on each platform, beyond its defaults: the one place, for training and for plans alike.

`Train.xla` adds to a platform's flags or overrides them (`--xla xla_cpu_prefer_vector_width=256`).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxchat.errors import InputError

Flag = bool | str
FLAGS: dict[str, dict[str, Flag]] = {
    # On two cores with AVX-512: oneDNN's products hold their speed when other work shares the cores, and gain nothing
    # when it does not; vectors of 512 bits give a few percent.
    "cpu": {"xla_cpu_experimental_onednn_custom_call": True, "xla_cpu_prefer_vector_width": "512"},
    # Collectives start early and end late, with what does not need them in between.
    "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True},
    "tpu": {},
}


def flags(platform: str, more: Sequence[str] = ()) -> dict[str, Flag]:
    """The flags of `cpu`, `gpu` or `tpu`, as compiler options, `more` (`NAME=VALUE`) having the last word.

    Raises InputError for one of `more` that is not a flag.
    """
    return FLAGS.get(platform, {}) | dict(map(_flag, more))


def _flag(text: str) -> tuple[str, Flag]:
    name, equals, value = text.removeprefix("--").partition("=")
    if not equals or not name.startswith("xla_"):
        raise InputError(f"--xla {text} is no flag of XLA; write xla_NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    return name, value
