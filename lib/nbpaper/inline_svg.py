"""Puts SVG figures into the page itself, where a reader can select and search their text.

Inside a page an SVG shares names, styles and rights with everything else. So only what draws is taken over, and its
names get a prefix of their own. A picture with anything more is left to an `<img>`, which shuts it off from the page.
Colours become variables of the page's style, such as `var(--d55e00, #d55e00)`, so that a dark page can replace them.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

_DRAWING = """
svg g defs symbol use path rect circle ellipse line polyline polygon text tspan textPath image clipPath mask
pattern marker linearGradient radialGradient stop title desc
"""
DRAWING = frozenset(_DRAWING.split())
DROPPED = {"metadata", "style"}
OWN_ATTRIBUTES = {"id", "class", "version", "width", "height", "style", "role", "tabindex"}
"""Attributes of the outermost element that the page sets itself, or does without."""

MATPLOTLIB_STYLE = re.compile(r"\s*\*\{stroke-linejoin: round; stroke-linecap: butt\}\s*")
COLOUR = re.compile(r"#([0-9a-fA-F]{6})\b")
INTERNAL_URL = re.compile(r"url\(\s*#([^)]+?)\s*\)")
EMBEDDED = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*")
LENGTH = re.compile(r"([\d.]+)(pt|in|cm|mm|px|)")
PIXELS = {"pt": 96 / 72, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "px": 1.0, "": 1.0}

ZOOM = 1.6
"""Figures are drawn for print, at 8 points; on screen they are shown larger so that their text matches the page's."""


XML = "{http://www.w3.org/XML/1998/namespace}"


class _NotPlain(Exception):
    """The picture holds more than drawing."""


def inline_svg(data: bytes, alt: str, prefix: str) -> str | None:
    """The picture as an `<svg>` element for an HTML page, or None if it holds more than drawing.

    `prefix` must differ for every picture of a page: it starts all names that the picture gives to its parts.
    """
    try:
        root = ElementTree.fromstring(data)
        styles = [element.text or "" for element in root.iter() if _local(element.tag) == "style"]
        _clean(root, prefix)
    except (ElementTree.ParseError, _NotPlain):
        return None
    if not all(MATPLOTLIB_STYLE.fullmatch(style) for style in styles):
        return None
    _present(root, alt, joined=bool(styles))
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _present(root: ElementTree.Element, alt: str, joined: bool) -> None:
    sizes = [LENGTH.fullmatch(root.get(side, "")) for side in ("width", "height")]
    for name in OWN_ATTRIBUTES & set(root.attrib):
        del root.attrib[name]
    root.set("class", "drawing")
    for side, size in zip(("width", "height"), sizes, strict=True):
        if size:
            root.set(side, str(round(float(size[1]) * PIXELS[size[2]] * ZOOM)))
    if joined:  # what matplotlib's style sheet says of all lines
        root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    if alt:
        root.set("role", "img")
        root.set("aria-label", alt)


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    if element.tag not in DRAWING:
        raise _NotPlain
    kept = [(name, value) for name, value in element.items() if name != "class" and not name.startswith(XML)]
    element.attrib = {_local(name): _value(element.tag, _local(name), value, prefix) for name, value in kept}
    for child in list(element):
        if _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _value(tag: str, name: str, value: str, prefix: str) -> str:
    if name.lower().startswith("on"):
        raise _NotPlain
    if name == "id":
        return prefix + value
    if name == "href":
        if value.startswith("#"):
            return f"#{prefix}{value[1:]}"
        if tag == "image" and EMBEDDED.fullmatch(value):
            return value
        raise _NotPlain
    if name in ("style", "fill", "stroke"):
        value = COLOUR.sub(lambda match: f"var(--{match[1].lower()}, {match[0]})", value)
    value = INTERNAL_URL.sub(lambda match: f"url(#{prefix}{match.group(1)})", value)
    if re.search(r"url\s*\((?!#)", value, re.IGNORECASE):
        raise _NotPlain
    return value


def _local(tag: object) -> str:
    """The name without its namespace; comments, whose tag is no text, are never seen by the parser."""
    return str(tag).rpartition("}")[2]
