"""GGUF files: their metadata and tensors, dequantised a piece at a time.

Block formats and dequantising are the `gguf` package's; the header is read by the tokenizer's reader, since that
package's own makes an object of every token of the vocabulary and takes seconds.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxchat.chat.gguf_metadata import GgufTensor, read_gguf_header
from jaxchat.errors import InputError
from jaxchat.hub.families import decimal
from jaxchat.hub.layout import Index
from jaxchat.hub.mapped import MappedFile


class Gguf:
    """A GGUF file as a source of tensors, with its `metadata`.

    Keys are added to what the file says: `vocab_size`, `tied`, true when there is no output matrix of its own, and
    `rope_freqs`, the numbers of the tensor that says how rotary positions are scaled, if there is one.

    Raises InputError when the file is not GGUF or not whole.
    """

    def __init__(self, path: Path) -> None:
        from gguf.constants import GGML_QUANT_SIZES

        self.where = str(path)
        metadata, self._tensors = read_gguf_header(path)
        # Floats are stored in 32 bits: 9.999999747378752e-06 was written as 1e-05.
        self.metadata: dict[str, Any] = {
            key: decimal(value) if isinstance(value, float) else value for key, value in metadata.items()
        }
        table = self._tensors.get("token_embd.weight")
        self.metadata |= {"vocab_size": table and table.shape[0], "tied": "output.weight" not in self._tensors}
        self._file = MappedFile(path)
        for name, tensor in self._tensors.items():
            if tensor.kind not in GGML_QUANT_SIZES:
                raise InputError(f"{path}: the tensor {name} is in a format, {tensor.kind}, that gguf does not know")
            if tensor.start + _row_bytes(tensor) * math.prod(tensor.shape[:-1]) > self._file.size:
                raise InputError(f"{path} ends before its tensor {name} does; download it again")

        if "rope_freqs.weight" in self._tensors:
            self.metadata["rope_freqs"] = self.read("rope_freqs.weight", ()).tolist()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str, index: Index) -> np.ndarray:
        """A rectangle of a tensor, float32 or float16. Whole rows are dequantised, and only those asked for."""
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        kind, rows = GGMLQuantizationType(tensor.kind), tensor.shape[:-1]
        shape = (*rows, _row_bytes(tensor))
        data = self._file.read(tensor.start, np.dtype(np.uint8), shape, index[:1] if rows else ())
        if rows:
            index = (slice(None), *index[1:])
        if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            return data.view(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)[index]
        try:
            return dequantize(data, kind)[index]
        except NotImplementedError as error:
            raise InputError(
                f"{self.where}: the tensor {name} is in the format {kind.name}, which is not read"
            ) from error


def _row_bytes(tensor: GgufTensor) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    return tensor.shape[-1] // block * size
