"""The colours of drawings, and their names in the page's style.

Few colours, which the colour-blind can distinguish (Paul Tol's "bright" scheme).
"""

INK, FAINT, PAPER = "#1d2329", "#c9ced4", "#fdfdfd"
"""Colours of text, grid and page."""
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#8a8f98", INK)
VARIABLES = ("--blue", "--red", "--green", "--purple", "--cyan", "--gold", "--grey", "--ink")
"""Variables of `style.css`, in the order of `COLOURS`."""
THEME = {**dict(zip(COLOURS, VARIABLES, strict=True)), FAINT: "--line", PAPER: "--paper"}
"""Colour in a drawing -> variable that replaces it on the page, so that drawings fit a dark page too."""
