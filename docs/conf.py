"""How Sphinx builds the pages: `scripts/docs` writes them to build/docs."""

project = "lakehouse-spark"
author = "the lakehouse-spark authors"
copyright = f"{author}, Apache-2.0"
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "lakehouse-spark"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
nitpicky = True
