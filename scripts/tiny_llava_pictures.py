"""Generated pictures of coloured shapes, and questions about them with their answers (pip: pillow, numpy).

A picture has a grid of 3 x 3 cells in its central square, which is what remains of it after the processor's crop. Each cell
holds one shape or nothing; place in the cell, size, colour, background and the picture's own size vary.
"""

import collections

import numpy as np
from PIL import Image, ImageDraw

COLORS = {"red": (215, 35, 35), "green": (35, 160, 55), "blue": (45, 70, 220), "yellow": (238, 208, 35)}
SHAPES = ["circle", "square", "triangle"]
PLACES = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
KINDS = [(color, shape) for color in COLORS for shape in SHAPES]
MOST_ASKED = 5  # of one kind

Thing = collections.namedtuple("Thing", "cell color shape x y radius")  # centre and radius in pixels of the picture


def scene(rng, width, height):
    """Things for a picture of this size. The first kind's count is uniform, so that counts are learned and not guessed."""
    order = [KINDS[i] for i in rng.permutation(len(KINDS))]
    kinds = [order[0]] * int(rng.integers(0, MOST_ASKED + 1))
    for _ in range(int(rng.integers(0, 4))):
        kinds.append(order[int(rng.integers(1, len(order)))])
    if not kinds:
        kinds.append(order[1])
    side = min(width, height)
    left, top, cell_side = (width - side) / 2, (height - side) / 2, side / 3
    things = []
    for (color, shape), cell in zip(kinds, rng.permutation(9)):
        radius = cell_side * rng.uniform(0.27, 0.40)
        room = cell_side / 2 - radius
        x = left + (cell % 3 + 0.5) * cell_side + rng.uniform(-room, room)
        y = top + (cell // 3 + 0.5) * cell_side + rng.uniform(-room, room)
        things.append(Thing(int(cell), color, shape, x, y, radius))
    return things, order[0]


def background(rng, width, height):
    level = rng.uniform(0, 70) if rng.random() < 0.3 else rng.uniform(120, 250)
    base = level + rng.uniform(-12, 12, 3)
    canvas = np.broadcast_to(base, (height, width, 3)).copy()
    style = rng.integers(0, 3)
    if style == 1:  # a gradient in any direction
        y, x = np.mgrid[0:height, 0:width]
        angle = rng.uniform(0, 2 * np.pi)
        slope = (x * np.cos(angle) / width + y * np.sin(angle) / height)[..., None]
        canvas += slope * rng.uniform(-40, 40)
    if style == 2:  # grain
        canvas += rng.normal(0, rng.uniform(2, 12), (height, width, 1))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def render(rng, width, height, things):
    image = Image.fromarray(background(rng, width, height))
    draw = ImageDraw.Draw(image)
    for thing in things:
        color = tuple(int(c) for c in np.clip(np.array(COLORS[thing.color]) + rng.uniform(-18, 18, 3), 0, 255))
        x, y, r = thing.x, thing.y, thing.radius
        if thing.shape == "circle":
            draw.ellipse([x - r, y - r, x + r, y + r], fill=color)
        elif thing.shape == "square":
            s = r * 0.88
            draw.rectangle([x - s, y - s, x + s, y + s], fill=color)
        else:
            draw.polygon([(x, y - r), (x + r, y + r * 0.85), (x - r, y + r * 0.85)], fill=color)
    return image


def picture(rng):
    """(PIL image, things, the kind it is about)."""
    side = int(rng.integers(56, 200))
    other = int(side * rng.uniform(1.0, 1.5))
    width, height = (side, other) if rng.random() < 0.5 else (other, side)
    things, main = scene(rng, width, height)
    return render(rng, width, height, things), things, main


def a_kind(rng, things, main):
    """The main kind mostly, else one that is there, or any."""
    chance = rng.random()
    if chance < 0.65:
        return main
    if chance < 0.85 and things:
        thing = things[int(rng.integers(len(things)))]
        return thing.color, thing.shape
    return KINDS[int(rng.integers(len(KINDS)))]


def count_question(rng, things, main):
    color, shape = a_kind(rng, things, main)
    count = sum((t.color, t.shape) == (color, shape) for t in things)
    return f"How many {color} {shape}s are there?", NUMBERS[count]


def total_question(rng, things, main):
    return "How many shapes are there?", NUMBERS[len(things)]


def color_question(rng, things, main):
    single = [t for t in things if sum(o.shape == t.shape for o in things) == 1]
    if not single:
        return None
    thing = single[int(rng.integers(len(single)))]
    return f"What color is the {thing.shape}?", thing.color


def shape_question(rng, things, main):
    single = [t for t in things if sum(o.color == t.color for o in things) == 1]
    if not single:
        return None
    thing = single[int(rng.integers(len(single)))]
    return f"Which shape is {thing.color}?", thing.shape


def place_question(rng, things, main):
    single = [t for t in things if sum((o.color, o.shape) == (t.color, t.shape) for o in things) == 1]
    if not single:
        return None
    thing = single[int(rng.integers(len(single)))]
    return f"Where is the {thing.color} {thing.shape}?", PLACES[thing.cell]


def cell_question(rng, things, main):
    if rng.random() < 0.6:
        thing = things[int(rng.integers(len(things)))]
        cell = thing.cell
    else:
        cell = int(rng.integers(9))
    there = [t for t in things if t.cell == cell]
    return f"What is at the {PLACES[cell]}?", f"a {there[0].color} {there[0].shape}" if there else "nothing"


def presence_question(rng, things, main):
    present = {(t.color, t.shape) for t in things}
    if rng.random() < 0.5:
        color, shape = sorted(present)[int(rng.integers(len(present)))]
    else:
        color, shape = KINDS[int(rng.integers(len(KINDS)))]
    return f"Is there a {color} {shape}?", "yes" if (color, shape) in present else "no"


QUESTIONS = {"count": (count_question, 0.40), "total": (total_question, 0.08), "color": (color_question, 0.10),
             "shape": (shape_question, 0.08), "place": (place_question, 0.12), "cell": (cell_question, 0.12),
             "presence": (presence_question, 0.10)}
QUESTION_NAMES = list(QUESTIONS)
QUESTION_BOUNDS = np.cumsum([share for _, share in QUESTIONS.values()])[:-1]


def ask(rng, things, main, only=None):
    """(kind of question, question, answer); `only`: that kind, or None when this picture does not allow it."""
    while True:
        name = only or QUESTION_NAMES[int(np.searchsorted(QUESTION_BOUNDS, rng.random(), side="right"))]
        found = QUESTIONS[name][0](rng, things, main)
        if found:
            return (name, *found)
        if only:
            return None


def all_texts():
    """Every question and every answer there is: what the tokenizer must know."""
    pairs = [f"{c} {s}" for c, s in KINDS]
    questions = [f"How many {p}s are there?" for p in pairs] + ["How many shapes are there?"]
    questions += [f"What color is the {s}?" for s in SHAPES] + [f"Which shape is {c}?" for c in COLORS]
    questions += [f"Where is the {p}?" for p in pairs] + [f"What is at the {p}?" for p in PLACES]
    questions += [f"Is there a {p}?" for p in pairs]
    answers = NUMBERS + list(COLORS) + SHAPES + PLACES + ["nothing", "yes", "no"] + [f"a {p}" for p in pairs]
    return questions, answers


def prepare(image, size):
    """The uint8 pixels (size, size, 3) that CLIPImageProcessor makes before it scales them: its resize and crop."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(size * long / short)
    new = (size, longer) if width <= height else (longer, size)
    resized = image.resize(new, Image.Resampling.BICUBIC)
    left, top = (new[0] - size) // 2, (new[1] - size) // 2
    return np.asarray(resized)[top:top + size, left:left + size]


def patch_labels(things, image_size, size, patch):
    """(patches) int: for each patch of the prepared picture 0, or 1 + the kind of the thing over its middle."""
    width, height = image_size
    side = min(width, height)
    scale = size / side
    count = size // patch
    labels = np.zeros((count, count), np.int64)
    middle = (np.arange(count) + 0.5) * patch
    for thing in things:
        x = (thing.x - (width - side) / 2) * scale
        y = (thing.y - (height - side) / 2) * scale
        near = (middle[None, :] - x) ** 2 + (middle[:, None] - y) ** 2 < (thing.radius * scale) ** 2
        labels[near] = 1 + KINDS.index((thing.color, thing.shape))
    return labels.ravel()
