"""The page: one HTML file with its styles in it, for light and dark, for phones and for paper."""

from __future__ import annotations

from collections.abc import Sequence

from charkha.monitoring.reporting.markup import Markup, Part, joined, tag

# Blue, vermilion and bluish green of Okabe and Ito's palette (2008), which colour-blind people tell
# apart, darker or lighter where text needs the contrast; what is drawn is also told in words.
_STYLE = """
:root{color-scheme:light dark;--paper:#f7f6f2;--card:#fff;--ink:#1c2330;--soft:#5b6474;--rule:#e2dfd6;
--then:#c9ced8;--then-ink:#667085;--now:#0b68ad;--bad:#b8400a;--bad-soft:#fbe9df;--good:#00705a;--good-soft:#dff1eb;
--watch:#7a5600;--watch-soft:#f8edcf;--estimate:#7d4bb0;--none:#d9d6cc;--on:#fff}
@media (prefers-color-scheme:dark){:root{--paper:#12151a;--card:#1a1f27;--ink:#e9ebef;--soft:#a4adbb;
--rule:#2c333e;--then:#3d4655;--then-ink:#9aa5b6;--now:#62b5ee;--bad:#ff8f5c;--bad-soft:#3a2318;--good:#54cfa9;
--good-soft:#15332b;--watch:#efc152;--watch-soft:#352b12;--estimate:#c29bf0;--none:#343b46;--on:#12151a}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums;overflow-wrap:break-word}
main,header,footer{max-width:1060px;margin:0 auto;padding:0 20px}header{padding-top:36px}footer{padding-bottom:48px}
h1{font-size:clamp(1.35rem,1.05rem + 1.5vw,1.95rem);line-height:1.25;font-weight:650;letter-spacing:-.015em;margin:.5em 0 .35em;max-width:34em;text-wrap:balance}
h2{font-size:1.15rem;font-weight:650;letter-spacing:-.005em;margin:0 0 .2em}h3{font-size:1rem;font-weight:650;margin:0}
section{margin:44px 0}p{margin:.3em 0}.lead{font-size:1.05rem;color:var(--soft);max-width:46em}.note{color:var(--soft);font-size:.9rem;max-width:52em}
.top{display:flex;gap:8px 14px;align-items:baseline;flex-wrap:wrap;color:var(--soft);font-size:.92rem}.top b{color:var(--ink);font-weight:650}
.pill{display:inline-block;border-radius:99px;padding:2px 11px;font-size:.83rem;font-weight:600;white-space:nowrap}
.pill.bad{background:var(--bad-soft);color:var(--bad)}.pill.good{background:var(--good-soft);color:var(--good)}
.pill.watch{background:var(--watch-soft);color:var(--watch)}.pill.neutral{background:var(--rule);color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:1px;background:var(--rule);border:1px solid var(--rule);border-radius:10px;overflow:hidden;margin:22px 0 0}
.facts div{background:var(--card);padding:13px 16px;flex:1 1 150px}.facts dt{color:var(--soft);font-size:.83rem}
.facts dd{margin:0;font-size:1.28rem;font-weight:620;letter-spacing:-.01em;line-height:1.3}.facts small{display:block;font-size:.81rem;font-weight:400;color:var(--soft);letter-spacing:0}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px 18px}.card.bad{border-left:4px solid var(--bad)}
.card ul{margin:6px 0;padding-left:1.1em;font-size:.92rem}.card+.card{margin-top:10px}.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(310px,100%),1fr));gap:14px;margin-top:14px}
.grid .card{margin:0;display:flex;flex-direction:column;gap:6px}.head{display:flex;justify-content:space-between;gap:10px;align-items:baseline}
.head h3{overflow-wrap:anywhere}.because{font-size:.92rem}.small{font-size:.83rem;color:var(--soft)}.grid .small{margin-top:auto}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}.scroll svg{min-width:720px}
svg{display:block;width:100%;height:auto;font-size:11px;font-family:inherit}svg text{fill:var(--soft)}svg text.ink{fill:var(--ink)}
svg .lane{fill:var(--ink);font-weight:600;font-size:12px}svg text.bad{fill:var(--bad);font-weight:600}svg text.good{fill:var(--good);font-weight:600}
svg .on-bad,svg .on-mark{fill:var(--on);font-weight:650}svg .on-mark{font-size:10px}.axis{stroke:var(--then-ink);fill:none}.grid-line,path.grid{stroke:var(--rule);fill:none}
.then{fill:var(--then);stroke:none}.now{fill:none;stroke:var(--now);stroke-width:1.8;stroke-linejoin:round}.then-bar{fill:var(--then)}.now-bar{fill:var(--now)}
.was-line{stroke:var(--then-ink);stroke-dasharray:2 3;fill:none}.now-line{stroke:var(--now);stroke-dasharray:2 3;fill:none}
svg .was-name{fill:var(--then-ink);font-weight:600}svg .now-name{fill:var(--now);font-weight:600}svg .estimate-name{fill:var(--estimate);font-weight:600}
.bad-fill{fill:var(--bad)}.good-fill{fill:var(--good);opacity:.35}.none-fill{fill:var(--none)}.held{stroke:var(--soft);stroke-width:1.4;stroke-dasharray:6 4;fill:none}.held-band{fill:var(--soft);opacity:.1}
.now-whisker{stroke:var(--now);stroke-width:2;fill:none}.bad-whisker{stroke:var(--bad);stroke-width:2;fill:none}.now-dot{fill:var(--now)}.bad-dot{fill:var(--bad)}
.estimate-line{stroke:var(--estimate);stroke-width:1.2;stroke-dasharray:2 2;fill:none}.estimate{fill:var(--card);stroke:var(--estimate);stroke-width:1.6}
.good-mark{fill:var(--good)}.bad-mark{fill:var(--bad)}.neutral-mark{fill:var(--then-ink)}.good-thread,.bad-thread,.neutral-thread{stroke-width:1;opacity:.45;fill:none}
.good-thread{stroke:var(--good)}.bad-thread{stroke:var(--bad)}.neutral-thread{stroke:var(--then-ink)}.gain{fill:var(--bad)}.loss{fill:var(--now)}
table{border-collapse:collapse;width:100%;font-size:.9rem}th{text-align:left;color:var(--soft);font-weight:550;font-size:.83rem;white-space:nowrap}
th,td{padding:7px 14px 7px 0;border-bottom:1px solid var(--rule);vertical-align:top}tr:last-child td{border-bottom:0}td.n,th.n{text-align:right;white-space:nowrap}
ol.story{list-style:none;margin:14px 0 0;padding:0}ol.story li{display:grid;grid-template-columns:26px 9.6em 1fr;gap:2px 12px;padding:9px 0;border-bottom:1px solid var(--rule)}
ol.story li:last-child{border-bottom:0}.story .n{width:22px;height:22px;border-radius:50%;color:var(--on);font-size:.72rem;font-weight:650;display:grid;place-items:center;margin-top:2px}
.n.good{background:var(--good)}.n.bad{background:var(--bad)}.n.neutral{background:var(--then-ink)}.story time{color:var(--soft);font-size:.88rem;white-space:nowrap}
.story b{font-weight:620}.story .because{color:var(--soft)}details{margin-top:14px}summary{cursor:pointer;color:var(--soft)}
dl.why{display:grid;grid-template-columns:minmax(8em,max-content) 1fr;gap:6px 18px;font-size:.9rem;margin:12px 0 0}dl.why dt{font-weight:600;overflow-wrap:anywhere}dl.why dd{margin:0;color:var(--soft)}
@media (max-width:560px){ol.story li{grid-template-columns:26px 1fr}.story time{grid-column:2}.story div{grid-column:2}section{margin:34px 0}dl.why{grid-template-columns:1fr;gap:0 0}dl.why dd{margin-bottom:8px}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#ccc;--then:#ccc;--then-ink:#555;--now:#0b68ad;--bad:#b8400a;--good:#00705a;--watch:#7a5600;--estimate:#7d4bb0;--none:#ddd;--on:#fff}
body{font-size:10.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}.card,li,tr,svg{break-inside:avoid}h2{break-after:avoid}.scroll{overflow:visible}.scroll svg{min-width:0}.grid{grid-template-columns:repeat(2,1fr)}}
"""


def page(title: str, *parts: Part, foot: str) -> Markup:
    """Return the whole document; it asks for nothing from anywhere."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    body = tag("body", *parts, tag("footer", tag("p", foot, class_="note")))
    return joined(Markup("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), Markup("\n"))


def section(title: str, *parts: Part, note: str | None = None) -> Markup:
    """Return a part of the page with its heading."""
    said = tag("p", note, class_="note") if note else None
    return tag("section", tag("h2", title), said, *parts)


def pill(text: str, tone: str) -> Markup:
    """Return a word that stands out."""
    return tag("span", text, class_=f"pill {tone}")


def table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Part]]) -> Markup:
    """Return a table; a column is its name, and whether it has numbers."""
    head = [
        tag("th", name, scope="col", class_="n" if numbers else None) for name, numbers in columns
    ]
    body = [
        tag(
            "tr",
            *(
                tag("td", cell, class_="n" if numbers else None)
                for cell, (_, numbers) in zip(row, columns, strict=True)
            ),
        )
        for row in rows
    ]
    inner = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", inner, class_="scroll")


def facts(found: Sequence[tuple[str, str, str]]) -> Markup:
    """Return figures that a reader looks for first: name, value, and what it stands beside."""
    items = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", beside)))
        for name, value, beside in found
    ]
    return tag("dl", *items, class_="facts")
