"""Settings of the site for Sphinx; `python docs/website/build.py` stages the sources and runs it.

The pages are Markdown and executed notebooks, read by MyST; the theme is Furo, which follows the
system's light or dark. Nothing is loaded from another host: no fonts, and formulas are MathML.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "LLM_Scratch"
root_doc = "index"
extensions = ["myst_nb", "mathml", "popovers", "accessible"]
exclude_patterns = ["src", "tests"]
suppress_warnings = ["myst.header"]  # lessons and README choose their levels of headings
smartquotes = False  # it would make a dash of the two hyphens of a flag

html_theme = "furo"
html_title = "LLM_Scratch"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_use_index = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_show_search_summary = False  # it is fetched, which browsers refuse for a page of the disk
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#8ab8e6", "color-brand-content": "#8ab8e6"},
}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks come with their outputs, from lessons/build.py
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_merge_streams = True
