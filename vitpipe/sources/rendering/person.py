"""Who is in a picture and how the picture was taken, drawn from random numbers; and the labels that follow."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SKINS = (
    (247, 212, 190),
    (236, 192, 164),
    (222, 172, 138),
    (198, 146, 110),
    (164, 114, 82),
    (126, 84, 60),
    (96, 64, 48),
)
HAIRS = {
    "Black_Hair": ((24, 22, 26), (34, 27, 25)),
    "Brown_Hair": ((74, 48, 32), (104, 68, 42), (122, 84, 54)),
    "Blond_Hair": ((204, 164, 100), (222, 190, 130), (186, 146, 86)),
    "Gray_Hair": ((150, 148, 146), (196, 194, 190)),
    "auburn": ((142, 62, 30), (112, 44, 26)),
}
IRISES = ((86, 54, 32), (62, 38, 26), (96, 128, 158), (120, 150, 176), (96, 120, 84), (124, 96, 52))

BLOCK = 80
SIZES = (4, 5, 6, 7, 8, 8, 9, 10, 11, 12)
"""Pictures of each of the ten identities that share a block of `BLOCK` successive pictures."""

VALIDATION, TEST = 3, 7
"""Which identities of a block are in the official validation and test parts."""


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of one identity. Values without a unit run from 0 to 1."""

    male: bool
    old: bool
    skin: tuple[float, float, float]
    width: float  # half the head's width in pixels
    chin: float  # y of the chin in pixels
    jaw: float  # how square the jaw is
    eye: float  # half the eye's width in pixels
    narrow: bool
    tilt: float  # outer corners above the inner ones, in pixels
    iris: tuple[int, int, int]
    brow: float  # thickness in pixels
    bushy: bool
    arched: bool
    nose: float  # half the width in pixels
    lips: float  # fullness in pixels
    bags: bool
    freckles: bool
    hair_name: str
    hair: tuple[int, int, int]
    style: str  # bald, short, parted, receding, bun, bob, long
    wavy: bool
    fall: float  # long hair: -1 only the left side in front of the shoulder, 1 only the right, 0 both, 2 none
    bangs: bool
    part: float  # where the hair parts, -1 (left) to 1
    volume: float  # hair above the skull, in pixels
    beard: str  # none, stubble, moustache, goatee, full
    sideburns: bool
    glasses: bool
    texture: int  # seed of what is random about hair, brows and freckles


@dataclass(frozen=True)
class Shot:
    """What differs from picture to picture."""

    turn: float  # -1 (nose to the left) to 1
    centre: float  # x of the head's middle in pixels
    lefteye: tuple[float, float]
    righteye: tuple[float, float]
    nose: tuple[float, float]
    leftmouth: tuple[float, float]
    rightmouth: tuple[float, float]
    gaze: float
    smiling: bool
    gape: float  # opening of the mouth in pixels, 0 = closed
    light: tuple[float, float]  # where it comes from: x from -1 (left) to 1, y from -1 (above) to 1
    contrast: float
    hat: str | None  # beanie, cap, brim
    glasses: bool
    lipstick: tuple[int, int, int] | None
    makeup: bool
    rosy: bool
    earrings: bool
    necklace: bool
    necktie: bool


def pick(rng: np.random.Generator, choices: tuple, weights: tuple[float, ...] | None = None):
    """One of `choices`."""
    return choices[rng.choice(len(choices), p=weights)]


@lru_cache(maxsize=8)
def block(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The ten identities' slots in one block of pictures, and which of them are men (half of them).

    Returns:
        slots (80,) with values 0 to 9, and men (10,) bool.
    """
    rng = np.random.default_rng((seed, 0, number))
    slots = np.repeat(np.arange(len(SIZES)), rng.permutation(SIZES))
    return rng.permutation(slots), rng.permutation(len(SIZES)) % 2 == 0


def identity_of(seed: int, index: int) -> int:
    """Who is in picture `index` (from 0): the identity's number, from 0."""
    return len(SIZES) * (index // BLOCK) + int(block(seed, index // BLOCK)[0][index % BLOCK])


def official_part(identity: int) -> int:
    """CelebA's code of the part that all pictures of an identity are in: 0 train, 1 validation, 2 test."""
    return {VALIDATION: 1, TEST: 2}.get(identity % len(SIZES), 0)


@lru_cache(maxsize=32)
def person(seed: int, identity: int) -> Person:
    """The person with this number."""
    rng = np.random.default_rng((seed, 1, identity))
    male = bool(block(seed, identity // len(SIZES))[1][identity % len(SIZES)])
    strength = 1 if male else 0
    old = rng.random() < 0.25
    tone = rng.random() * (len(SKINS) - 1.001)
    skin = np.array(SKINS)[int(tone)] * (1 - tone % 1) + np.array(SKINS)[int(tone) + 1] * (tone % 1)
    young_hair = (0.5, 0.36, 0.06, 0.03, 0.05) if tone > 3.5 else (0.24, 0.34, 0.28, 0.02, 0.12)
    hair_name = pick(rng, tuple(HAIRS), (0.12, 0.12, 0.05, 0.67, 0.04) if old else young_hair)
    red, green, blue = (np.array(pick(rng, HAIRS[hair_name])) * rng.uniform(0.9, 1.1)).tolist()
    if male:
        style = pick(rng, ("bald", "short", "parted", "receding", "long"), (0.12, 0.34, 0.34, 0.15, 0.05))
        beard = pick(rng, ("none", "stubble", "moustache", "goatee", "full"), (0.38, 0.22, 0.1, 0.12, 0.18))
    else:
        style = pick(rng, ("parted", "bun", "bob", "long"), (0.07, 0.16, 0.25, 0.52))
        beard = "none"
    return Person(
        male=male,
        old=bool(old),
        skin=tuple(skin),
        width=44.5 + 3.5 * strength + rng.normal(0, 1.6),
        chin=178 + 4 * strength + rng.normal(0, 2),
        jaw=float(np.clip(0.18 + 0.6 * strength + rng.normal(0, 0.12), 0, 1)),
        eye=10.7 - 0.5 * strength + rng.normal(0, 0.35),
        narrow=bool(rng.random() < 0.14),
        tilt=rng.normal(0.9 - 0.5 * strength, 0.6),
        iris=pick(rng, IRISES, (0.3, 0.3, 0.12, 0.08, 0.1, 0.1)),
        brow=1.7 + 1.1 * strength + rng.normal(0, 0.25),
        bushy=bool(rng.random() < 0.05 + 0.25 * strength),
        arched=bool(rng.random() < 0.5 - 0.42 * strength),
        nose=8.6 + 1.5 * strength + rng.normal(0, 0.9),
        lips=5.2 - 1.4 * strength + rng.normal(0, 0.8),
        bags=bool(rng.random() < (0.6 if old else 0.12)),
        freckles=bool(rng.random() < 0.12),
        hair_name=hair_name,
        hair=(int(red), int(green), int(blue)),
        style=style,
        wavy=bool(rng.random() < 0.45),
        fall=pick(rng, (0, -1, 1, 2), (0.5, 0.15, 0.15, 0.2)),
        bangs=bool(style in ("bob", "long", "parted") and rng.random() < 0.3),
        part=pick(rng, (-1, 1)) * rng.uniform(0.1, 0.5),
        volume=rng.uniform(4, 11),
        beard=beard,
        sideburns=bool(male and style not in ("bald", "long") and rng.random() < 0.3),
        glasses=bool(rng.random() < 0.18),
        texture=int(rng.integers(2**31)),
    )


def shot(rng: np.random.Generator, who: Person) -> Shot:
    """How one picture of `who` was taken. Landmarks scatter as those of CelebA's aligned pictures do."""
    turn = float(np.clip(rng.normal(0, 0.42), -1, 1))
    smiling = bool(rng.random() < 0.5)
    gape = rng.uniform(2.5, 6.5) if rng.random() < (0.68 if smiling else 0.22) else 0.0
    half = (19.2 if smiling else 15.8) + rng.normal(0, 0.7) - 1.2 * abs(turn)
    mouth = 88.5 + 3.2 * turn + rng.normal(0, 0.6), (151.3 if smiling else 153) + rng.normal(0, 1)
    lean = rng.normal(0, 0.7)
    woman = not who.male
    makeup = bool(woman and rng.random() < 0.45)
    lipstick = makeup or bool(woman and rng.random() < 0.35)
    reds = ((176, 28, 48), (196, 62, 84), (150, 40, 62), (206, 88, 92), (128, 26, 40))
    light = rng.uniform(-1, 1), rng.uniform(-0.9, 0.05)
    hat = pick(rng, ("beanie", "cap", "brim")) if rng.random() < 0.1 else None
    return Shot(
        turn=turn,
        centre=88.5 - 6.5 * turn + rng.normal(0, 0.8),
        lefteye=(69 + rng.normal(0, 0.8) + 0.6 * turn, 111 + rng.normal(0, 0.6) + lean),
        righteye=(108.5 + rng.normal(0, 0.8) + 0.6 * turn, 111 + rng.normal(0, 0.6) - lean),
        nose=(88.5 + 8 * turn + rng.normal(0, 0.6), 135 + rng.normal(0, 1.2)),
        leftmouth=(mouth[0] - half + 0.8 * turn, mouth[1] + rng.normal(0, 0.4)),
        rightmouth=(mouth[0] + half + 0.8 * turn, mouth[1] + rng.normal(0, 0.4)),
        gaze=rng.normal(0, 0.5),
        smiling=smiling,
        gape=gape,
        light=light,
        contrast=rng.uniform(0.6, 1.4),
        hat=hat,
        glasses=who.glasses != (rng.random() < 0.08),
        lipstick=pick(rng, reds) if lipstick else None,
        makeup=makeup,
        rosy=bool(makeup and rng.random() < 0.5),
        earrings=bool(woman and rng.random() < 0.4) or bool(rng.random() < 0.03),
        necklace=bool(woman and rng.random() < 0.25),
        necktie=bool(who.male and rng.random() < 0.2),
    )


def attributes(who: Person, how: Shot) -> dict[str, bool]:
    """The attributes that are true or false of the picture as drawn, by CelebA's names."""
    hair_shows = who.style != "bald"
    top_shows = hair_shows and how.hat is None
    ears_hidden = who.style == "long" and who.fall == 0
    return {
        "5_o_Clock_Shadow": who.beard == "stubble",
        "Arched_Eyebrows": who.arched,
        "Bags_Under_Eyes": who.bags,
        "Bald": who.style == "bald" and how.hat is None,
        "Bangs": who.bangs and top_shows,
        "Big_Lips": who.lips > 5.6,
        "Big_Nose": who.nose > 10.2,
        "Black_Hair": hair_shows and who.hair_name == "Black_Hair",
        "Blond_Hair": hair_shows and who.hair_name == "Blond_Hair",
        "Brown_Hair": hair_shows and who.hair_name == "Brown_Hair",
        "Bushy_Eyebrows": who.bushy,
        "Eyeglasses": how.glasses,
        "Goatee": who.beard == "goatee",
        "Gray_Hair": hair_shows and who.hair_name == "Gray_Hair",
        "Heavy_Makeup": how.makeup,
        "Male": who.male,
        "Mouth_Slightly_Open": how.gape > 0,
        "Mustache": who.beard in ("moustache", "goatee", "full"),
        "Narrow_Eyes": who.narrow,
        "No_Beard": who.beard in ("none", "moustache"),
        "Receding_Hairline": who.style == "receding" and how.hat is None,
        "Rosy_Cheeks": how.rosy,
        "Sideburns": who.sideburns or (who.beard == "full" and not ears_hidden),
        "Smiling": how.smiling,
        "Straight_Hair": hair_shows and not who.wavy,
        "Wavy_Hair": hair_shows and who.wavy,
        "Wearing_Earrings": how.earrings,
        "Wearing_Hat": how.hat is not None,
        "Wearing_Lipstick": how.lipstick is not None,
        "Wearing_Necklace": how.necklace,
        "Wearing_Necktie": how.necktie,
        "Young": not who.old,
    }
