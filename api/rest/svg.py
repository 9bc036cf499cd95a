"""Pictures as SVG that fits any width: shapes whose places across are percentages, text of a fixed size, and one description for screen readers.

Every text is cleaned of what XML 1.0 forbids and of what turns the direction of the text around it, and is escaped by the XML library. The ids and the style
of a picture begin with a name of its own, so that several can stand in one page.
"""

import re
from textwrap import wrap
from xml.etree.ElementTree import Element, SubElement, tostring

NAMESPACE = "http://www.w3.org/2000/svg"
LINE = 18
"""Pixels from one line of text to the next."""
_FORBIDDEN = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_COLOURS = {
    "light": {
        "paper": "#ffffff",
        "ink": "#17202b",
        "quiet": "#475463",
        "edge": "#1d4468",
        "pale": "#b9d5ea",
        "full": "#1d4468",
        "mark": "#ffffff",
    },
    "dark": {
        "paper": "#12171d",
        "ink": "#f3f5f7",
        "quiet": "#c2cbd5",
        "edge": "#a9cdec",
        "pale": "#28506f",
        "full": "#a9cdec",
        "mark": "#12171d",
    },
}
"""The colours of a picture on a light and on a dark page. Each text has a contrast of 7 to 1 or more, each outline of 4.5 to 1."""
_RULES = """
#ID{VARIABLES;color:var(--ink);font-family:system-ui,"Segoe UI","DejaVu Sans",sans-serif;font-size:14px}
#ID .paper{fill:var(--paper)}
#ID text{fill:var(--ink)}
#ID text.quiet{fill:var(--quiet);font-size:13px}
#ID text.head{font-size:18px;font-weight:600}
#ID text.name{font-weight:600}
#ID text.small{font-size:12px}
#ID .track{fill:none;stroke:var(--quiet);stroke-width:1}
#ID .grid{stroke:var(--quiet);stroke-width:1;stroke-dasharray:1 4}
#ID .hidden{fill:none;stroke:var(--ink);stroke-width:1.5;stroke-dasharray:6 4}
#ID .pale{fill:var(--pale);stroke:var(--edge);stroke-width:1.5}
#ID .full{fill:url(#ID_hatch);stroke:var(--edge);stroke-width:1.5}
#ID .line{stroke:var(--edge);stroke-width:2}
#ID .dashes{stroke-dasharray:5 4}
#ID .dot{fill:var(--edge);stroke:var(--paper);stroke-width:1}
#ID .box{fill:var(--paper);stroke:var(--edge);stroke-width:2}
#ID .ground{fill:var(--full)}
#ID .stripe{stroke:var(--mark);stroke-width:2}
@media screen and (prefers-color-scheme:dark){#ID{DARK}}
@media (forced-colors:active){#ID{--paper:Canvas;--ink:CanvasText;--quiet:CanvasText;--edge:CanvasText;--pale:Canvas;--full:CanvasText;--mark:Canvas}}
"""


def clean(text: str) -> str:
    """Returns a text as a picture may hold it, in one line."""
    return " ".join(_FORBIDDEN.sub("\ufffd", text).split())


def break_lines(text: str, width: int) -> list[str]:
    """Returns the lines of a text, each of at most so many characters."""
    return wrap(clean(text), width, break_on_hyphens=False) or [""]


class Picture:
    """A picture that grows downwards. `y` is where the next shape begins, in pixels from the top."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.y = 10
        self.title = ""
        self.described: list[str] = []
        self._inner = Element("svg", {"x": "3%", "width": "94%", "overflow": "visible"})

    def write(self, text: str, kind: str = "", *, width: int = 48) -> None:
        """Writes a text below what there is, in as many lines as it needs, each of at most `width` characters."""
        for line in break_lines(text, width):
            self.y += LINE
            self.put(line, "0", self.y - 4, kind)

    def put(self, text: str, x: str, y: float, kind: str = "", anchor: str = "") -> None:
        """Puts one line of text at a place."""
        element = self.draw("text", {"x": x, "y": f"{y:g}"} | ({"text-anchor": anchor} if anchor else {}), kind)
        element.text = clean(text)

    def draw(self, shape: str, places: dict[str, str], kind: str = "") -> Element:
        """Draws a shape of SVG, of a kind that the style knows."""
        return SubElement(self._inner, shape, ({"class": kind} if kind else {}) | places)

    def box(self, x: float, width: float, height: float, kind: str) -> None:
        """Draws a box at `y`, from so many percent of the width on."""
        places = {"x": f"{x:g}%", "y": f"{self.y:g}", "width": f"{width:g}%", "height": f"{height:g}"}
        self.draw("rect", places, kind)

    def finish(self) -> bytes:
        """Returns the picture as a document, which says all that it shows in its title and description."""
        title, desc = f"{self.name}_title", f"{self.name}_desc"
        height = self.y + LINE
        root = Element(
            "svg", {"xmlns": NAMESPACE, "id": self.name, "role": "img", "lang": "en-GB", "width": "100%", "height": f"{height:g}"}
        )
        root.set("aria-labelledby", f"{title} {desc}")
        SubElement(root, "title", {"id": title}).text = clean(self.title)
        SubElement(root, "desc", {"id": desc}).text = "\n".join(map(clean, self.described))
        SubElement(root, "style").text = _write_style(self.name)
        pattern = {
            "id": f"{self.name}_hatch",
            "width": "8",
            "height": "8",
            "patternUnits": "userSpaceOnUse",
            "patternTransform": "rotate(45)",
        }
        hatch = SubElement(SubElement(root, "defs"), "pattern", pattern)
        SubElement(hatch, "rect", {"class": "ground", "width": "8", "height": "8"})
        SubElement(hatch, "line", {"class": "stripe", "x1": "0", "y1": "0", "x2": "0", "y2": "8"})
        SubElement(root, "rect", {"class": "paper", "width": "100%", "height": "100%"})
        root.append(self._inner)
        document: bytes = tostring(root, "utf-8", xml_declaration=True)
        return document


def _write_style(name: str) -> str:
    light, dark = (";".join(f"--{key}:{value}" for key, value in _COLOURS[theme].items()) for theme in ("light", "dark"))
    return _RULES.replace("VARIABLES", light).replace("DARK", dark).replace("ID", name)
