"""What MkDocs does to pages: equations become MathML, and links may leave ``docs``."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
# Files outside docs that pages may link to, with the names that they have there.
LINKED = ("experiments/results/**/*", "experiments/**/*.py", "agents/gfnet_agents/**/*.py")
SUFFIXES = (".csv", ".json", ".md", ".png", ".py")

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside ``docs`` to the site."""
    for pattern in LINKED:
        for path in sorted(ROOT.glob(pattern)):
            if path.suffix in SUFFIXES:
                name = path.relative_to(ROOT).as_posix()
                added = File.generated(
                    config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(added)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to those files stay within the site: a page of ``docs`` has them beside it."""
    if page.file.src_uri.startswith("experiments/"):
        return markdown
    return re.sub(r"\]\((?:\.\./)+(experiments|agents)/", _beside(page), markdown)


def _beside(page: Any) -> str:
    return "](" + "../" * page.file.src_uri.count("/") + r"\1/"


def on_page_content(content: str, **_: Any) -> str:
    """Write equations as MathML, which browsers draw without a script."""
    return _EQUATION.sub(_drawn, content)


def _drawn(equation: re.Match[str]) -> str:
    display = "block" if equation[1] == "div" else "inline"
    return convert(html.unescape(equation[2]).strip(), display=display)
