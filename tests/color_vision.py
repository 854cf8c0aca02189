"""Difference of two colors for normal and for color-blind vision.

Sources: Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of
Color Vision Deficiency", the matrices of severity 1; Sharma, Wu and Dalal 2005, "The CIEDE2000
Color-Difference Formula"; WCAG 2.2, relative luminance.
"""

from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

VISION = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""Kind of vision -> matrix from linear RGB to linear RGB."""
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.0890)


def linear(color):
    """[red, green, blue] from 0 to 255 as linear values from 0 to 1."""
    shares = [value / 255 for value in color]
    return [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]


def _times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def lab(color, vision="normal"):
    """Return the perceived color in CIELAB."""
    seen = [min(1.0, max(0.0, value)) for value in _times(VISION[vision], linear(color))]
    shares = [value / white for value, white in zip(_times(TO_XYZ, seen), WHITE)]
    x, y, z = (s ** (1 / 3) if s > 216 / 24389 else (24389 / 27 * s + 16) / 116 for s in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def contrast(one, other):
    """WCAG's contrast ratio of two colors, from 1 to 21."""
    light, dark = sorted((_times(TO_XYZ, linear(c))[1] for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def difference(one, other):
    """CIEDE2000 of two colors in CIELAB; 1 is about the smallest visible difference."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    chroma = (hypot(a1, b1) + hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * sqrt(chroma**7 / (chroma**7 + 25**7))
    c1, c2 = hypot(a1 * stretch, b1), hypot(a2 * stretch, b2)
    h1 = degrees(atan2(b1, a1 * stretch)) % 360
    h2 = degrees(atan2(b2, a2 * stretch)) % 360
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = 1 - 0.17 * cos(radians(hue - 30)) + 0.24 * cos(radians(2 * hue))
    weight += 0.32 * cos(radians(3 * hue + 6)) - 0.20 * cos(radians(4 * hue - 63))
    from_middle = (lightness - 50) ** 2
    dl = (l2 - l1) / (1 + 0.015 * from_middle / sqrt(20 + from_middle))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * sqrt(c1 * c2) * sin(radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    rotation = 60 * exp(-(((hue - 275) / 25) ** 2))
    rotated = -2 * sqrt(chroma**7 / (chroma**7 + 25**7)) * sin(radians(rotation))
    return sqrt(dl**2 + dc**2 + dh**2 + rotated * dc * dh)
