"""The look of the report, and the few lines of script that sort its table.

Both are inlined, and the page's Content-Security-Policy allows exactly these bytes by their SHA-256;
so there are no style attributes and no event attributes anywhere in the page.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--bg:#fbfaf8;--card:#fff;--ink:#1d2126;--soft:#626b75;--line:#e3e1dc;
--accent:#0c6b62;--tint:#e6f2f0;--prompt:#2b66c9;--tuned:#b1491b;--baseline:#8a9099}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e8e6e1;--soft:#9aa3ad;
--line:#30363c;--accent:#5fcabc;--tint:#1c3532;--prompt:#7fabf5;--tuned:#f0996b;--baseline:#7d858e}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:80rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}
h1{font-size:2rem;line-height:1.2;margin:0;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:3rem 0 .25rem;letter-spacing:-.01em}
p{margin:.4rem 0;max-width:48rem}
.soft,figcaption,caption{color:var(--soft);font-size:.9rem}
.verdict{background:var(--tint);border-left:4px solid var(--accent);border-radius:6px;
padding:1.25rem 1.5rem;margin:1.75rem 0}
.verdict p{max-width:none}
.verdict .lead{font-size:1.2rem;line-height:1.4;font-weight:600;margin:0 0 .6rem}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;margin-top:.75rem}
table{border-collapse:collapse;width:100%;font-size:.86rem}
caption{text-align:left;padding:.75rem .9rem 0}
th,td{padding:.5rem .55rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:500;font-size:.78rem;line-height:1.25;vertical-align:bottom;white-space:normal}
th[scope=row],.left{text-align:left}
th[scope=row]{font-weight:500}
.long{white-space:pre-wrap;overflow-wrap:anywhere;min-width:10rem;text-align:left;vertical-align:top}
tr.lead th,tr.lead td{background:var(--tint)}
tr.lead th[scope=row]{font-weight:700}
tr.baseline{color:var(--soft)}
thead button{all:unset;cursor:pointer}
thead button:hover,thead button:focus-visible{color:var(--accent);text-decoration:underline}
th[aria-sort=descending] button::after{content:" \\2193"}
th[aria-sort=ascending] button::after{content:" \\2191"}
.dot{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.5em}
.dot.prompt{background:var(--prompt)}.dot.tuned{background:var(--tuned)}
.dot.baseline{background:var(--baseline)}
.legend span{margin-right:1.25rem}
figure{margin:.75rem 0 0;padding:1rem;background:var(--card);border:1px solid var(--line);border-radius:8px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1rem}
svg{display:block;width:100%;height:auto;font-family:inherit}
figure{overflow-x:auto}.plot svg{min-width:44rem}
svg text{fill:var(--ink);font-size:13px}
svg .soft{fill:var(--soft);font-size:12px}
svg .grid{stroke:var(--line);stroke-width:1}
svg .front{fill:none;stroke:var(--accent);stroke-width:1.5;stroke-dasharray:5 4}
svg .band{fill:var(--tint)}
svg line.prompt,svg line.tuned,svg line.baseline{stroke-width:3;stroke-linecap:round}
svg line.prompt{stroke:var(--prompt)}svg line.tuned{stroke:var(--tuned)}
svg line.baseline{stroke:var(--baseline)}
svg circle{stroke:var(--card);stroke-width:1.5}
svg circle.prompt{fill:var(--prompt)}svg circle.tuned{fill:var(--tuned)}
svg circle.baseline{fill:var(--baseline)}
svg .lead{font-weight:700}
svg .number{fill:var(--card);font-size:10px;font-weight:700}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
details{border-top:1px solid var(--line);padding:.6rem 0}
summary{cursor:pointer;font-weight:500}
pre,code{font:.85rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.8rem 1rem;
overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
ul{padding-left:1.2rem;max-width:48rem}
small{color:var(--accent);font-size:.75rem;font-weight:400;margin-left:.35em}
tr.baseline small{color:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0 0}
dt{font-weight:500}dd{margin:0}
figcaption{margin-top:.5rem}
footer{margin-top:3.5rem;color:var(--soft);font-size:.85rem}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--tint:#f1f5f4}
main{padding:0;max-width:none}body{font-size:11px}table{font-size:8.5px}
.wide,figure{overflow:visible}.plot svg{min-width:0}.wide,figure{break-inside:avoid}th,td{padding:.25rem .3rem}
details:not([open])>*{display:block}h2{break-after:avoid}}
"""

SCRIPT: Final = """
document.querySelectorAll("table.sortable thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.cells[column].dataset.v;
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const both = x !== "" && y !== "" && isFinite(x) && isFinite(y);
      return (both ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
    head.parentNode.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
});
"""


def policy() -> str:
    """Return the page's Content-Security-Policy: nothing from anywhere, but these two inlined texts."""
    return (
        f"default-src 'none'; style-src '{_hash(CSS)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
