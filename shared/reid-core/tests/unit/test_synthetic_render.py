"""Rendered people: what survives a change of clothes, masks, faces, infrared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reid_core.data.synthetic import (
    CLOTHING_PARTS,
    IDENTITY_PARTS,
    Camera,
    Part,
    Pose,
    draw_camera,
    draw_heading,
    draw_outfit,
    draw_person,
    draw_pose,
    render,
)
from reid_core.data.synthetic.scene import dimmed
from reid_core.errors import ConfigError

CLEAN = Camera(place="glass", seed=1, pitch=0.0, blur=0.0, noise=0.0, occlusion=0.0, jitter=0.0)
FACING = Pose(
    yaw=0.0, phase=0.0, effort=0.0, head_yaw=0.0, head_pitch=0.0, arms="swing", busy_side=1
)


def rng(*seed):
    return np.random.default_rng(seed)


def bareheaded(seed, presentation=0.2):
    outfit = draw_outfit(rng(seed), presentation)
    return replace(outfit, hat="none", has_scarf=False, bag="none", upper="tshirt", sleeve=0.3)


def shoot(person=1, outfit=2, camera=CLEAN, pose=FACING, seed=3, **size):
    return render(draw_person(rng(person)), bareheaded(outfit), camera, pose, rng(seed), **size)


def columns(mask, part):
    return np.flatnonzero((mask == part).any(axis=0)).mean()


def test_same_arguments_give_the_same_bytes():
    first, again, other = shoot(), shoot(), shoot(seed=4)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("size", [(128, 64), (64, 27), (97, 41), (24, 8), (33, 132)])
def test_shapes_and_types(size):
    rendered = shoot(height=size[0], width=size[1])
    assert rendered.image.shape == (*size, 3)
    assert rendered.mask.shape == size
    assert rendered.image.dtype == rendered.mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (8, 8, "cannot render 8 x 8 pixels; the height must be at least 24"),
        (64, 4, "the width between 8 and"),
        (64, 300, "four times the height"),
    ],
)
def test_impossible_sizes_are_refused(height, width, message):
    with pytest.raises(ConfigError, match=message):
        shoot(height=height, width=width)


@pytest.mark.parametrize("person", range(4))
def test_identity_keeps_its_pixels_through_a_change_of_clothes(person):
    before, after = (shoot(person=person, outfit=outfit, height=192, width=80) for outfit in (5, 6))
    identity = np.isin(before.mask, list(IDENTITY_PARTS)) & (before.mask == after.mask)
    clothing = np.isin(before.mask, list(CLOTHING_PARTS)) & (before.mask == after.mask)
    same = (before.image == after.image).all(axis=2)
    assert identity.sum() > 200
    # Not all: pixels at the edge of a garment mix with it.
    assert same[identity].mean() > 0.85
    assert same[clothing].mean() < 0.1


def test_people_differ_in_the_same_clothes():
    one, other = shoot(person=1), shoot(person=2)
    assert (one.image != other.image).any(axis=2).mean() > 0.2


def test_left_and_right_are_the_persons_own():
    front, back = shoot(), shoot(pose=replace(FACING, yaw=np.pi))
    for right, left in ((Part.RIGHT_ARM, Part.LEFT_ARM), (Part.RIGHT_SHOE, Part.LEFT_SHOE)):
        assert columns(front.mask, right) < columns(front.mask, left)
        assert columns(back.mask, right) > columns(back.mask, left)


def test_mask_and_picture_agree():
    # Against an even background, what the mask calls background looks as if nobody were there.
    outfit = replace(bareheaded(2), shoes=(0.9, 0.0, 0.9))
    rendered = render(draw_person(rng(1)), outfit, CLEAN, FACING, rng(3))
    shoe = np.isin(rendered.mask, [Part.LEFT_SHOE, Part.RIGHT_SHOE])
    color = rendered.image.astype(int)
    purple = (color[..., 0] - color[..., 1] > 60) & (color[..., 2] - color[..., 1] > 60)
    assert shoe.sum() > 20
    assert (purple & shoe).sum() > 0.9 * shoe.sum()
    assert (purple & ~shoe).sum() < 0.35 * shoe.sum()


@pytest.mark.parametrize("seed", range(12))
def test_labels_are_known_and_face_boxes_lie_on_faces(seed):
    person = draw_person(rng(seed))
    camera = draw_camera(rng(seed, 1), seed)
    pose = draw_pose(rng(seed, 2), draw_heading(rng(seed, 3), camera))
    outfit = draw_outfit(rng(seed, 4), person.presentation)
    rendered = render(person, outfit, camera, pose, rng(seed, 5), height=160, width=70)
    assert set(np.unique(rendered.mask)) <= {part.value for part in Part}
    assert 0.1 < (rendered.mask > 0).mean() < 0.8
    box = rendered.face_box
    if box is None:
        assert rendered.face_crop() is None
        return
    inside = rendered.mask[box.top : box.bottom, box.left : box.right]
    assert 0 <= box.left < box.right <= 70
    assert 0 <= box.top < box.bottom <= 160
    assert (inside == Part.FACE).mean() > 0.4
    assert np.array_equal(
        rendered.face_crop(), rendered.image[box.top : box.bottom, box.left : box.right]
    )


@pytest.mark.parametrize("person", range(5))
def test_a_face_is_seen_from_the_front_only(person):
    front = shoot(person=person).face_box
    assert front is not None
    assert front.bottom < 64  # in the upper half of the picture
    assert shoot(person=person, pose=replace(FACING, yaw=np.pi)).face_box is None


def test_an_occluder_is_background_in_the_mask():
    hidden = 0
    for seed in range(6):
        free = shoot(seed=seed)
        behind = shoot(seed=seed, camera=replace(CLEAN, occlusion=1.0))
        kept = behind.mask > 0
        assert np.array_equal(behind.mask[kept], free.mask[kept])
        hidden += int((free.mask > 0).sum() - kept.sum())
    assert hidden > 500


def test_infrared_is_grey_and_blind_to_dyes():
    night = replace(CLEAN, spectrum="infrared", light=(0.0, 0.2, 1.0))
    person, outfit = draw_person(rng(1)), bareheaded(2)
    plain = replace(outfit.upper_fabric, pattern="plain")
    red, blue = (
        replace(outfit, upper_fabric=replace(plain, color=color), shoes=color)
        for color in ((0.9, 0.1, 0.1), (0.1, 0.2, 0.8))
    )
    by_day = [render(person, worn, CLEAN, FACING, rng(3)).image for worn in (red, blue)]
    by_night = [render(person, worn, night, FACING, rng(3)).image for worn in (red, blue)]
    assert (by_day[0] != by_day[1]).any(axis=2).mean() > 0.1
    assert np.array_equal(by_night[0], by_night[1])
    assert np.array_equal(by_night[0][..., 0], by_night[0][..., 1])
    assert np.array_equal(by_night[0][..., 0], by_night[0][..., 2])


def test_infrared_skin_is_bright_whatever_its_tone():
    night = replace(CLEAN, spectrum="infrared", light=(0.0, 0.2, 1.0))
    person = draw_person(rng(1))
    levels = []
    for skin in ((1.0, 0.88, 0.8), (0.35, 0.22, 0.16)):
        shown = replace(person, skin=skin)
        rendered = render(shown, bareheaded(2), night, FACING, rng(3))
        arm = np.isin(rendered.mask, [Part.LEFT_ARM, Part.RIGHT_ARM])
        levels.append(float(np.median(rendered.image[arm])))
    assert abs(levels[0] - levels[1]) < 30
    assert min(levels) > 100


def test_warmth_shows_no_dyes_prints_or_shadows_and_makes_skin_brightest():
    warm = replace(CLEAN, spectrum="thermal", light=(0.0, 0.2, 1.0), ambient=0.85)
    person, outfit = draw_person(rng(1)), bareheaded(2)
    plain = replace(outfit.upper_fabric, pattern="plain", color=(0.9, 0.1, 0.1))
    striped = replace(plain, pattern="stripes", color=(0.1, 0.1, 0.1), accent=(1.0, 1.0, 1.0))
    one, other = (
        render(person, replace(outfit, upper_fabric=fabric), warm, FACING, rng(3))
        for fabric in (plain, striped)
    )
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.image[..., 0], one.image[..., 2])
    level = one.image[..., 0].astype(float)
    medians = [
        float(np.median(level[np.isin(one.mask, parts)]))
        for parts in ([Part.LEFT_ARM, Part.RIGHT_ARM], [Part.UPPER_CLOTHES], [Part.BACKGROUND])
    ]
    assert medians[0] > medians[1] + 20 > medians[2] + 60
    # The ground before the feet is as dark as the wall beside the head.
    corner, ground = level[:8, :8].mean(), level[-4:, 28:36][one.mask[-4:, 28:36] == 0].mean()
    assert abs(corner - ground) < 25


def test_what_stands_off_the_body_is_colder():
    warm = replace(CLEAN, spectrum="thermal", light=(0.0, 0.2, 1.0), ambient=0.85)
    person, outfit = draw_person(rng(1)), bareheaded(2)
    levels = []
    for ease in (0.006, 0.058):
        rendered = render(person, replace(outfit, ease=ease), warm, FACING, rng(3))
        levels.append(np.median(rendered.image[rendered.mask == Part.UPPER_CLOTHES]))
    assert levels[0] > levels[1] + 30


def test_less_daylight_is_darker_paler_and_noisier():
    day, dusk = (shoot(camera=camera).image for camera in (CLEAN, dimmed(CLEAN, 0.5)))
    assert dusk.mean() < 0.7 * day.mean()
    assert np.ptp(dusk.astype(int), axis=2).mean() < 0.6 * np.ptp(day.astype(int), axis=2).mean()
    assert dimmed(replace(CLEAN, noise=0.01), 0.5).noise == pytest.approx(0.02)
    assert dimmed(CLEAN, 0.0) == CLEAN


def test_cameras_differ_and_blur_and_noise_act():
    assert shoot(camera=replace(CLEAN, gain=(1.3, 1.0, 0.7))).image[..., 0].mean() > (
        shoot().image[..., 0].mean() + 10
    )

    def roughness(**changes):
        image = shoot(camera=replace(CLEAN, **changes)).image.astype(float)
        return np.abs(np.diff(image, axis=1)).mean()

    assert roughness(blur=0.02) < roughness() < roughness(noise=0.05)
