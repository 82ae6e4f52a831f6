"""How the documentation is built: ``make docs`` writes it to ``build/docs``, every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path

import airflow_provider_arroyo

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "Arroyo provider for Apache Airflow"
author = "its contributors"
project_copyright = ""
version = release = airflow_provider_arroyo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "public_names", "generated", "states"]
exclude_patterns = ["extensions"]

# Links to headings of another page: [text](page.md#heading).
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_typehints = "description"
# The classes document every argument of theirs; Airflow's own are Airflow's to document.
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 60
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# A reference that leads nowhere is a warning, except to what is documented elsewhere.
nitpicky = True
nitpick_ignore_regex = [
    # Python's own types and Airflow's.
    (r"py:.*", r"(builtins|collections|datetime|enum|pathlib|requests|types|typing|urllib)\b.*"),
    (r"py:.*", r"airflow\..*"),
    (
        r"py:.*",
        "(Airflow|Base)?(Any|Asset|AssetWatcher|Callable|Context|Exception|FailException|ImportError|Mapping|OSError|"
        "Path|Self|SensorTimeout|Sequence|SplitResult|TaskDecorator|TypeError|ValueError|Operator|timedelta|"
        "bool|dict|float|int|list|optional|str|tuple)",
    ),
    # What the package keeps to itself: its docstrings name it for those who read the source.
    (
        r"py:.*",
        r"airflow_provider_arroyo\.(client|evidence|monitoring|on_kill|pipelines|polling|sandbox|sql)\..*",
    ),
    (
        r"py:.*",
        r"(.*\.)?(Clock|Faults|Hold|Limits|Namespace|NotJudged|Outcome|PipelineWait|Request|RequestLog|SETTINGS|Store|T|"
        r"WaitPlan|demo|output|resolve_name)(\..*)?",
    ),
]

# Dashes alone: JSON in tables keeps its quotes.
smartquotes_action = "D"

html_theme = "furo"
html_title = f"Arroyo provider for Airflow {release}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
