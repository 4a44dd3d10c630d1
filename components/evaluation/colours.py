"""The colours of every figure: Okabe and Ito's, which the colour-blind tell apart, and greys.

What a reader must not confuse is told by shape or place too, never by one of these alone.
"""

BLUE = "#0072B2"
SKY = "#56B4E9"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
INK = "#1c2733"
GREY = "#6b7680"
SILVER = "#b4bcc4"
LIGHT = "#e6eaee"
