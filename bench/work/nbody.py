"""The planets around the Sun, moved in small steps: floating-point work of a Python program.
usage: nbody.py STEPS. Prints the energy and the positions, to the last bit."""
import math
import sys

BODIES = [  # name, mass (suns), position (au), velocity (au a day)
    ("sun", 1.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ("jupiter", 9.547919e-4, (4.84143, -1.16032, -0.10362), (1.660077e-3, 7.699011e-3, -6.904600e-5)),
    ("saturn", 2.858859e-4, (8.34336, 4.12479, -0.40352), (-2.767425e-3, 4.998528e-3, 2.304172e-5)),
    ("uranus", 4.366244e-5, (12.89436, -15.11115, -0.22330), (2.964601e-3, 2.378471e-3, -2.965895e-5)),
    ("neptune", 5.151389e-5, (15.37969, -25.91931, 0.17925), (2.680677e-3, 1.628241e-3, -9.515922e-5)),
]
GRAVITY = 2.959122e-4  # au^3 / (sun day^2)


class Body:
    def __init__(self, mass, position, velocity):
        self.mass = mass
        self.position = list(position)
        self.velocity = list(velocity)


def step(pairs, bodies, days):
    for a, b in pairs:
        dx = a.position[0] - b.position[0]
        dy = a.position[1] - b.position[1]
        dz = a.position[2] - b.position[2]
        square = dx * dx + dy * dy + dz * dz
        pull = GRAVITY * days / (square * math.sqrt(square))
        for body, weight in ((a, -b.mass * pull), (b, a.mass * pull)):
            velocity = body.velocity
            velocity[0] += dx * weight
            velocity[1] += dy * weight
            velocity[2] += dz * weight
    for body in bodies:
        body.position = [x + v * days for x, v in zip(body.position, body.velocity)]


def energy(pairs, bodies):
    total = sum(0.5 * b.mass * sum(v * v for v in b.velocity) for b in bodies)
    for a, b in pairs:
        total -= GRAVITY * a.mass * b.mass / math.dist(a.position, b.position)
    return total


def main():
    bodies = [Body(*values) for _, *values in BODIES]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1:]]
    print(energy(pairs, bodies).hex())
    for _ in range(int(sys.argv[1])):
        step(pairs, bodies, 0.5)
    print(energy(pairs, bodies).hex())
    for body in bodies:
        print(*(x.hex() for x in body.position))


main()
