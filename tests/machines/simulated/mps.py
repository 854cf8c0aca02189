"""Simulate an Apple GPU: tensors on `mps` compute on the CPU.

They refuse what the GPU cannot do.

Missing there: float64, pinned memory, `numpy()`,
and operations between a tensor on the GPU and one in main memory.
"""

from __future__ import annotations

from typing import Any

from hooks import after_import

FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
    " Please use float32 instead."
)
TWO_DEVICES = (
    "Expected all tensors to be on the same device, but found at least two devices, mps:0 and cpu!"
)
PINNED = "Attempted to set the storage of a tensor on device mps to pinned memory"
NUMPY = (
    "can't convert mps:0 device type tensor to numpy."
    " Use Tensor.cpu() to copy the tensor to host memory first."
)


def change(torch: Any) -> None:
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_leaves, tree_map

    gpu = torch.device("mps")

    class MPSTensor(torch.Tensor):
        """A tensor on the GPU; `values` holds its values in main memory."""

        device = property(lambda self: gpu)
        is_mps, is_cpu = True, False
        __torch_function__ = torch._C._disabled_torch_function_impl

        @staticmethod
        def __new__(cls, values: Any) -> Any:
            if values.dtype == torch.float64:
                raise TypeError(FLOAT64)
            place = {
                "strides": values.stride(),
                "storage_offset": values.storage_offset(),
                "dtype": values.dtype,
            }
            return torch.Tensor._make_wrapper_subclass(cls, values.shape, **place)

        def __init__(self, values: Any) -> None:
            self.values = values

        def __tensor_flatten__(
            self,
        ) -> Any:  # with these two, nn.Module.to() puts such tensors in place of its own
            return ["values"], None

        @staticmethod
        def __tensor_unflatten__(inner: Any, *rest: Any) -> Any:
            return MPSTensor(inner["values"])

        def cpu(self) -> Any:
            return self.detach().values.clone()

        def to(self, *args: Any, **kwargs: Any) -> Any:
            leaves = [*args, *kwargs.values()]
            if any(is_device(leaf, "cpu") for leaf in leaves):
                return self.cpu().to(*args, **kwargs)
            if any(is_device(leaf, "mps") for leaf in leaves):
                args, kwargs = tree_map(without_gpu, (args, kwargs))
            return super().to(*args, **kwargs)

        def tolist(self) -> Any:
            return self.cpu().tolist()

        def numpy(self, *args: Any, **kwargs: Any) -> Any:
            raise TypeError(NUMPY)

        def pin_memory(self, *args: Any) -> Any:
            raise RuntimeError(PINNED)

        @classmethod
        def __torch_dispatch__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            tensors = [
                leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
            ]
            is_copy = func._schema.name == "aten::copy_"
            if not is_copy and any(
                tensor.dim() > 0 and type(tensor) is not MPSTensor for tensor in tensors
            ):
                raise RuntimeError(TWO_DEVICES)
            known = {id(tensor.values): tensor for tensor in tensors if type(tensor) is MPSTensor}
            args, kwargs = tree_map(in_main_memory, (args, kwargs or {}))
            results = func(*args, **kwargs)  # an in-place operation returns an existing tensor
            return tree_map(
                lambda leaf: known[id(leaf)] if id(leaf) in known else on_gpu(leaf), results
            )

    def in_main_memory(leaf: Any) -> Any:
        return leaf.values if isinstance(leaf, MPSTensor) else leaf

    def on_gpu(leaf: Any) -> Any:
        return (
            MPSTensor(leaf)
            if isinstance(leaf, torch.Tensor) and type(leaf) is not MPSTensor
            else leaf
        )

    def is_device(leaf: Any, kind: str) -> bool:
        return isinstance(leaf, str | torch.device) and str(leaf).partition(":")[0] == kind

    def without_gpu(leaf: Any) -> Any:
        return torch.device("cpu") if is_device(leaf, "mps") else leaf

    class Devices(TorchFunctionMode):
        """Intercepts every call of torch and creates tensors on the GPU where that is requested."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if kwargs.get("pin_memory"):
                raise RuntimeError(PINNED)
            names_device = func in (torch.device, torch._C._nn._parse_to)
            if names_device or not any(
                is_device(leaf, "mps") for leaf in tree_leaves((args, kwargs))
            ):
                return func(*args, **kwargs)
            args, kwargs = tree_map(without_gpu, (args, kwargs))
            result = func(*args, **kwargs)
            return on_gpu(result.detach().clone() if any(result is arg for arg in args) else result)

    class Generator(torch.Generator):
        """Random numbers for a tensor on the GPU come from the CPU's generator."""

        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu" if is_device(device, "mps") else device)

    torch.Generator = Generator
    random_state = [torch.zeros(16, dtype=torch.uint8)]
    torch.mps.get_rng_state = lambda: random_state[0]
    torch.mps.set_rng_state = lambda state: random_state.__setitem__(0, state)
    torch.mps.synchronize = lambda: None
    torch.mps.current_allocated_memory = torch.mps.driver_allocated_memory = lambda: 2**20
    torch.mps.recommended_max_memory = lambda: 2**34
    torch.backends.mps.is_available = torch.backends.mps.is_built = lambda: True
    Devices().__enter__()


after_import("torch", change)
