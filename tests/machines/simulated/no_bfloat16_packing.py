"""Simulate a processor with AVX2 but not AVX-512.

oneDNN cannot pack a bfloat16 matrix there, and torch raises an error.
"""

from typing import Any

from hooks import after_import

MESSAGE = (
    "mkldnn_reorder_linear_weight:"
    " bf16 path needs the cpu support avx_ne_convert or avx512bw, avx512vl and avx512dq"
)


def change(torch: Any) -> None:
    reorder = torch.ops.mkldnn._reorder_linear_weight

    def reorder_float32(weight: Any, *rest: Any) -> Any:
        if weight.dtype == torch.bfloat16:
            raise RuntimeError(MESSAGE)
        return reorder(weight, *rest)

    torch.ops.mkldnn._reorder_linear_weight = reorder_float32


after_import("torch", change)
