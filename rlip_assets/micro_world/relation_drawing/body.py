"""Events of the whole body: riding, sitting, lying, standing on, walking along, pushing, chasing, kicking, throwing, flying, carrying."""

from __future__ import annotations

from rlip_assets.micro_world.group import REACH, Group, stature
from rlip_assets.micro_world.picture import Thing
from rlip_assets.micro_world.relation_drawing.seats import sit_down

SEA = (60, 130, 205)
FOAM = (240, 250, 255)
LEASH = (150, 30, 40)
STRING = (50, 50, 60)
BOARDS = ("skateboard", "surfboard")
VEHICLES = ("bicycle", "motorcycle")


def _wave(group: Group, board: Thing) -> None:
    """Sea under a surfboard that is being ridden."""
    x0, x1, y = board.x - 6, board.x + board.width + 6, board.y + board.height
    step = (x1 - x0) / 6
    crest = [(x0 + step * number, y + (1.5 if number % 2 else -1.5)) for number in range(7)]
    group.line([(x0, y + 2), (x1, y + 2)], SEA, 7.0, board.depth + 0.05)
    group.line(crest, FOAM, 2.0, board.depth + 0.06)


def ride(group: Group, noun: str) -> Thing:
    """Astride an animal or vehicle, hands at neck or handle; on a board crouching, arms spread, motion lines behind, sea below."""
    if noun in BOARDS:
        board = group.put(noun, bottom=-3 if noun == "surfboard" else 0)
        rider = group.person("surf", bottom=board.anchor("seat")[1] + 2, depth=0.5, grounded=False)
        for side, shoulder in ((-1, "shoulder"), (1, "rear")):
            x, y = rider.anchor(shoulder)
            group.arm(rider, (x + side * REACH * stature(rider), y - 3), shoulder=shoulder)
        group.speed_lines(board.x + board.width + 3, rider.y + 12, board.y - 2, -1)
        if noun == "surfboard":
            _wave(group, board)
        board.grounded = noun == "skateboard"
    else:
        mount = group.put(noun)
        rider = group.person("ride", depth=0.5, grounded=False)
        group.move(rider, "hip", mount.anchor("seat"))
        group.arm(rider, mount.anchor("handle" if noun in VEHICLES else "neck"))
        rider.busy = False  # one hand is enough
    group.relate(rider, "ride", group.things[0])
    return rider


def sit_on(group: Group, noun: str) -> Thing:
    """Sitting on a seat, legs hanging in front of it; on a skateboard cross-legged."""
    seat = group.put(noun, facing=1 if noun == "chair" else -1)
    if noun == "skateboard":
        sitter = group.person("squat", bottom=seat.anchor("seat")[1] + 3, depth=0.5, grounded=False)
        group.relate(sitter, "sit on", seat)
        return sitter
    room = 0.0 if noun == "chair" else seat.width * 0.28
    return sit_down(group, "person", seat, seat.anchor("seat")[0] + group.rng.uniform(-room, room))


def lie_on(group: Group, noun: str) -> Thing:
    """Lying along a bed, couch, bench or board."""
    support = group.put(noun)
    x, y = support.anchor("seat")
    sleeper = group.person("stand", x=x, bottom=y + 3, depth=0.5, angle=90, grounded=False)
    sleeper.pose = "lie"
    sleeper.busy = True
    group.relate(sleeper, "lie on", support)
    return sleeper


def stand_on(group: Group, noun: str) -> Thing:
    """Standing upright on a chair or board, still."""
    support = group.put(noun)
    x, y = support.anchor("seat")
    stander = group.person("stand", x=x, bottom=y + 3, depth=0.5, grounded=False)
    group.relate(stander, "stand on", support)
    return stander


def walk(group: Group, noun: str) -> Thing:
    """An animal ahead on a leash; a bicycle alongside, one hand on its handle."""
    if noun == "bicycle":
        bicycle = group.put(noun, x=-4, depth=0.6)
        walker = group.person("walk", x=4, bottom=-2)
        group.arm(walker, bicycle.anchor("handle"), depth=0.8)
        group.relate(walker, "walk", bicycle)
        return walker
    animal = group.put(noun)
    walker = group.person("walk", x=0, depth=0.2)
    walker.x = animal.x + animal.width + 5
    x, y = walker.anchor("shoulder")
    hand = (x - 0.22 * stature(walker), y + 0.16 * stature(walker))
    neck = animal.anchor("neck")
    sag = ((hand[0] + neck[0]) / 2, max(hand[1], neck[1]) + 3)
    group.line([neck, sag, hand], LEASH, 1.8, 0.9)
    group.arm(walker, hand, depth=1.0)
    group.relate(walker, "walk", animal)
    return walker


def push(group: Group, noun: str) -> Thing:
    """Behind a vehicle, both arms stretched to its rear, motion lines behind."""
    vehicle = group.put(noun)
    pusher = group.person("walk", depth=0.5)
    rear = vehicle.anchor("rear")
    group.move(pusher, "shoulder", (rear[0] + REACH * stature(pusher) * 0.95, 0), along_y=False)
    group.arm(pusher, rear)
    group.arm(pusher, (rear[0] + 2, rear[1] + 5), shoulder="rear")
    group.speed_lines(pusher.x + pusher.width + 3, pusher.y + 16, pusher.y + 40, -1, 8)
    group.relate(pusher, "push", vehicle)
    return pusher


def chase(group: Group, noun: str, subject: str = "person") -> Thing:
    """Running behind an animal that runs away, motion lines behind both."""
    prey = group.put(noun, bottom=-4)
    if subject == "person":
        chaser = group.person("run")
        chaser.busy = True
    else:
        chaser = group.put(subject, bottom=-3)
    chaser.x = prey.x + prey.width + 15
    for mover in (prey, chaser):
        group.speed_lines(
            mover.x + mover.width + 2, mover.y + mover.height * 0.35, mover.y + mover.height * 0.85, -1, 8
        )
    group.relate(chaser, "chase", prey)
    return chaser


def kick(group: Group, noun: str) -> Thing:
    """One leg stretched to a ball that leaves the foot, a star of dashes between them."""
    kicker = group.person("kick")
    x, y = kicker.anchor("foot")
    size = group.put(noun, depth=0.4, grounded=False)
    size.x, size.y = x - size.width - 3, y - size.height * 0.65
    for dx, dy in ((-1, -8), (-3, 7), (3, -6)):
        group.line([(x + dx * 0.3 - 1, y + dy * 0.4), (x + dx - 1, y + dy)], (250, 190, 20), 2.0, 1.0)
    group.speed_lines(size.x - 10, size.y + 3, size.y + size.height - 3, -1, 7)
    group.relate(kicker, "kick", size)
    return kicker


def throw(group: Group, noun: str) -> Thing:
    """One arm stretched up, the ball in the air ahead of the hand, motion lines between them."""
    thrower = group.person(group.rng.choice(("walk", "stand")))
    x, y = thrower.anchor("shoulder")
    reach = REACH * stature(thrower)
    hand = (x - reach * 0.75, y - reach * 0.75)
    group.arm(thrower, hand)
    ball = group.put(noun, depth=0.4, grounded=False)
    ball.x, ball.y = hand[0] - ball.width - 12, hand[1] - ball.height * 0.75
    for offset in (-4, 0, 4):
        group.line([(ball.x + ball.width + 2, ball.y + ball.height / 2 + offset), (hand[0] - 3, hand[1] + offset)])
    group.relate(thrower, "throw", ball)
    return thrower


def fly(group: Group, noun: str) -> Thing:
    """A kite high in the air on a string that ends in the hand."""
    flyer = group.person(group.rng.choice(("walk", "run", "stand")))
    x, y = flyer.anchor("shoulder")
    reach = REACH * stature(flyer)
    hand = (x - reach * 0.8, y - reach * 0.4)
    kite = group.put(noun, depth=0.4, grounded=False)
    group.move(kite, "grip", (hand[0] - group.rng.uniform(18, 34), hand[1] - group.rng.uniform(22, 34)))
    end = kite.anchor("grip")
    group.line([end, (end[0] * 0.45 + hand[0] * 0.55, end[1] * 0.55 + hand[1] * 0.45 + 5), hand], STRING, 1.3, 0.9)
    group.arm(flyer, hand)
    group.relate(flyer, "fly", kite)
    return flyer


def carry(group: Group, noun: str) -> Thing:
    """Walking with the load overhead, both arms up."""
    porter = group.person("walk")
    load = group.put(noun, x=porter.centre[0], bottom=porter.y + 1, depth=0.4, grounded=False)
    for side, shoulder in ((-1, "shoulder"), (1, "rear")):
        group.arm(
            porter,
            (porter.centre[0] + side * min(9.0, load.width * 0.3), load.y + load.height - 2),
            shoulder=shoulder,
            depth=0.6,
        )
    group.relate(porter, "carry", load)
    return porter


BODY_EVENTS = {
    "ride": ride,
    "sit on": sit_on,
    "lie on": lie_on,
    "stand on": stand_on,
    "walk": walk,
    "push": push,
    "chase": chase,
    "kick": kick,
    "throw": throw,
    "fly": fly,
    "carry": carry,
}
