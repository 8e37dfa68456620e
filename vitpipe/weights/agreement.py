"""Whether pretrained weights and settings agree."""

from typing import Any

from torch import nn

from vitpipe.config import Settings
from vitpipe.errors import InputError
from vitpipe.models.convolution import conv_stem
from vitpipe.models.pretrained import Pretrained
from vitpipe.models.vit import OWN


def check_agreement(settings: Settings, pretrained: Pretrained) -> None:
    """Raises InputError where a setting contradicts the weights, or the encoder does not fit the images."""
    model, encoder, source = settings.model, pretrained.encoder, pretrained.source
    for key in OWN:
        given, found = getattr(model, key), encoder.get(key, False)
        if given is None or given == found:
            continue
        if key == "mlp_ratio" and round(encoder["dim"] * given) == round(encoder["dim"] * found):
            continue
        right = str(found).lower() if isinstance(found, bool) else found
        raise InputError(
            f"model.{key} is {given}, but {source} has {right}: use {right}{'' if key == 'place' else ' or null'}"
        )
    side, pixels = settings.data.input_size, encoder["patch"] * encoder.get("stride", 1)
    if side % pixels or side == pixels:
        rule = f"must divide the input size {side} (data.size {settings.data.size} / data.scale {settings.data.scale})"
        near = max(2, round(side / pixels)) * pixels * settings.data.scale
        raise InputError(f"the patch {pixels} of {source} {rule} into 2x2 or more: use a data.size such as {near}")
    if getattr(model, "pool", None) == "token":
        if not encoder["class_token"]:
            raise InputError(f"model.pool is token, but {source} has no class token: use avg")
        if encoder.get("pool_norm") and not encoder.get("final_norm"):
            raise InputError(f"model.pool is token, but {source} was trained to read the mean of the patches: use avg")
    check_input(settings, pretrained)


def check_input(settings: Settings, pretrained: Pretrained) -> None:
    """Raises InputError where what comes before the encoder does not fit."""
    model, encoder, source = settings.model, pretrained.encoder, pretrained.source
    image = getattr(model, "in_chans", 3)
    if "stem" in encoder:
        if model.conv_channels or image != 3 or settings.target is None:
            problem = "is a hybrid, which is for classification"
            raise InputError(f"{source} {problem}: use model.conv_channels 0, model.in_chans 3 and task.target")
        return
    channels, stem = encoder["channels"], pretrained.part("stem")
    if channels != (model.conv_channels or image):
        key, given = ("conv_channels", model.conv_channels) if model.conv_channels or stem else ("in_chans", image)
        right = channels if key == "in_chans" or stem else 0
        raise InputError(f"model.{key} is {given}, but the encoder of {source} takes {channels} channels: use {right}")
    if model.conv_channels and not stem and channels == image:
        raise InputError(f"model.conv_channels is {channels}, but {source} has no convolutions: use 0")
    wanted: Any = conv_stem(model, image, nn.GELU).state_dict() if model.conv_channels else {}
    if stem and {name: t.shape for name, t in stem.items()} != {name: t.shape for name, t in wanted.items()}:
        raise InputError(
            f"model.conv_blocks, conv_expansion or in_chans are others than those of {source}: use its own"
        )
