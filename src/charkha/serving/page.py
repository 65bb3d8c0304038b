"""The page at `/docs`: features, routes, schemas, and a form to try the model; all from this server."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #8884; vertical-align: top; }
code, pre, textarea { font-family: monospace; } textarea { width: 100%; height: 12rem; }
pre { background: #8882; padding: .6rem; overflow: auto; } summary { cursor: pointer; padding: .3rem 0; }
"""
_TRY = """
const form = document.querySelector("form"), said = document.querySelector("#said");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "content-type": "application/json" };
  const key = document.querySelector("#key").value;
  if (key) headers["x-api-key"] = key;
  const body = document.querySelector("textarea").value;
  try {
    const answer = await fetch("/predict", { method: "POST", headers, body });
    said.textContent = answer.status + "\\n" + (await answer.text());
  } catch (error) {
    said.textContent = error;
  }
});
"""


def page(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document as charkha.serving.openapi makes it."""
    info, schemas = document["info"], document["components"]["schemas"]
    title = escape(f"{info['title']} {info['version']}")
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        f"<p>{escape(info['description'])} The same for programs:",
        ' <a href="/openapi.json">openapi.json</a>.</p>',
    ]
    if "Row" in schemas:
        parts += [_form(schemas["Row"]), "<h2>Features</h2>", _features(schemas["Row"])]
    parts += ["<h2>Routes</h2>", *_routes(document["paths"])]
    parts += ["<h2>Schemas</h2>", *(_folded(name, schema) for name, schema in schemas.items())]
    return "".join([*parts, f"<script>{_TRY}</script></html>"])


def _form(row: dict[str, Any]) -> str:
    example = escape(json.dumps(row["examples"][0], indent=2, ensure_ascii=False))
    return (
        f'<h2>Try it</h2><form><textarea spellcheck="false" aria-label="a row">{example}</textarea>'
        '<p><input id="key" placeholder="API key, if needed" autocomplete="off"> '
        '<button>Predict</button></form><pre id="said"></pre>'
    )


def _features(row: dict[str, Any]) -> str:
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(schema))}"
        f"<td>{'required' if name in row['required'] else 'may be null or left out'}"
        f"<td><code>{escape(json.dumps(row['examples'][0].get(name), ensure_ascii=False))}</code>"
        for name, schema in row["properties"].items()
    )
    return f"<table><tr><th>name<th>type<th><th>example{lines}</table>"


def _routes(paths: dict[str, Any]) -> list[str]:
    found = []
    for path, operations in paths.items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            about = escape(operation.get("description", ""))
            takes = ", ".join(operation.get("requestBody", {}).get("content", ()))
            statuses = ", ".join(operation["responses"])
            found.append(
                f"<details><summary><code>{method.upper()} {escape(path)}</code> "
                f"{escape(operation['summary'])}</summary><p>{about}</p><table>"
                + (f"<tr><td>takes<td><code>{escape(takes)}</code>" if takes else "")
                + f"<tr><td>answers<td><code>{escape(statuses)}</code></table></details>"
            )
    return found


def _folded(name: str, schema: dict[str, Any]) -> str:
    shown = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return f"<details><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>"


def _kind(schema: dict[str, Any]) -> str:
    """Return a type in words: "integer (int64)", "string (date-time or date)"."""
    choices = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    kinds = choices[0]["type"]
    kind = kinds if isinstance(kinds, str) else kinds[0]
    formats = " or ".join(part["format"] for part in choices if "format" in part)
    return f"{kind} ({formats})" if formats else str(kind)
