"""One colour per structure: the study's own where they are readable on white and tell structures apart."""

from collections.abc import Sequence

from service.reports.content import StructureReport

TARGET_COLOURS = ("#c2185b", "#f06292", "#7b1fa2", "#b39ddb")
"""Pinks and purples, the highest prescription first."""

OAR_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#8c510a",
    "#56b4e9",
    "#4d5a66",
    "#d55e00",
    "#8a9a00",
    "#1f3a6e",
    "#17a2a2",
    "#a6761d",
    "#9aa5b1",
)
"""Hues with steps in lightness, after Okabe and Ito, so that colour-blind readers can tell them apart."""

EXTERNAL_COLOUR = "#8a949e"

PALETTES = {"target": TARGET_COLOURS, "oar": OAR_COLOURS, "external": (EXTERNAL_COLOUR,)}

LEAST_CONTRAST = 3.0
"""Against white, for what must be seen but not read (WCAG 2.1, criterion 1.4.11)."""

LEAST_DISTANCE = 30.0
"""Between two colours in red, green and blue of 0 … 255; nearer ones are not told apart."""


def structure_colours(structures: Sequence[StructureReport]) -> dict[str, str]:
    """Colour of each structure by name, in CSS notation.

    The ROI Display Color (3006,002A), darkened until it is readable on white. A structure without one, or with one that
    another structure has as well, takes a colour of a palette that colour-blind readers can tell apart; palettes repeat
    when they run out. Colour is never the only cue: pictures bear the structures' numbers.
    """
    own = {s.name: readable(s.roi_colour) for s in structures if s.roi_colour}
    colours = {
        name: colour
        for name, colour in own.items()
        if all(_distance(colour, other) >= LEAST_DISTANCE for n, other in own.items() if n != name)
    }
    for structure in structures:
        if structure.name not in colours:
            palette = PALETTES[structure.kind]
            taken = set(colours.values())
            colours[structure.name] = next((c for c in palette if c not in taken), palette[len(taken) % len(palette)])
    return {structure.name: colours[structure.name] for structure in structures}


def readable(colour: str) -> str:
    """Darken a colour until it stands out from white."""
    red, green, blue = _channels(colour)
    while 1.05 / (_luminance(red, green, blue) + 0.05) < LEAST_CONTRAST:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return f"#{round(red):02x}{round(green):02x}{round(blue):02x}"


def _channels(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _distance(one: str, other: str) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(_channels(one), _channels(other), strict=True)) ** 0.5)


def _luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red / 255, green / 255, blue / 255)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
