"""Poses and the skeleton that a person takes in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from reid_core.data.synthetic.people import Person
from reid_core.data.synthetic.raster import length_of
from reid_core.data.synthetic.sections import FloatArray

__all__ = ["Arms", "Limb", "Pose", "Skeleton", "build_skeleton", "draw_pose"]

Arms = Literal["swing", "pockets", "phone"]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """What a person does in one image; how they do it is `Gait`.

    Attributes:
        yaw: Direction of the body, rad: 0 faces the camera, pi shows the back.
        phase: Phase of the step, rad.
        effort: Size of the steps, 0 standing .. 1 walking.
        head_yaw: Turn of the head against the body, rad.
        head_pitch: Downward nod, rad.
        arms: What the arms do.
        busy_side: Which hand holds the phone: -1 right, +1 left.
    """

    yaw: float
    phase: float
    effort: float
    head_yaw: float
    head_pitch: float
    arms: Arms
    busy_side: int


class Limb(NamedTuple):
    """Three joints, each (3,) m: shoulder, elbow, wrist or hip, knee, ankle."""

    root: FloatArray
    middle: FloatArray
    end: FloatArray


class Skeleton(NamedTuple):
    """Joints in body axes: x to the person's left, y up from the ground, z to the front; metres.

    Attributes:
        crotch: (3,) bottom of the torso.
        waist: (3,).
        neck: (3,) where the neck leaves the torso.
        chin: (3,) bottom of the head.
        arms: Right arm, left arm.
        legs: Right leg, left leg.
    """

    crotch: FloatArray
    waist: FloatArray
    neck: FloatArray
    chin: FloatArray
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]


def draw_pose(rng: np.random.Generator, yaw: float) -> Pose:
    """Draw a pose.

    Args:
        rng: Source of randomness.
        yaw: Direction of the body, rad (see `draw_heading` of the scene).
    """
    draw = rng.uniform()
    return Pose(
        yaw=yaw,
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        effort=float(rng.uniform(0.5, 1.0)) if rng.uniform() < 0.8 else float(rng.uniform(0, 0.2)),
        head_yaw=float(rng.normal(0.0, 0.25)),
        head_pitch=float(rng.normal(0.0, 0.06)),
        arms="phone" if draw < 0.10 else "pockets" if draw < 0.20 else "swing",
        busy_side=1 if rng.uniform() < 0.5 else -1,
    )


def build_skeleton(person: Person, pose: Pose) -> Skeleton:
    """Place the joints of a person in a pose; the lower foot stands on y = 0."""
    height, gait = person.height, person.gait
    crotch = person.legs * height
    neck = height * (1.0 - person.head - 0.028)
    torso = neck - crotch
    lean = float(np.sin(gait.stoop))
    legs = (_leg(person, pose, -1), _leg(person, pose, 1))
    ground = min(float(leg.end[1]) for leg in legs) - 0.045 * height

    def joint(x: float, y: float, z: float) -> FloatArray:
        return np.array([x, y - ground, z], np.float32)

    top = joint(0.0, neck, lean * torso)
    shoulder = person.shoulders - 0.045 * person.girth
    arms = tuple(
        _arm(person, pose, side, top + np.array([side * shoulder, -0.062, -0.005], np.float32))
        for side in (-1, 1)
    )
    grounded = tuple(
        Limb(*(point - np.array([0.0, ground, 0.0], np.float32) for point in leg)) for leg in legs
    )
    return Skeleton(
        crotch=joint(0.0, crotch - 0.02, 0.0),
        waist=joint(0.0, crotch + 0.34 * torso, 0.34 * lean * torso),
        neck=top,
        chin=top + np.array([0.0, 0.028 * height, 0.02 + lean * 0.05], np.float32),
        arms=(arms[0], arms[1]),
        legs=(grounded[0], grounded[1]),
    )


def _leg(person: Person, pose: Pose, side: int) -> Limb:
    """Return a leg before the body is set on the ground."""
    length = person.legs * person.height - 0.045 * person.height
    phase = pose.phase + (0.0 if side > 0 else np.pi)
    swing = person.gait.stride * pose.effort
    forward = swing * float(np.sin(phase))
    # The knee bends while the leg travels forward.
    bend = 0.04 + 1.3 * swing * max(0.0, float(np.cos(phase)))
    root = np.array([side * 0.50 * person.hips, person.legs * person.height, 0.0], np.float32)
    spread = side * 0.015
    thigh = np.array([spread, -np.cos(forward), np.sin(forward)], np.float32)
    calf = np.array([spread, -np.cos(forward - bend), np.sin(forward - bend)], np.float32)
    middle = root + np.float32(0.5 * length) * thigh
    return Limb(root, middle, middle + np.float32(0.5 * length) * calf)


def _arm(person: Person, pose: Pose, side: int, root: FloatArray) -> Limb:
    gait = person.gait
    length = person.arms * person.height
    phase = pose.phase + (np.pi if side > 0 else 0.0)
    forward = gait.arm_swing * (0.25 + 0.75 * pose.effort) * float(np.sin(phase))
    splay, bend, inward = gait.splay, gait.elbow + 0.4 * max(forward, 0.0), 0.0
    if pose.arms == "pockets":
        forward, bend, splay, inward = -0.30, 0.75, splay + 0.12, -0.18
    elif pose.arms == "phone" and side == pose.busy_side:
        forward, bend, inward = 0.30, 1.75, -0.25
    upper = np.array(
        [side * np.sin(splay), -np.cos(forward) * np.cos(splay), np.sin(forward)], np.float32
    )
    turn = forward + bend
    fore = np.array([side * (0.5 * splay + inward), -np.cos(turn), np.sin(turn)], np.float32)
    upper /= np.float32(length_of(upper))
    fore /= np.float32(length_of(fore))
    middle = root + np.float32(0.52 * length) * upper
    return Limb(root, middle, middle + np.float32(0.48 * length) * fore)
