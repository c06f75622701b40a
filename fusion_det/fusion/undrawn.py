"""Building networks all of whose values are loaded afterwards: the random numbers they would begin with are not drawn.

Of a few hundred million parameters that is most of the time it takes to build them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_DRAWING = frozenset(
    {
        *(torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.exponential_),
        # A mode does not see what is called by functions that it sees, and these it sees.
        *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
    }
)


class NothingDrawn(TorchFunctionMode):
    """While this is entered, tensors are filled with zeros in place of random numbers. (Torch draws some until they fit.)"""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func not in _DRAWING:
            return func(*args, **named)
        tensor = args[0] if args else named["tensor"]
        return tensor.detach().zero_()
