"""The example of the README, run as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"


def test_the_readmes_test_passes_as_it_stands(tmp_path: Path) -> None:
    section = README.read_text().partition("## Test your DAG without Arroyo")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    (tmp_path / "test_dag.py").write_text(code)
    ran = subprocess.run(  # our own README, by this very interpreter
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_dag.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout
