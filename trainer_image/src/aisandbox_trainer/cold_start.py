"""What makes a trainer's start quick. Must not change what is computed."""

from __future__ import annotations

from typing import Any

import torch


def skip_compiler_import() -> None:
    """Keeps the first optimizer from importing PyTorch's compiler, a second of CPU for nothing here.

    ``torch._disable_dynamo`` wraps the optimizers' methods and imports ``torch._dynamo`` at the first call to ask it for
    the undecorated function. It looks for an answer kept from an earlier call first: this puts the plain function
    there. Only ``torch.compile`` could tell the difference, and the trainer compiles nothing. PyTorch versions that do
    it otherwise are left alone.
    """
    classes: list[Any] = [torch.optim.Optimizer, *vars(torch.optim).values()]
    for owner in classes:
        if isinstance(owner, type):
            for method in vars(owner).values():
                _keep_plain(method)


def _keep_plain(method: Any) -> None:
    plain = getattr(method, "__wrapped__", None)
    while plain is not None:
        code = getattr(method, "__code__", None)
        if code is not None and code.co_filename.endswith("_compile.py") and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = plain
        method, plain = plain, getattr(plain, "__wrapped__", None)
