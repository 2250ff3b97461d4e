"""A hook of mkdocs: links from docs/ to files outside it.

Such a link points to the repository if mkdocs.yml has a repo_url, otherwise its text remains without the link. A link
to a file that does not exist is an error in both cases.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>\.\.?/[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replaces the links of a page that leave docs/."""
    docs = Path(config["docs_dir"]).resolve()
    folder = (docs / page.file.src_uri).parent

    def replace(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / link["target"]))
        if path.is_relative_to(docs):
            return link[0]  # mkdocs checks these
        if not path.exists() or not path.is_relative_to(ROOT):
            raise PluginError(f"{page.file.src_uri}: broken link to {link['target']}")
        if not config["repo_url"]:
            return link["text"]
        kind = "tree" if path.is_dir() else "blob"
        return f"[{link['text']}]({config['repo_url']}/{kind}/main/{path.relative_to(ROOT)}{link['anchor'] or ''})"

    return LINK.sub(replace, markdown)
