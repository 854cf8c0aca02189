"""A processor with AVX2 and not AVX-512:
oneDNN cannot lay out a bfloat16 matrix, and torch raises.
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
