"""One picture of the sample, from back to front."""

from dataclasses import dataclass

import numpy as np

from vitpipe.sources.rendering import features, hair, head, scene, wear
from vitpipe.sources.rendering.canvas import Canvas
from vitpipe.sources.rendering.person import attributes, identity_of, person, shot


@dataclass(frozen=True)
class Picture:
    """A rendered picture with everything that is known of it."""

    jpeg: bytes
    identity: int
    attributes: dict[str, bool]
    landmarks: tuple[int, ...]  # x, y of left eye, right eye, nose, left and right corner of the mouth


def render(seed: int, index: int) -> Picture:
    """Picture `index` (from 0) of the sample `seed`, a function of these two numbers alone."""
    identity = identity_of(seed, index)
    who = person(seed, identity)
    rng = np.random.default_rng((seed, 2, index))
    how = shot(rng, who)
    f = head.frame(who, how)
    canvas = Canvas(scene.background(rng))
    hair.draw_back(canvas, who, how, f)
    head.draw_neck(canvas, who, how, f)
    wear.draw_clothes(canvas, who, how, f, rng)
    head.draw_ears(canvas, who, how, f)
    head.draw_skin(canvas, who, how, f)
    features.draw_age(canvas, who, how, f)
    features.draw_beard(canvas, who, how, f)
    features.draw_nose(canvas, who, how)
    features.draw_eyes(canvas, who, how)
    features.draw_brows(canvas, who, how)
    features.draw_mouth(canvas, who, how)
    hair.draw_front(canvas, who, how, f)
    wear.draw_jewellery(canvas, who, how, f, rng)
    if how.glasses:
        wear.draw_glasses(canvas, how, f, rng)
    wear.draw_hat(canvas, who, how, f, rng)
    marks = (how.lefteye, how.righteye, how.nose, how.leftmouth, how.rightmouth)
    landmarks = tuple(round(v) for point in marks for v in point)
    return Picture(scene.develop(canvas.image, rng), identity, attributes(who, how), landmarks)
