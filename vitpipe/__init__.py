"""vitpipe: Vision Transformers, trained, scored and looked into.

    import vitpipe

    model = vitpipe.load("models/model.safetensors")
    model.predict("photo.jpg")
    model.explain("photo.jpg", method="rollout").map
    encoder = vitpipe.load_encoder("torchvision/vit_b_16")

The names below are imported when first used, so that `import vitpipe` is fast.
"""

from importlib import import_module
from typing import Any

MODULES = {
    "load": "vitpipe.predictor",
    "Predictor": "vitpipe.predictor",
    "Explanation": "vitpipe.predictor",
    "load_encoder": "vitpipe.weights.loading",
    "capture": "vitpipe.explain.capture",
    "InputError": "vitpipe.errors",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'vitpipe' has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
