"""Procedural pedestrians with exact labels; NumPy and Pillow only.

A `Person` keeps their body, skin, hair, face and gait through every `Outfit`; outfits are shared
between people and mislead; a `Camera` adds background, light, colours and blur. `render` turns one
of each and a `Pose` into an image with a body-part mask and a face box. `synthesize` writes whole
data sets in the layout of LTCC, PRCC, LaST, Celeb-reID (also light), SYSU-MM01, RegDB, LLCM,
Market-1501, DukeMTMC-reID or MSMT17, for a first run, tests and experiments without gated data;
`annotate_synthetic` adds what human parsing, face detection and face restoration would find in
them. SYSU-MM01, RegDB and LLCM also show people in the near infrared or by their warmth; in the
last three clothes stay, and cameras change everything else. What is made here says nothing about
real people.

    rng = np.random.default_rng(0)
    person, camera = draw_person(rng), draw_camera(rng)
    outfit = draw_outfit(rng, person.presentation)
    rendered = render(person, outfit, camera, draw_pose(rng, draw_heading(rng, camera)), rng)
"""

from __future__ import annotations

from reid_core.data.synthetic.annotations import annotate_synthetic, ensure_annotations
from reid_core.data.synthetic.generate import ensure_synthetic, synthesize
from reid_core.data.synthetic.layouts import LAYOUTS
from reid_core.data.synthetic.parts import CLOTHING_PARTS, IDENTITY_PARTS, Part
from reid_core.data.synthetic.people import Person, draw_person
from reid_core.data.synthetic.pose import Pose, draw_pose
from reid_core.data.synthetic.render import FaceBox, RenderedImage, render
from reid_core.data.synthetic.scene import Camera, draw_camera, draw_heading
from reid_core.data.synthetic.spec import SIZES, Size, SyntheticSpec
from reid_core.data.synthetic.wardrobe import Outfit, draw_outfit

__all__ = [
    "CLOTHING_PARTS",
    "IDENTITY_PARTS",
    "LAYOUTS",
    "SIZES",
    "Camera",
    "FaceBox",
    "Outfit",
    "Part",
    "Person",
    "Pose",
    "RenderedImage",
    "Size",
    "SyntheticSpec",
    "annotate_synthetic",
    "draw_camera",
    "draw_heading",
    "draw_outfit",
    "draw_person",
    "draw_pose",
    "ensure_annotations",
    "ensure_synthetic",
    "render",
    "synthesize",
]
