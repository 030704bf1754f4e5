"""The colours of drawings, and the names that the page's style has for them.

They are few and told apart by the colour-blind (Paul Tol's "bright" scheme).
"""

INK, FAINT, PAPER = "#1d2329", "#c9ced4", "#fdfdfd"
"""Of letters, of grids and of the page; a page may replace them."""
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#8a8f98", INK)
VARIABLES = ("--blue", "--red", "--green", "--purple", "--cyan", "--gold", "--grey", "--ink")
"""Of `style.css`, in the order of `COLOURS`."""
THEME = {**dict(zip(COLOURS, VARIABLES, strict=True)), FAINT: "--line", PAPER: "--paper"}
"""Colours of the drawings that the page's style sets, so that they fit a dark page too."""
